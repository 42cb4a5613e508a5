"""The spine on a fake host: what a job comes to, whatever fails, and whenever its worker dies."""

import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from typing_extensions import override

from models.engine import OUT_OF_REACH, Database
from models.journal.asking import Asked, request_cancel
from models.journal.claiming import NotNow
from models.reading import JobDetails
from models.records import Json
from models.states import Direction, ErrorClass, InstanceState, JobClass, JobState, StepState
from tasks.catalogue import OPERATIONS
from tasks.destroy import destroy
from tasks.host import HostError, Platform
from tasks.operation import Operation
from tasks.spawn import spawn
from tests.builders import DiskThere, find_make_fail, time_passes, watched
from tests.fake_host import FakeHost, Killed, stranger
from tests.worker.world import Listener, World, die, error_class, permanent, states, transient
from worker.hands import Hands

pytest_plugins = ["tests.builders"]

SPAWNED = ["disks.create", "domains.define", "domains.start"]
DESTROYED = ["domains.kill", "domains.undefine", "disks.remove_folder"]
WITHIN_S = 30.0
#: Steps that a look finds true, that only wait, or that are not asked for, on a host where nothing else is at work.
NEVER_DONE = {
    "ImagesCached",
    "EphemeralDisksCreated",
    "ConfigDriveWritten",
    "EarlierWorkEnded",
    "VolumesConnected",
    "InterfacesPlugged",
    "VolumesDisconnected",
    "InterfacesUnplugged",
    "OtherHalfRemoved",
}


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A journal and a host on which nothing has happened."""
    return World(sqlite_journal, fake)


# --- jobs that go well


def test_a_spawn_makes_an_instance_run(world: World) -> None:
    """The domain runs on a disk of its own; the inventory has both; each effect was made once."""
    details = world.run("a")
    assert (details.job.state, details.job.error) == (JobState.SUCCEEDED, None)
    assert world.effects == SPAWNED
    assert (world.known.state, [device.key for device in world.known.devices]) == (InstanceState.RUNNING, ["root"])
    assert states(details) == {
        "ImagesCached": StepState.SKIPPED,
        "RootDiskCreated": StepState.DONE,
        "EphemeralDisksCreated": StepState.SKIPPED,
        "ConfigDriveWritten": StepState.SKIPPED,
        "VolumesConnected": StepState.SKIPPED,
        "InterfacesPlugged": StepState.SKIPPED,
        "DomainDefined": StepState.DONE,
        "DomainRunning": StepState.DONE,
    }


def test_a_spawn_tells_what_is_not_as_it_should_be(world: World) -> None:
    """In its result, which is otherwise that of any other; also when another worker has ended it."""
    world.fake.domains.warning = "guests are emulated"
    world.fake.fail("domains.start", Killed())
    with pytest.raises(Killed):
        world.run("a")
    details = world.run("a", worker=world.worker())
    assert details.job.state is JobState.SUCCEEDED
    assert details.job.outcome is not None
    assert details.job.outcome["warnings"] == ["guests are emulated"]


def test_what_a_guest_runs_on_is_fixed_before_it_is_defined(world: World) -> None:
    """In the intent: whoever defines it later, on another QEMU, defines the same machine."""
    details = world.run("a")
    (defined,) = [step for step in details.steps if step.name == "DomainDefined"]
    platform = {"virt_type": "qemu", "machine_type": "pc-q35-7.2", "warning": None}
    assert defined.intent == {"platform": platform, "disk_cachemode": "none"}
    assert world.fake.domains.guests[world.instance].platform == Platform("qemu", "pc-q35-7.2")


def test_a_destroy_leaves_nothing(world: World) -> None:
    """Neither on the host nor in the inventory."""
    world.run("a")
    details = world.run("d", "destroy")
    assert details.job.state is JobState.SUCCEEDED
    assert world.effects == SPAWNED + DESTROYED
    assert world.leftovers == ()
    assert (world.known.state, world.known.devices) == (InstanceState.DELETED, ())


def test_a_destroy_of_nothing_succeeds(world: World) -> None:
    """What is asked for is true already: every step is found."""
    details = world.run("d", "destroy")
    assert details.job.state is JobState.SUCCEEDED
    assert set(states(details).values()) == {StepState.FOUND, StepState.SKIPPED}
    assert world.effects == []


def test_a_settled_job_that_is_rung_again_changes_nothing(world: World) -> None:
    """Neither on the host nor in the journal."""
    before = world.run("a")
    assert isinstance(world.take("a"), NotNow)
    assert world.details("a") == before
    assert world.effects == SPAWNED


def test_a_job_in_hand_is_not_taken_by_a_second_thread(world: World) -> None:
    """A worker never claims what one of its own threads still runs."""
    hands = Hands({JobClass.SPAWN: 4, JobClass.DESTROY: 4})
    world.submit("a")
    with hands.grasp("a", world.instance, JobClass.SPAWN):
        assert isinstance(world.take("a", world.worker(hands=hands)), NotNow)
    assert world.details("a").job.epoch == 0


# --- found and made


def test_what_was_found_is_not_undone(world: World) -> None:
    """Of a job that found one disk, made another and failed for good, only the one it made is gone."""
    path = world.fake.disks.path_for(world.instance, "found", "qcow2")
    world.fake.disks.create(world.instance, path, size_bytes=1024**2, backing=None, epoch=0)
    details = world.run("a", "find_make_fail", world.worker(find_make_fail))
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert states(details) == {
        "DiskThere:found": StepState.FOUND,
        "DiskThere:made": StepState.DONE,
        "NoSuchFileRead": StepState.INTENDED,
    }
    assert list(states(details, Direction.UNDO)) == ["NoSuchFileRead", "DiskThere:made"]
    assert world.leftovers == ("folder", "found.qcow2")
    assert [device.key for device in world.known.devices] == ["found"]


def test_what_was_made_by_a_killed_worker_is_undone(world: World) -> None:
    """The next worker finds it there and knows by the intent that this job made it."""
    listener = Listener(("did", "DiskThere:found"), die)
    deadly = watched(find_make_fail, listener)
    world.submit("a", "find_make_fail")
    with pytest.raises(Killed):
        world.take("a", world.worker(deadly))
    details = world.take_until_settled("a", find_make_fail)
    assert details.job.state is JobState.FAILED
    assert states(details)["DiskThere:found"] is StepState.DONE
    assert world.leftovers == ()


@pytest.mark.parametrize(
    "lost", [transient(), HostError(ErrorClass.UNKNOWN, "no answer")], ids=["transient", "unknown"]
)
def test_what_was_made_without_an_answer_is_undone(world: World, lost: HostError) -> None:
    """The call failed after its effect; the look that follows sees what this job made, not what it found."""
    world.fake.fail("disks.create", lost, after=True)
    details = world.run("a", "find_make_fail", world.worker(find_make_fail))
    assert details.job.state is JobState.FAILED
    assert states(details)["DiskThere:found"] is StepState.DONE
    assert world.leftovers == ()


def test_a_domain_of_a_stranger_is_a_conflict(world: World) -> None:
    """Nothing of it is touched, and what the job made before is gone."""
    world.fake.domains.appears(world.instance, stranger())
    details = world.run("a")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.CONFLICT)
    assert world.fake.domains.find(world.instance) == stranger()
    assert world.leftovers == ("domain",)
    assert world.effects == ["disks.create", "disks.remove"]


def test_a_domain_of_a_stranger_is_not_destroyed(world: World) -> None:
    """Even if a job names its UUID."""
    world.fake.domains.appears(world.instance, stranger())
    details = world.run("d", "destroy")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.CONFLICT)
    assert world.fake.domains.find(world.instance) == stranger()
    assert world.effects == []


def test_a_second_spawn_of_an_instance_is_a_conflict(world: World) -> None:
    """The first one's domain, disk and devices stay as they are."""
    world.run("a")
    before = world.known
    details = world.run("b")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.CONFLICT)
    assert world.effects == SPAWNED
    assert replace(world.known, epoch=before.epoch) == before


