"""Destroy on a fake host, whatever its calls are answered with, and whatever another job of the instance is doing."""

import errno
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest

from models.engine import Database
from models.records import Json
from models.states import ErrorClass, InstanceState, JobClass, JobState, StepState
from tasks.destroy import destroy
from tasks.host import DomainState, HostError
from tasks.spawn import spawn
from tasks.steps import ending
from tests.builders import time_passes, watched
from tests.fake_host import FakeHost, FakeImage, Killed
from tests.worker.world import REQUESTS, Listener, World, die, permanent, transient
from worker.hands import Hands
from worker.retrying import Patience
from worker.run import Runner

pytest_plugins = ["tests.builders"]

WITHIN_S = 20.0
ATTEMPTS = Patience().attempts
#: A guest with something to do at every step of its spawn.
GUEST: Json = {
    **REQUESTS["spawn"],
    "image": {"url": "file:///fake/images/base"},
    "swap_mib": 64,
    "ssh_keys": ["ssh-ed25519 AAAA somebody"],
    "volumes": [
        {"id": "v1", "kind": "nbd", "host": "storage", "port": 10809, "export": "1"},
        {"id": "v2", "kind": "nbd", "host": "storage", "port": 10809, "export": "2"},
    ],
    "interfaces": [REQUESTS["attach_interface"]["interface"]],
}
STEPS = [step.name for step in spawn.steps]


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost, monkeypatch: pytest.MonkeyPatch) -> World:
    """A journal, and a host that has all that the guest needs."""
    monkeypatch.setattr(ending, "EARLIER_WORK_ROUND_S", 0.02)
    fake.images.put("base", FakeImage("qcow2", 1024**3))
    fake.volumes.servers["storage:10809"] = True
    fake.volumes.sessions |= {"v1": False, "v2": False}
    return World(sqlite_journal, fake)


@pytest.fixture
def spawned(world: World) -> World:
    """The guest runs."""
    world.submit("a", "spawn", GUEST)
    assert world.take("a") is None
    assert world.details("a").job.state is JobState.SUCCEEDED
    world.fake.effects.clear()
    return world


def nothing_is_left(world: World) -> bool:
    """On the host and in the inventory."""
    known = world.known
    held = any(world.fake.volumes.sessions.values())
    return (world.leftovers, known.devices, held, known.state in {InstanceState.DELETED, InstanceState.ABSENT}) == (
        (),
        (),
        False,
        True,
    )


def destroyed(world: World, request: Json | None = None) -> list[str]:
    """The effects of a destroy, which succeeds and leaves nothing."""
    world.submit("d", "destroy", request)
    assert world.take_until_settled("d").job.state is JobState.SUCCEEDED
    assert nothing_is_left(world)
    return world.effects


# --- asked first


def test_a_guest_is_asked_first_where_the_request_gives_it_time(spawned: World) -> None:
    """One that shuts down is not killed."""
    effects = destroyed(spawned, {"timeout_s": 60})
    assert spawned.fake.power.asked == [spawned.instance]
    assert (effects[0], "domains.kill" in effects) == ("power.shut_down", False)


def test_a_guest_that_does_not_shut_down_is_killed_at_the_deadline(spawned: World) -> None:
    """And with it goes everything."""
    spawned.fake.power.deaf.add(spawned.instance)
    effects = destroyed(spawned, {"timeout_s": 1})
    assert spawned.fake.power.asked == [spawned.instance]
    assert effects[0] == "domains.kill"


@pytest.mark.parametrize(
    ("request_", "state"),
    [({}, DomainState.RUNNING), ({"timeout_s": 60}, DomainState.PAUSED)],
    ids=["unasked", "paused"],
)
def test_a_guest_that_has_no_time_or_cannot_hear_is_killed_at_once(
    spawned: World, request_: Json, state: DomainState
) -> None:
    """By default nobody waits for it."""
    spawned.fake.domains.is_now(spawned.instance, state, "user")
    assert destroyed(spawned, request_)[0] == "domains.kill"
    assert spawned.fake.power.asked == []