def test_a_domain_that_appears_before_the_effect_is_not_touched(world: World) -> None:
    """Between look and effect somebody else was quicker: the undo looks first and leaves it alone."""
    listener = Listener(("do", "DomainDefined"), lambda: world.fake.domains.appears(world.instance, stranger()))
    details = world.run("a", worker=world.worker(watched(spawn, listener)))
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.CONFLICT)
    assert world.fake.domains.find(world.instance) == stranger()


def test_a_disk_that_appears_before_the_effect_is_not_removed(world: World) -> None:
    """The port refused to write the file because it was not ours; then it is not ours to remove either."""
    path = world.fake.disks.path_for(world.instance, "root", "qcow2")
    listener = Listener(
        ("do", "RootDiskCreated"),
        lambda: world.fake.disks.create(world.instance, path, size_bytes=1024**2, backing=None, epoch=0),
    )
    details = world.run("a", worker=world.worker(watched(spawn, listener)))
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.CONFLICT)
    assert world.fake.disks.find(world.instance, path) is not None


# --- errors


def test_undo_goes_in_reverse(world: World) -> None:
    """Every step with an intent, the failing one included, the last one first."""
    listener = Listener()
    world.fake.fail("domains.wait_running", permanent())
    details = world.run("a", worker=world.worker(watched(spawn, listener)))
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert listener.steps("undid") == ["DomainRunning", "DomainDefined", "RootDiskCreated"]
    assert world.leftovers == ()
    assert (world.known.state, world.known.devices) == (InstanceState.ABSENT, ())


def test_an_undo_that_fails_quarantines_the_job(world: World) -> None:
    """Its lock is kept: the next job of the instance waits until an operator has decided."""
    world.fake.fail("domains.start", permanent())
    world.fake.fail("domains.undefine", permanent("it cannot be undefined"))
    details = world.run("a")
    assert details.job.state is JobState.QUARANTINED
    assert details.job.error is not None
    assert details.job.error.message == "it cannot be undefined"
    world.submit("b")
    refused = world.take("b")
    assert refused is not None
    assert "comes first (quarantined)" in refused.why


def test_an_undo_with_a_defect_quarantines_the_job(world: World) -> None:
    """What cannot be told undone is an operator's."""
    world.fake.fail("domains.start", permanent())
    world.fake.fail("domains.undefine", ZeroDivisionError("a defect"))
    details = world.run("a")
    assert (details.job.state, error_class(details)) == (JobState.QUARANTINED, ErrorClass.INTERNAL)


def test_an_undo_that_meets_an_error_that_passes_waits_and_goes_on(world: World) -> None:
    """The job fails with the error that turned it round, and leaves nothing."""
    world.fake.fail("domains.start", permanent())
    world.fake.fail("domains.undefine", transient(), times=5)
    details = world.run("a")
    assert details.job.state is JobState.WAITING
    details = world.take_until_settled("a")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert world.leftovers == ()


@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("method", ["disks.create", "domains.define", "domains.start", "domains.find"])
def test_an_error_that_passes_is_retried_within_the_step(world: World, method: str, *, after: bool) -> None:
    """A few failures of any call are not seen outside of the step, and nothing is made twice."""
    world.fake.fail(method, transient(), times=3, after=after)
    details = world.run("a")
    assert details.job.state is JobState.SUCCEEDED
    assert world.effects == SPAWNED
    assert [event.type for event in details.events] == ["submitted", "claimed", "succeeded"]
    assert {state for name, state in states(details).items() if name not in NEVER_DONE} == {StepState.DONE}


def test_an_error_that_lasts_makes_the_job_wait(world: World) -> None:
    """Its slot is free, its time is set, and once the host is back it succeeds with each effect made once."""
    world.fake.fail("domains.define", transient(), times=5)
    details = world.run("a")
    assert (details.job.state, details.job.waits) == (JobState.WAITING, 1)
    assert details.job.not_before is not None
    assert error_class(details) is ErrorClass.TRANSIENT
    too_early = world.take("a")
    assert too_early is not None
    assert "waits until" in too_early.why
    details = world.take_until_settled("a")
    assert (details.job.state, details.job.error) == (JobState.SUCCEEDED, None)
    assert world.effects == SPAWNED


def test_a_job_that_does_not_get_on_waits_longer_each_time(world: World) -> None:
    """The waits double while the same step keeps failing, and begin anew once a step got on."""
    world.fake.fail("domains.define", transient(), times=15)
    world.submit("a")
    waits = []
    for _ in range(3):
        world.take("a")
        waits.append(_waited_s(world.details("a")))
        time_passes(world.database, "a")
    assert [round(seconds) // 2 for seconds in waits] in (
        [1, 2, 4],
        [1, 2, 3],
        [0, 2, 4],
        [0, 1, 3],
        [1, 1, 3],
        [1, 1, 4],
    )
    world.fake.fail("domains.start", transient(), times=5)
    world.take("a")
    assert _waited_s(world.details("a")) < 3


def _waited_s(details: JobDetails) -> float:
    """How long the job's latest wait is."""
    waiting = details.events[-1]
    assert waiting.type == "waiting"
    assert details.job.not_before is not None
    return (details.job.not_before - waiting.at).total_seconds()