def test_a_guest_that_cannot_be_asked_keeps_the_job_waiting_no_longer_than_any_error(spawned: World) -> None:
    """Whatever the asking meets, the guest goes."""
    spawned.fake.fail("power.shut_down", transient(), times=2)
    assert destroyed(spawned, {"timeout_s": 60})[0] == "power.shut_down"


# --- what a kill is answered with


def answered(code: str, error_class: ErrorClass, errno_: int | None = None) -> HostError:
    """Libvirt's answer to a kill, as its room tells it."""
    message = f"libvirt could not kill the domain: {code}"
    return HostError(error_class, message, code=code, domain="QEMU", errno=errno_)


@pytest.mark.parametrize(
    "answer",
    [
        answered("SYSTEM_ERROR", ErrorClass.TRANSIENT, errno.EBUSY),
        answered("OPERATION_TIMEOUT", ErrorClass.TRANSIENT),
        answered("INTERNAL_ERROR", ErrorClass.UNKNOWN),
    ],
    ids=["EBUSY", "OPERATION_TIMEOUT", "INTERNAL_ERROR"],
)
def test_a_process_that_does_not_end_is_killed_so_often_and_then_the_job_waits(
    spawned: World, answer: HostError
) -> None:
    """The tries are bounded and counted; the job says what it met, its instance stays locked, and later it goes on."""
    spawned.fake.fail("domains.kill", answer, times=ATTEMPTS)
    job = spawned.run("d", "destroy").job
    assert (job.state, job.error and job.error.errno) == (JobState.WAITING, answer.record.errno)
    assert job.error is not None
    assert job.error.sentence == (
        f"destroy of instance {spawned.instance} on host h1 waits at DomainStopped: {answer.record.message}; "
        "it is tried again by itself; hostler doctor, on h1, tells what is wrong there"
    )
    assert spawned.fake.calls["domains.kill"] == ATTEMPTS
    [step] = [each for each in spawned.details("d").steps if each.name == "DomainStopped"]
    assert (step.state, step.attempts, step.error) == (StepState.INTENDED, ATTEMPTS, answer.record)
    spawned.submit("later", "start")
    assert "comes first" in spawned.take("later").why  # type: ignore[union-attr]
    time_passes(spawned.database, "d")
    assert spawned.take("d") is None
    assert spawned.details("d").job.state is JobState.SUCCEEDED
    assert nothing_is_left(spawned)


@pytest.mark.parametrize("code", ["INTERNAL_ERROR", "SYSTEM_ERROR"])
def test_a_kill_whose_answer_tells_nothing_is_looked_behind_and_not_repeated(spawned: World, code: str) -> None:
    """The process is gone: one kill."""
    spawned.fake.fail("domains.kill", answered(code, ErrorClass.UNKNOWN), after=True)
    assert destroyed(spawned).count("domains.kill") == 1


def test_a_kill_that_is_refused_for_good_is_an_operators(spawned: World) -> None:
    """There is no way back, and no way on."""
    refused = answered("OPERATION_DENIED", ErrorClass.PERMANENT)
    spawned.fake.fail("domains.kill", refused)
    job = spawned.run("d", "destroy").job
    assert (job.state, job.error and job.error.message) == (JobState.QUARANTINED, refused.record.message)


def test_a_guest_that_is_started_again_after_it_was_killed_is_killed_again(spawned: World) -> None:
    """Its definition does not go while it runs, and it does not run on without one."""

    def somebody_starts_it() -> None:
        spawned.fake.domains.is_now(spawned.instance, DomainState.RUNNING, "booted")

    spawned.submit("d", "destroy")
    assert (
        spawned.take("d", spawned.worker(watched(destroy, Listener(("did", "DomainStopped"), somebody_starts_it))))
        is None
    )
    assert spawned.details("d").job.state is JobState.SUCCEEDED
    assert spawned.effects[:3] == ["domains.kill", "domains.kill", "domains.undefine"]
    assert nothing_is_left(spawned)


# --- what is cleared after it