def test_an_unknown_outcome_is_looked_at_before_it_is_done_again(world: World) -> None:
    """The effect had been made: the look sees it, and nothing is asked for a second time."""
    for method in ("disks.create", "domains.define", "domains.start"):
        world.fake.fail(method, HostError(ErrorClass.UNKNOWN, "no answer"), after=True)
    details = world.run("a")
    assert details.job.state is JobState.SUCCEEDED
    assert world.effects == SPAWNED
    assert [world.fake.calls[method] for method in SPAWNED] == [1, 1, 1]
    assert world.fake.unspent() == ()


def test_a_plan_is_made_once(world: World) -> None:
    """What a step fixed before its effect stays fixed when the effect is tried again."""
    plans: Counter[str] = Counter()

    class Planning(DiskThere):
        """A disk whose plan is never twice the same."""

        @override
        def plan(self, work: Any, host: Any) -> Json:
            """Counts."""
            plans[self.name] += 1
            return dict(super().plan(work, host)) | {"number": plans[self.name]}

    operation: Operation[Any] = replace(find_make_fail, steps=(Planning("made"),))
    world.fake.fail("disks.create", transient(), times=7)
    world.submit("a", "find_make_fail")
    details = world.take_until_settled("a", operation)
    assert details.job.state is JobState.SUCCEEDED
    assert plans == {"DiskThere:made": 1}
    assert details.steps[0].intent is not None
    assert details.steps[0].intent["number"] == 1


def test_a_permanent_error_past_the_point_of_no_return_quarantines(world: World) -> None:
    """A destroy that has killed its domain only goes forward, or asks."""
    world.run("a")
    world.fake.fail("domains.undefine", permanent())
    details = world.run("d", "destroy")
    assert (details.job.state, details.job.past_return) == (JobState.QUARANTINED, True)
    assert states(details, Direction.UNDO) == {}


@pytest.mark.parametrize(
    "error", [transient(), HostError(ErrorClass.RESOURCE, "no space")], ids=["transient", "resource"]
)
def test_an_error_that_passes_waits_past_the_point_of_no_return(world: World, error: HostError) -> None:
    """Even a lack of something is waited for there."""
    world.run("a")
    world.fake.fail("domains.undefine", error, times=5)
    assert world.run("d", "destroy").job.state is JobState.WAITING
    assert world.take_until_settled("d").job.state is JobState.SUCCEEDED
    assert world.leftovers == ()


def test_every_intent_after_the_point_of_no_return_is_past_it(world: World) -> None:
    """The kill was not needed, for the guest had shut off; what comes after it cannot be undone all the same."""
    world.run("a")
    world.fake.domains.kill(world.instance)
    world.fake.fail("disks.remove_folder", HostError(ErrorClass.PERMANENT, "immutable"))
    details = world.run("d", "destroy")
    assert details.job.state is JobState.QUARANTINED
    assert states(details, Direction.UNDO) == {}
    assert world.run("again", "destroy").job.state is JobState.SUCCEEDED
    assert world.leftovers == ()


def test_a_cancel_during_the_last_step_is_not_overlooked(world: World) -> None:
    """The guest runs by then; it is taken back all the same."""
    listener = Listener(
        ("did", "DomainRunning"),
        lambda: request_cancel(world.database, "a", Asked("test"), outbox=False),
    )
    world.submit("a")
    assert world.take("a", world.worker(watched(OPERATIONS["spawn"], listener))) is None
    assert world.details("a").job.state is JobState.CANCELLED
    assert world.leftovers == ()


def test_a_lack_of_resources_fails_the_job(world: World) -> None:
    """It was tried for a while; then all is undone, and the sender may ask another host."""
    world.fake.fail("domains.start", HostError(ErrorClass.RESOURCE, "no memory"), times=5)
    details = world.run("a")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.RESOURCE)
    assert world.leftovers == ()
    assert world.fake.calls["domains.start"] == 5


@pytest.mark.parametrize("method", ["disks.create", "domains.define", "domains.start"])
@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
def test_a_defect_in_a_step_fails_the_job(world: World, method: str, *, after: bool) -> None:
    """It is undone like any failure, not tried again, and named a defect."""
    world.fake.fail(method, ZeroDivisionError("a defect"), after=after)
    details = world.run("a")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.INTERNAL)
    assert details.job.error is not None
    assert details.job.error.message == "ZeroDivisionError: a defect"
    assert world.fake.calls[method] == 1
    assert world.leftovers == ()


# --- cancelling


@pytest.mark.parametrize("step", [step.name for step in spawn.steps if step.name not in NEVER_DONE][:-1])
def test_a_cancel_between_steps_undoes_the_job(world: World, step: str) -> None:
    """It is noticed before the next effect, and the job settles cancelled with nothing left."""

    def ask() -> None:
        assert request_cancel(world.database, "a", Asked("ops"), outbox=False).taken

    listener = Listener(("did", step), ask)
    details = world.run("a", worker=world.worker(watched(spawn, listener)))
    assert (details.job.state, details.job.error) == (JobState.CANCELLED, None)
    assert listener.steps("do")[-1] == step
    assert world.leftovers == ()
    assert world.known.state is InstanceState.ABSENT


def test_a_waiting_job_that_is_cancelled_is_undone_at_once(world: World) -> None:
    """It does not wait its time first."""
    world.fake.fail("domains.define", transient(), times=5)
    world.run("a")
    assert request_cancel(world.database, "a", Asked("ops"), outbox=False).taken
    assert world.take("a") is None
    assert world.details("a").job.state is JobState.CANCELLED
    assert world.leftovers == ()


# --- workers that die


def _deaths(operation: Operation[Any], moments: tuple[str, ...]) -> list[Any]:
    return [
        pytest.param(operation.name, step.name, moment, id=f"{operation.name}-{step.name}-{moment}")
        for step in operation.steps
        if step.name not in operation.at_peer
        for moment in moments
        if moment == "look" or step.name not in NEVER_DONE
    ]


def _prepared(world: World, operation: str) -> list[str]:
    """Make what the operation needs; the effects that it will have."""
    if operation == "spawn":
        return SPAWNED
    world.run("before")
    world.fake.effects.clear()
    return DESTROYED


@pytest.mark.parametrize(
    ("operation", "step", "moment"),
    [death for operation in (spawn, destroy) for death in _deaths(operation, ("look", "do", "did"))],
)
def test_a_killed_worker_makes_no_difference(world: World, operation: str, step: str, moment: str) -> None:
    """Before the look, between intent and effect, between effect and done: the next worker comes to the same end."""
    expected = _prepared(world, operation)
    listener = Listener((moment, step), die)
    world.submit("a", operation)
    with pytest.raises(Killed):
        world.take("a", world.worker(watched(OPERATIONS[operation], listener)))
    assert world.details("a").job.state is JobState.RUNNING
    assert world.take("a") is None
    details = world.details("a")
    assert (details.job.state, details.job.epoch) == (JobState.SUCCEEDED, world.known.epoch)
    assert world.effects == expected
    assert {state for name, state in states(details).items() if name not in NEVER_DONE} == {StepState.DONE}
    assert world.leftovers == (() if operation == "destroy" else ("domain", "folder", "console.log", "root.qcow2"))


@pytest.mark.parametrize(("operation", "method"), [("spawn", "disks.create"), ("destroy", "disks.remove_folder")])
def test_a_worker_killed_half_way_through_an_effect_makes_no_difference(
    world: World, operation: str, method: str
) -> None:
    """The half is finished or swept away, and not counted as the whole."""
    expected = _prepared(world, operation)
    world.submit("a", operation)
    world.fake.fail(method, Killed(), halfway=True)
    with pytest.raises(Killed):
        world.take("a")
    assert world.take("a") is None
    assert world.details("a").job.state is JobState.SUCCEEDED
    assert world.effects == expected
    assert not [left for left in world.leftovers if left.endswith(".part")]


@pytest.mark.parametrize(("operation", "step", "moment"), _deaths(spawn, ("undo", "undid")))
def test_a_worker_killed_while_undoing_makes_no_difference(
    world: World, operation: str, step: str, moment: str
) -> None:
    """The next worker goes on undoing where the journal says."""
    world.fake.fail("domains.wait_running", permanent())
    listener = Listener((moment, step), die)
    world.submit("a", operation)
    with pytest.raises(Killed):
        world.take("a", world.worker(watched(spawn, listener)))
    assert world.take("a") is None
    details = world.details("a")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert world.leftovers == ()
    assert max(Counter(world.effects).values()) == 1


@pytest.mark.parametrize("moment", ["look", "do", "did"])
def test_a_worker_killed_again_and_again_makes_no_difference(world: World, moment: str) -> None:
    """One worker dies at each step in turn; the last one finishes."""
    world.submit("a")
    for step in spawn.steps:
        if moment != "look" and step.name in NEVER_DONE:
            continue
        with pytest.raises(Killed):
            world.take("a", world.worker(watched(spawn, Listener((moment, step.name), die))))
    assert world.take("a") is None
    assert world.details("a").job.state is JobState.SUCCEEDED
    assert world.effects == SPAWNED