def test_a_volume_that_cannot_be_let_go_keeps_no_other_and_no_domain(spawned: World) -> None:
    """The guest is gone for good by then; the job waits for the one, and says so."""
    spawned.fake.fail("volumes.disconnect", transient("the storage is busy"), times=2 * ATTEMPTS - 1)
    job = spawned.run("d", "destroy").job
    assert job.state is JobState.WAITING
    assert spawned.fake.domains.find(spawned.instance) is None
    assert spawned.effects.count("volumes.disconnect") == 1
    time_passes(spawned.database, "d")
    assert spawned.take("d") is None
    assert nothing_is_left(spawned)


def test_files_that_cannot_be_removed_are_tried_again_and_the_tries_are_counted(spawned: World) -> None:
    """Renamed by the first try, which a replay finishes; until then the instance is not gone."""
    spawned.fake.fail("disks.remove_folder", transient("device busy"), times=ATTEMPTS, halfway=True)
    assert spawned.run("d", "destroy").job.state is JobState.WAITING
    assert spawned.leftovers == ("removing",)
    assert spawned.known.state is InstanceState.STOPPED
    time_passes(spawned.database, "d")
    assert spawned.take("d") is None
    [step] = [each for each in spawned.details("d").steps if each.name == "FilesRemoved"]
    assert (step.state, step.attempts) == (StepState.DONE, ATTEMPTS + 1)
    assert nothing_is_left(spawned)


# --- whatever an earlier job of the instance is doing