# --- what this revision does not know


def _quarantined_with(world: World, message: str) -> None:
    details = world.details("a")
    assert details.job.state is JobState.QUARANTINED
    assert details.job.error is not None
    assert message in details.job.error.message


def test_a_step_that_this_revision_does_not_know_quarantines(world: World) -> None:
    """Resuming goes by name; what has no name here is an operator's."""
    world.submit("a")
    with pytest.raises(Killed):
        world.take("a", world.worker(watched(spawn, Listener(("look", "DomainDefined"), die))))
    shorter = replace(spawn, steps=tuple(step for step in spawn.steps if step.name != "DomainRunning"))
    world.take("a", world.worker(shorter))
    _quarantined_with(world, "this worker knows no step DomainRunning of spawn")


def test_an_operation_that_this_revision_does_not_know_quarantines(world: World) -> None:
    """A job that a newer revision accepted is not lost, and not run."""
    world.submit("a", "transmogrify")
    world.take("a")
    _quarantined_with(world, "this worker knows no operation transmogrify")


def test_a_request_that_this_revision_cannot_read_quarantines(world: World) -> None:
    """It was accepted, so it is not refused any more."""
    world.submit("a", request={"name": "vm", "memory_mib": 64, "disk_gib": 1, "colour": "blue"})
    world.take("a")
    _quarantined_with(world, "colour")
    assert world.effects == []


def test_a_journal_out_of_reach_leaves_the_job_to_the_next_claim(world: World) -> None:
    """Nothing is undone because of it; the job stays running until it is taken over."""

    def lose_the_journal() -> None:
        with world.database.write() as connection:
            connection.execute(text("ALTER TABLE step_attempts RENAME TO away"))

    world.submit("a")
    with pytest.raises(OUT_OF_REACH):
        world.take("a", world.worker(watched(spawn, Listener(("did", "RootDiskCreated"), lose_the_journal))))
    assert world.details("a").job.state is JobState.RUNNING
    with world.database.write() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO step_attempts"))
    assert world.take("a") is None
    assert world.details("a").job.state is JobState.SUCCEEDED
    assert world.effects == SPAWNED


# --- overtaken


def test_a_superseded_run_stops_without_undo_and_the_destroy_waits_for_it(world: World) -> None:
    """The spawn's call returns late; it writes and undoes nothing, and only then does the destroy go on."""
    defined, waiting = threading.Event(), threading.Event()

    def linger() -> None:
        defined.set()
        assert waiting.wait(WITHIN_S)

    spawning = Listener(("did", "DomainDefined"), linger)
    destroying = Listener(("do", "EarlierWorkEnded"), waiting.set)
    hands = Hands({JobClass.SPAWN: 1, JobClass.DESTROY: 1})
    worker = world.worker(watched(spawn, spawning), watched(destroy, destroying), hands=hands)
    world.submit("a")
    world.submit("d", "destroy")
    thread = threading.Thread(target=world.take, args=("a", worker))
    thread.start()
    assert defined.wait(WITHIN_S)
    assert world.take("d", worker) is None
    thread.join(WITHIN_S)
    superseded = world.details("a")
    assert superseded.job.state is JobState.CANCELLED
    assert superseded.job.outcome is not None
    assert superseded.job.outcome["superseded_by"] == "d"
    assert spawning.steps("undo") == []
    assert "DomainRunning" not in spawning.steps("do")
    assert destroying.steps("did").index("EarlierWorkEnded") == 0
    assert world.details("d").job.state is JobState.SUCCEEDED
    assert world.leftovers == ()


def test_a_run_that_was_taken_over_does_nothing_more(world: World) -> None:
    """A worker that slept through its lease wakes up, is told so, and leaves all to the one that has the job now."""
    sleeper = Listener(("did", "RootDiskCreated"), lambda: world.take("a"))
    world.submit("a")
    world.take("a", world.worker(watched(spawn, sleeper)))
    details = world.details("a")
    assert (details.job.state, details.job.epoch) == (JobState.SUCCEEDED, 2)
    assert sleeper.steps("undo") == []
    assert world.effects == SPAWNED


def test_what_a_superseded_job_came_to_is_told(world: World) -> None:
    """Whoever waits for it hears of it from the worker that superseded it."""
    world.submit("a")
    worker = world.worker()
    world.run("d", "destroy", worker)
    assert worker.announcer.told == ["a", "d"]  # type: ignore[attr-defined]