class Busy:
    """A spawn in a thread of a worker, which stops at one of its moments until the destroy waits for it."""

    def __init__(self, world: World, moment: str, step: str, then: Callable[[], object] = lambda: None) -> None:
        self.world = world
        self.there = threading.Event()
        self.awaited = threading.Event()
        self._then = then
        self.heard = Listener((moment, step), self._stop)
        destroying = Listener(("do", "EarlierWorkEnded"), self.awaited.set)
        hands = Hands({JobClass.SPAWN: 1, JobClass.DESTROY: 1})
        self.worker: Runner = world.worker(watched(spawn, self.heard), watched(destroy, destroying), hands=hands)
        world.submit("a", "spawn", GUEST)
        self._thread = threading.Thread(target=world.take, args=("a", self.worker), daemon=True)

    def _stop(self) -> None:
        self.there.set()
        assert self.awaited.wait(WITHIN_S)
        self._then()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self.there.wait(WITHIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.awaited.set()
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()


def gone(world: World, worker: Runner | None = None) -> None:
    """A destroy takes the instance over: it leaves nothing, and the spawn is cancelled and says why."""
    before = world.details("a").job.state
    world.submit("d", "destroy")
    assert world.take("d", worker) is None
    assert world.details("d").job.state is JobState.SUCCEEDED, world.details("d").job.error
    assert nothing_is_left(world)
    superseded = world.details("a").job
    assert superseded.state is JobState.CANCELLED, f"it was {before}"
    assert superseded.outcome is not None
    assert superseded.outcome["superseded_by"] == "d"


def steps_with(moments: tuple[str, ...]) -> list[Any]:
    """Each step of a spawn, at each of these moments."""
    return [pytest.param(moment, step, id=f"{step}-{moment}") for step in STEPS for moment in moments]


@pytest.mark.parametrize(("moment", "step"), steps_with(("look", "do", "did")))
def test_a_destroy_of_a_spawn_that_is_running(world: World, moment: str, step: str) -> None:
    """It is waited for; it does what it had in hand, and no step after that; nobody undoes it but the destroy."""
    with Busy(world, moment, step) as busy:
        gone(world, busy.worker)
    assert busy.heard.steps("undo") == []
    assert set(busy.heard.steps("do")) <= set(STEPS[: STEPS.index(step) + 1])


@pytest.mark.parametrize(("moment", "step"), steps_with(("undo",)))
def test_a_destroy_of_a_spawn_that_is_undoing(world: World, moment: str, step: str) -> None:
    """What it has undone is gone already, and the rest goes with the destroy."""
    world.fake.fail("domains.wait_running", permanent())
    with Busy(world, moment, step) as busy:
        gone(world, busy.worker)
    assert world.details("a").job.outcome["error"]["message"] == "it will never work"  # type: ignore[index]


@pytest.mark.parametrize(("moment", "step"), steps_with(("do", "did")))
def test_a_destroy_of_a_spawn_whose_worker_died(world: World, moment: str, step: str) -> None:
    """Nobody takes it up any more."""
    world.submit("a", "spawn", GUEST)
    with pytest.raises(Killed):
        world.take("a", world.worker(watched(spawn, Listener((moment, step), die))))
    gone(world)


@pytest.mark.parametrize(("moment", "step"), steps_with(("look", "do")))
def test_a_destroy_of_a_spawn_that_is_waiting(world: World, moment: str, step: str) -> None:
    """It is not waited for, however long it meant to wait."""
    world.submit("a", "spawn", GUEST)
    world.take("a", world.worker(watched(spawn, Failing(moment, step, transient()))))
    assert world.details("a").job.state is JobState.WAITING
    gone(world)


@pytest.mark.parametrize("step", STEPS)
def test_a_destroy_of_a_spawn_that_is_quarantined(world: World, step: str) -> None:
    """What could not be undone is removed."""
    world.submit("a", "spawn", GUEST)
    world.fake.fail("domains.wait_running", permanent())
    world.take("a", world.worker(watched(spawn, Failing("undo", step, permanent()))))
    assert world.details("a").job.state is JobState.QUARANTINED
    gone(world)


class Failing(Listener):
    """From that moment of that step on, whatever is asked of the step fails."""

    def __init__(self, moment: str, step: str, error: HostError) -> None:
        super().__init__((moment, step))
        self._error = error
        self._failing = False

    def __call__(self, moment: str, step: str) -> None:
        """A step tells of a moment."""
        super().__call__(moment, step)
        self._failing |= (moment, step) == self.at
        if self._failing and self.at is not None and step == self.at[1]:
            raise self._error


# --- calls that hang


def until(world: World, happened: Callable[[], bool], error: HostError) -> None:
    """A call that hangs until then, and fails with that."""
    with world.fake.world.changed:
        assert world.fake.world.changed.wait_for(happened, WITHIN_S)
    raise error


def test_a_destroy_of_a_spawn_whose_start_hangs_once_it_was_looked_at(world: World) -> None:
    """The guest was not there when the destroy came; it is killed when it is, or its call would never return."""

    def starts_and_hangs() -> None:
        world.fake.domains.start(world.instance)
        domain = world.fake.domains.there
        until(world, lambda: not domain[world.instance].active, transient("QEMU went during the call"))

    with Busy(world, "do", "DomainRunning", starts_and_hangs) as busy:
        gone(world, busy.worker)
    assert world.effects.count("domains.kill") == 1


def test_a_destroy_of_a_spawn_whose_child_hangs(world: World) -> None:
    """The child is ended, or the thread that waits for it would stay until its deadline."""
    world.fake.disks.children.add(world.instance)

    def hangs() -> None:
        until(world, lambda: not world.fake.disks.children, permanent("qemu-img ended with -9"))

    with Busy(world, "do", "RootDiskCreated", hangs) as busy:
        gone(world, busy.worker)
    assert "disks.end_children" in world.effects


def test_a_destroy_behind_a_call_that_never_returns_waits_and_says_which(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest is gone by then; what the call may still make is cleared once it has returned."""
    monkeypatch.setattr(ending, "EARLIER_WORK_ROUNDS", 2)
    returns = threading.Event()
    with Busy(world, "did", "DomainRunning", lambda: returns.wait(WITHIN_S)) as busy:
        job = world.run("d", "destroy", busy.worker).job
        assert job.state is JobState.WAITING
        assert job.error is not None
        assert job.error.message == "a call of job a has not returned within 0.04 s"
        domain = world.fake.domains.find(world.instance)
        assert domain is not None
        assert not domain.active
        returns.set()
    assert world.take_until_settled("d").job.state is JobState.SUCCEEDED
    assert nothing_is_left(world)
