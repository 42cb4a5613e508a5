"""Migrating between two fake hosts: what the job comes to, whatever fails, and whenever a worker of either dies."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import update

from models.engine import Database
from models.journal.asking import Asked, request_cancel, request_force_complete
from models.journal.deciding import resume, skip
from models.states import Direction, ErrorClass, JobState, StepState
from models.tables import hosts
from tasks.catalogue import OPERATIONS
from tasks.host import DomainState, Half, HostError, MigrationPlan
from tasks.operation import Operation
from tasks.steps.migration import Holder, who_has
from tests.builders import time_passes, watched
from tests.contract.fake_migrations import Broken, FakeWorld
from tests.fake_host import FakeHost, Killed, stranger
from tests.worker.world import REQUESTS, Listener, World, die, error_class, permanent, states, transient

pytest_plugins = ["tests.builders"]

MIGRATE: Operation[Any] = OPERATIONS["migrate"]
WITHIN_S = 30.0
FILES = ("folder", "console.log", "root.qcow2")
DEVICES = {
    "volumes": [REQUESTS["attach_volume"]["volume"]],
    "interfaces": [REQUESTS["attach_interface"]["interface"]],
}
#: Steps that only look, on hosts that keep nothing of volumes on their own.
NEVER_DONE = {"DestinationFits", "DomainPersistent"}


class Pair:
    """Two hosts with one journal, and an instance that runs on the first."""

    def __init__(self, database: Database, **asked: Any) -> None:
        self.database = database
        self.world = FakeWorld()
        fakes = [FakeHost(name, self.world) for name in ("h1", "h2")]
        for fake in fakes:
            fake.volumes.servers["storage:10809"] = True
        self.first = World(database, fakes[0], host="h1")
        self.second = World(database, fakes[1], self.first.instance, host="h2")
        self.second.worker()
        self.first.submit("spawned", "spawn", {**REQUESTS["spawn"], **DEVICES, **asked})
        assert self.first.take("spawned") is None
        for fake in fakes:
            fake.effects.clear()

    def of(self, host: str) -> World:
        """The host's world."""
        return self.first if host == "h1" else self.second

    def submit(self, job_id: str = "m", **request: Any) -> None:
        """Ask for a migration to the second host."""
        self.first.submit(job_id, "migrate", {"destination": "h2", **request})

    def take(self, job_id: str = "m", *operations: Operation[Any]) -> None:
        """Have a new worker of the job's own host take it, once."""
        self.of(self.first.details(job_id).job.host).take(job_id, self._worker(job_id, *operations))

    def _worker(self, job_id: str, *operations: Operation[Any]) -> Any:
        return self.of(self.first.details(job_id).job.host).worker(*operations)

    def run(self, job_id: str = "m", *operations: Operation[Any]) -> Any:
        """Have workers of the hosts take it until it is settled or set aside; what it came to."""
        for _ in range(30):
            state = self.first.details(job_id).job.state
            if state not in {JobState.QUEUED, JobState.RUNNING, JobState.WAITING}:
                break
            if state is JobState.WAITING:
                time_passes(self.database, job_id)
            self.take(job_id, *operations)
        return self.first.details(job_id)

    def half(self, host: str) -> tuple[str | None, tuple[str, ...]]:
        """What a host has: the state of its domain, and its files."""
        fake = self.of(host).fake
        domain = fake.domains.find(self.first.instance)
        files = tuple(left for left in fake.leftovers(self.first.instance) if left != "domain")
        return (None if domain is None else domain.state.value), files

    def is_on(self, host: str) -> bool:
        """Whether one host has all of the instance, running and persistent, and the other nothing."""
        other = "h2" if host == "h1" else "h1"
        domain = self.of(host).fake.domains.find(self.first.instance)
        whole = domain is not None and domain.persistent and self.half(host) == ("running", FILES)
        return whole and self.half(other) == (None, ()) and self.first.known.host == host


@pytest.fixture
def pair(sqlite_journal: Database) -> Pair:
    """Two hosts and a running instance with a disk, a volume and an interface."""
    return Pair(sqlite_journal)


# --- jobs that go well


def test_a_migration_moves_the_guest_with_all_that_it_has(pair: Pair) -> None:
    """Each step on its own host; the inventory follows; nothing is left behind."""
    pair.submit()
    details = pair.run()
    assert (details.job.state, details.job.error, details.job.host) == (JobState.SUCCEEDED, None, "h2")
    assert pair.is_on("h2")
    assert [step.host for step in details.steps] == [
        "h2" if step.name in MIGRATE.at_peer else "h1" for step in MIGRATE.steps
    ]
    shown = pair.second.fake.devices.shown(pair.first.instance)
    assert shown is not None
    assert {each.alias for each in shown.live or ()} == {"ua-root", "ua-v1", "ua-nic-i1"}


def test_each_disk_goes_along_in_its_format_and_is_opened_as_the_other_host_can(sqlite_journal: Database) -> None:
    """Raw or not, whatever it is for, with the space that was allocated to it; the inventory follows."""
    asked = {"root_disk": {"format": "raw"}, "ephemerals": [{"size_gib": 2}], "swap_mib": 64}
    pair = Pair(sqlite_journal, **asked, preallocate_images="space")
    before = pair.first.fake.disks.folders[pair.first.instance].disks
    pair.second.fake.disks.cache = "writeback"
    pair.submit()
    assert pair.run().job.state is JobState.SUCCEEDED
    there = pair.second.fake
    files = there.disks.folders[pair.first.instance]
    assert {disk.path: disk for disk in files.disks.values()} == before
    assert files.preallocated == set(before)
    assert {disk.cache for disk in there.domains.guests[pair.first.instance].disks} == {"writeback"}
    assert pair.first.fake.disks.folders == {}
    paths = {device.details["path"] for device in pair.first.known.devices if "path" in device.details}
    assert paths == set(before)


def test_a_migration_hops_three_times(pair: Pair) -> None:
    """And each claim goes on where the last one was: no step is intended twice."""
    pair.submit()
    details = pair.run()
    assert [event.data["to"] for event in details.events if event.type == "hopped"] == ["h2", "h1", "h2"]
    assert max(step.attempts for step in details.steps) == 1


def test_it_goes_there_and_back(pair: Pair) -> None:
    """As often as one likes."""
    for number in range(4):
        here, there = ("h1", "h2") if number % 2 == 0 else ("h2", "h1")
        pair.of(here).submit(f"m{number}", "migrate", {"destination": there})
        assert pair.run(f"m{number}").job.state is JobState.SUCCEEDED
        assert pair.is_on(there)


def test_a_guest_that_its_user_paused_arrives_paused(pair: Pair) -> None:
    """It is moved as it was found."""
    pair.first.fake.domains.is_now(pair.first.instance, DomainState.PAUSED, "user")
    pair.submit()
    assert pair.run().job.state is JobState.SUCCEEDED
    assert pair.half("h2") == ("paused", FILES)


# --- what cannot be


@pytest.mark.parametrize(
    ("destination", "sentence"),
    [("h1", "is on host h1 already"), ("h9", "has not said how other hosts reach it")],
)
def test_a_destination_that_cannot_be_fails_before_anything_is_done(
    pair: Pair, destination: str, sentence: str
) -> None:
    """One sentence, and the guest has noticed nothing."""
    pair.first.submit("m", "migrate", {"destination": destination})
    details = pair.run()
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert details.job.error is not None
    assert sentence in details.job.error.message
    assert pair.is_on("h1")


def _other_cpu(pair: Pair) -> None:
    pair.second.fake.migrations.cpu = "<cpu><arch>x86_64</arch><model>old</model></cpu>"


def _too_small(pair: Pair) -> None:
    pair.second.fake.migrations.memory_mib = 1


def _stranger(pair: Pair) -> None:
    pair.second.fake.domains.appears(pair.first.instance, stranger())


def _no_bridge(pair: Pair) -> None:
    pair.second.fake.interfaces.bridges.clear()


def _files(pair: Pair) -> None:
    disks = pair.second.fake.disks
    path = disks.path_for(pair.first.instance, "root", "qcow2")
    disks.create(pair.first.instance, path, size_bytes=1, backing=None, epoch=0)


@pytest.mark.parametrize("hindrance", [_other_cpu, _too_small, _stranger, _no_bridge, _files])
def test_a_destination_that_does_not_fit_is_left_as_it_was(pair: Pair, hindrance: Callable[[Pair], None]) -> None:
    """And the guest runs on where it is."""
    hindrance(pair)
    before = pair.half("h2")
    pair.submit()
    details = pair.run()
    assert details.job.state is JobState.FAILED
    assert error_class(details) in {ErrorClass.PERMANENT, ErrorClass.CONFLICT}
    assert pair.half("h1") == ("running", FILES)
    assert pair.half("h2") == before
    assert pair.first.known.host == "h1"


# --- who has it


@pytest.mark.parametrize(
    ("broken", "host"), [(Broken.ARRIVED, "h2"), (Broken.LOST, "h1")], ids=["it has arrived", "it has not left"]
)
@pytest.mark.parametrize(
    "error",
    [transient(), HostError(ErrorClass.UNKNOWN, "no answer"), permanent()],
    ids=["transient", "unknown", "permanent"],
)
def test_the_calls_own_error_is_never_the_truth(pair: Pair, broken: Broken, host: str, error: HostError) -> None:
    """Looks at both hosts tell who has the guest; it ends whole on one of them, and is not lost."""
    pair.first.fake.migrations.broken = broken
    pair.first.fake.fail("migrations.perform", error, halfway=True)
    pair.submit()
    details = pair.run()
    if error.error_class is ErrorClass.PERMANENT and host == "h1":
        assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
        assert pair.is_on("h1")
    else:
        assert details.job.state is JobState.SUCCEEDED
        assert pair.is_on("h2")


def test_while_the_other_host_cannot_be_seen_the_job_waits_and_says_so(pair: Pair) -> None:
    """Nothing is decided, and nothing is touched; once it is seen, the job comes out right."""
    pair.first.fake.migrations.broken = Broken.ARRIVED
    pair.first.fake.fail("migrations.perform", HostError(ErrorClass.UNKNOWN, "the link is down"), halfway=True)
    listener = Listener(("do", "DomainMigrated"), lambda: pair.world.cut("h2"))
    pair.submit()
    for _ in range(3):
        pair.take("m", watched(MIGRATE, listener))
    waiting = pair.first.details("m")
    assert waiting.job.state is JobState.WAITING
    assert waiting.job.error is not None
    pair.world.heal()
    assert pair.run().job.state is JobState.SUCCEEDED
    assert pair.is_on("h2")


@pytest.mark.parametrize("rest", [True, False], ids=["a rest is here", "nothing is here"])
def test_a_guest_that_ended_after_it_arrived_has_arrived(pair: Pair, *, rest: bool) -> None:
    """What it wrote there is the newest: nothing stale is resumed, nothing there is removed."""
    fake = pair.first.fake
    if rest:
        fake.migrations.broken = Broken.ARRIVED
        fake.fail("migrations.perform", Killed(), halfway=True)
    else:
        fake.fail("migrations.perform", Killed(), after=True)
    pair.submit()
    with pytest.raises(Killed):
        pair.run()
    pair.second.fake.domains.is_now(pair.first.instance, DomainState.SHUT_OFF, "shutdown")
    assert pair.run().job.state is JobState.SUCCEEDED
    assert (pair.half("h1"), pair.half("h2")) == ((None, ()), ("shut_off", FILES))
    assert "migrations.resume" not in pair.first.effects


def test_a_guest_that_somebody_moved_by_hand_is_found(pair: Pair) -> None:
    """Between the steps: it runs on, and is not moved again."""
    pair.submit()
    pair.take()
    pair.take()
    intents = {step.name: step.intent or {} for step in pair.first.details("m").steps}
    plan = MigrationPlan(pair.world.peer("h2"), intents["DestinationFilesMade"]["paths"], copied_disks=("vda",))
    pair.first.fake.migrations.begin(pair.first.instance, plan)
    pair.world.finish(pair.first.instance)
    details = pair.run()
    assert details.job.state is JobState.SUCCEEDED
    assert states(details)["DomainMigrated"] is StepState.FOUND
    assert pair.is_on("h2")


def test_an_instance_that_lives_at_the_destination_is_never_removed_there(pair: Pair) -> None:
    """Not even by the undo of a job that did not move it: an operator decides."""
    arrived = Listener(("did", "DestinationOpen"), lambda: pair.second.fake.domains.appears(pair.first.instance, mine))
    mine = pair.first.fake.domains.find(pair.first.instance)
    assert mine is not None
    pair.submit()
    pair.take()
    pair.take("m", watched(MIGRATE, arrived))
    assert request_cancel(pair.database, "m", Asked("ops"), outbox=False).taken
    details = pair.run()
    assert details.job.state is JobState.QUARANTINED
    assert pair.half("h2") == ("running", ("folder", "console.log", "root.qcow2"))
    assert pair.half("h1") == ("running", FILES)


def test_another_libvirtd_in_the_destinations_place_is_not_believed(pair: Pair) -> None:
    """A host that says it is reached at localhost names whoever asks."""
    pair.first.fake.domains.is_now(pair.first.instance, DomainState.PAUSED, "user")
    with pair.database.write() as connection:
        connection.execute(update(hosts).where(hosts.c.name == "h2").values(peer_libvirt_uri="fake://h1"))
    pair.submit()
    details = pair.run()
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert pair.half("h1") == ("paused", FILES)


def test_a_conflict_that_the_call_itself_meets_is_undone(pair: Pair) -> None:
    """It is the job's own doing that is in the way: the guest does not stay paused."""
    pair.first.fake.migrations.broken = Broken.LOST
    pair.first.fake.fail("migrations.perform", HostError(ErrorClass.CONFLICT, "not running"), halfway=True)
    pair.submit()
    assert pair.run().job.state is JobState.FAILED
    assert pair.is_on("h1")


def _stuck_behind_the_switch(pair: Pair) -> None:
    pair.first.fake.fail("disks.remove_folder", permanent("the folder cannot be removed"))
    pair.submit()
    details = pair.run()
    assert (details.job.state, details.job.past_return) == (JobState.QUARANTINED, True)
    assert pair.second.fake.domains.find(pair.first.instance) is not None


def test_a_job_stuck_behind_the_switch_goes_on_once_it_is_resumed(pair: Pair) -> None:
    """Its guest is well all the while; what is left at the source is cleared in the end."""
    _stuck_behind_the_switch(pair)
    assert resume(pair.database, "m", Asked("ops", "mended"), outbox=False).taken
    assert pair.run().job.state is JobState.SUCCEEDED
    assert pair.is_on("h2")


def test_a_job_stuck_behind_the_switch_leaves_what_is_skipped(pair: Pair) -> None:
    """The guest gets its next job on the host that it is on, by the operator's word."""
    _stuck_behind_the_switch(pair)
    assert skip(pair.database, "m", Asked("ops", "I shall clear it"), step="SourceCleared").taken
    assert resume(pair.database, "m", Asked("ops"), outbox=False).taken
    assert pair.run().job.state is JobState.SUCCEEDED
    assert pair.first.known.host == "h2"
    assert pair.first.fake.disks.folder_exists(pair.first.instance)


def test_when_neither_has_it_an_operator_decides(pair: Pair) -> None:
    """Nothing is removed on a guess."""

    def vanish() -> None:
        pair.first.fake.domains.there.pop(pair.first.instance)

    pair.first.fake.fail("migrations.perform", permanent())
    pair.submit()
    details = pair.run("m", watched(MIGRATE, Listener(("do", "DomainMigrated"), vanish)))
    assert details.job.state is JobState.QUARANTINED
    assert details.job.error is not None
    assert "neither of the migration's two hosts has the guest" in details.job.error.message
    assert pair.half("h1")[1] == FILES


def _half(state: DomainState | None, *, under_way: bool = False) -> Half:
    return Half(None if state is None else stranger_in(state), under_way)


def stranger_in(state: DomainState) -> Any:
    """A domain in that state, whoever's."""
    return type(stranger())(state, persistent=True, identity=None)


@pytest.mark.parametrize(
    ("here", "there", "holder"),
    [
        (_half(DomainState.PAUSED), _half(DomainState.RUNNING), Holder.DESTINATION),
        (_half(None), _half(DomainState.RUNNING), Holder.DESTINATION),
        (_half(None), _half(DomainState.PAUSED), Holder.DESTINATION),
        (_half(DomainState.PAUSED), _half(None), Holder.SOURCE),
        (_half(DomainState.SHUT_OFF), _half(None), Holder.SOURCE),
        (_half(DomainState.PAUSED), _half(DomainState.SHUT_OFF), Holder.DESTINATION),
        (_half(DomainState.SHUT_OFF), _half(DomainState.SHUT_OFF), Holder.DESTINATION),
        (_half(None), _half(DomainState.SHUT_OFF), Holder.DESTINATION),
        (_half(DomainState.PAUSED), _half(DomainState.PAUSED, under_way=True), Holder.UNDECIDED),
        (_half(None), _half(DomainState.PAUSED, under_way=True), Holder.UNDECIDED),
    ],
)
def test_who_has_a_guest_follows_from_both_looks(here: Half, there: Half, holder: Holder) -> None:
    """Of a guest that does not run at its source."""
    assert who_has(here, there) is holder


# --- what is wanted meanwhile


@pytest.fixture
def held(pair: Pair) -> Iterator[Pair]:
    """A migration that stays in flight, in a thread of its own, until it is told otherwise."""
    pair.world.hold(pair.first.instance)
    yield pair
    pair.world.let_go(pair.first.instance)


def _fly(pair: Pair, **request: Any) -> threading.Thread:
    pair.submit(**request)
    pair.take()
    pair.take()
    thread = threading.Thread(target=pair.take, name="source")
    thread.start()
    pair.world.wait_under_way(pair.first.instance)
    return thread


def _landed(pair: Pair, thread: threading.Thread) -> Any:
    thread.join(WITHIN_S)
    assert not thread.is_alive()
    return pair.run()


def test_a_migration_in_flight_can_be_cancelled(held: Pair) -> None:
    """The guest stays, and the destination is as it was."""
    thread = _fly(held)
    assert request_cancel(held.database, "m", Asked("ops"), outbox=False).taken
    details = _landed(held, thread)
    assert (details.job.state, details.job.error) == (JobState.CANCELLED, None)
    assert held.is_on("h1")
    assert [step.name for step in details.steps if step.direction is Direction.UNDO] == [
        "DomainMigrated",
        "DestinationOpen",
        "DestinationInterfacesPlugged",
        "DestinationVolumesConnected",
        "DestinationFilesMade",
        "SourceDescribed",
    ]


@pytest.mark.parametrize("how", ["the worker was dead", "the job waited"])
def test_a_cancel_that_came_after_the_switch_is_too_late(pair: Pair, how: str) -> None:
    """Nobody had looked yet; the look finds the guest moved, and the job goes on to its end."""
    fake = pair.first.fake
    if how == "the worker was dead":
        fake.fail("migrations.perform", Killed(), after=True)
        pair.submit()
        with pytest.raises(Killed):
            pair.run()
    else:
        fake.migrations.broken = Broken.ARRIVED
        fake.fail("migrations.perform", HostError(ErrorClass.UNKNOWN, "the link is down"), halfway=True)
        pair.submit()
        pair.take()
        pair.take()
        fake.fail("migrations.there", transient("host h2 cannot be seen"), times=20)
        pair.take()
        assert pair.first.details("m").job.state is JobState.WAITING
    assert request_cancel(pair.database, "m", Asked("ops"), outbox=False).taken
    assert pair.run().job.state is JobState.SUCCEEDED
    assert pair.is_on("h2")


def test_a_cancel_calls_back_a_job_that_the_other_host_has_not_begun(pair: Pair) -> None:
    """Its worker may be gone for good."""
    pair.submit()
    pair.take()
    assert pair.first.details("m").job.host == "h2"
    assert request_cancel(pair.database, "m", Asked("ops"), outbox=False).taken
    assert pair.first.details("m").job.host == "h1"
    pair.take()
    assert pair.first.details("m").job.state is JobState.CANCELLED
    assert pair.is_on("h1")


def test_a_job_past_its_switch_waits_its_time_whoever_asked_it_to_stop(pair: Pair) -> None:
    """A cancel that came too late is no reason to claim it again and again."""
    pair.submit()
    pair.take()
    pair.take()
    cancel = Listener(("did", "DomainMigrated"), lambda: request_cancel(pair.database, "m", Asked("ops"), outbox=False))
    pair.first.fake.fail("disks.remove_folder", transient(), times=5)
    pair.take("m", watched(MIGRATE, cancel))
    assert pair.first.details("m").job.state is JobState.WAITING
    epoch = pair.first.details("m").job.epoch
    pair.take()
    assert pair.first.details("m").job.epoch == epoch
    assert pair.run().job.state is JobState.SUCCEEDED


def test_past_the_switch_its_preparations_are_not_looked_at_again(pair: Pair) -> None:
    """The guest runs; that a bridge was renamed since is no matter of this job."""
    pair.submit()
    for _ in range(3):
        pair.take()
    pair.second.fake.fail("domains.find", transient(), times=5)
    pair.take()
    pair.second.fake.interfaces.bridges.clear()
    pair.second.fake.volumes.servers["storage:10809"] = False
    assert pair.run().job.state is JobState.SUCCEEDED


def test_a_migration_in_flight_shows_its_progress(held: Pair) -> None:
    """In the journal, for whoever reads it."""
    thread = _fly(held)
    progress = _eventually(lambda: held.first.details("m").job.progress)
    assert progress["what"] == "migrating"
    assert progress["total_bytes"] > 0
    held.world.let_go(held.first.instance)
    assert _landed(held, thread).job.progress is None


@pytest.mark.parametrize("post_copy", [False, True])
def test_a_migration_in_flight_can_be_made_to_complete(held: Pair, *, post_copy: bool) -> None:
    """From post-copy on there is only forward, and the journal knew it first."""
    thread = _fly(held, post_copy=post_copy)
    assert request_force_complete(held.database, "m", Asked("ops")).taken
    details = _landed(held, thread)
    assert details.job.state is JobState.SUCCEEDED
    assert held.is_on("h2")
    assert [event.type for event in details.events].count("past_return") == 1


@pytest.mark.parametrize("on_timeout", ["abort", "force_complete"])
def test_a_migration_that_takes_too_long_ends_as_its_request_says(held: Pair, on_timeout: str) -> None:
    """Given up, or made to complete."""
    thread = _fly(held, completion_timeout_s_per_gib=1, on_timeout=on_timeout, post_copy=True)
    details = _landed(held, thread)
    if on_timeout == "abort":
        assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
        assert held.is_on("h1")
    else:
        assert details.job.state is JobState.SUCCEEDED
        assert held.is_on("h2")


def test_a_call_of_which_nothing_comes_is_told_of(held: Pair) -> None:
    """The history says that it stalled, and that it moved again."""
    thread = _fly(held)
    held.world.cut("h2")
    _eventually(lambda: "stalled" in {event.type for event in held.first.details("m").events})
    held.world.heal()
    _eventually(lambda: "moving_again" in {event.type for event in held.first.details("m").events})
    held.world.let_go(held.first.instance)
    assert _landed(held, thread).job.state is JobState.SUCCEEDED


def _eventually(probe: Callable[[], Any]) -> Any:
    done = threading.Event()
    for _ in range(3000):
        answer = probe()
        if answer:
            return answer
        done.wait(0.01)
    raise AssertionError("it never came true")


# --- who comes after


@pytest.mark.parametrize("moment", ["before it hopped", "at the destination", "in flight"])
def test_a_destroy_in_the_middle_leaves_nothing_on_either_host(pair: Pair, moment: str) -> None:
    """It supersedes the migration, kills the domain, and then clears both hosts."""
    pair.submit()
    if moment != "before it hopped":
        pair.take()
    if moment == "at the destination":
        with pytest.raises(Killed):
            pair.take("m", watched(MIGRATE, Listener(("did", "DestinationFilesMade"), die)))
    if moment == "in flight":
        pair.take()
        pair.world.hold(pair.first.instance)
        with pytest.raises(Killed):
            pair.take("m", watched(MIGRATE, Listener(("do", "DomainMigrated"), die)))
    pair.first.submit("d", "destroy")
    details = pair.run("d")
    assert details.job.state is JobState.SUCCEEDED
    assert (pair.half("h1"), pair.half("h2")) == ((None, ()), (None, ()))
    assert pair.first.details("m").job.state is JobState.CANCELLED
    assert pair.first.known.devices == ()


@pytest.mark.parametrize("taken", [False, True], ids=["on its way", "taken there and let go"])
def test_a_destroy_whose_other_host_is_gone_for_good_goes_on_without_it(pair: Pair, *, taken: bool) -> None:
    """Once an operator says so, by skipping what it has there: it comes home, and clears what is here."""
    pair.submit()
    pair.take()
    with pytest.raises(Killed):
        pair.take("m", watched(MIGRATE, Listener(("did", "DestinationFilesMade"), die)))
    pair.first.submit("d", "destroy")
    pair.take("d")
    assert (pair.first.details("d").job.host, pair.first.details("d").job.hopping) == ("h2", True)
    if taken:
        pair.second.fake.fail("domains.find", transient("libvirtd is gone"), times=5)
        pair.take("d")
        assert pair.first.details("d").job.hopping is False
    said = skip(pair.database, "d", Asked("ops", "its machine burnt down"), step="OtherHalfRemoved")
    assert said.taken, said.sentence
    assert (pair.first.details("d").job.host, pair.first.details("d").job.hopping) == ("h1", True)
    assert pair.run("d").job.state is JobState.SUCCEEDED
    assert pair.half("h1") == (None, ())
    assert pair.half("h2") != (None, ())


def test_a_destroy_that_took_over_a_begun_job_goes_only_forward(pair: Pair) -> None:
    """What that one left is nobody else's to clear: a cancel is refused."""
    pair.submit()
    pair.take()
    pair.take()
    pair.first.submit("d", "destroy")
    pair.first.fake.fail("domains.find", transient("libvirtd is being restarted"), times=5)
    pair.take("d")
    assert pair.first.details("d").job.state is JobState.WAITING
    assert not request_cancel(pair.database, "d", Asked("ops"), outbox=False).taken
    assert pair.run("d").job.state is JobState.SUCCEEDED
    assert (pair.half("h1"), pair.half("h2")) == ((None, ()), (None, ()))


def test_a_destroy_has_no_part_on_a_host_where_nothing_was_made(pair: Pair) -> None:
    """A destination that does not exist, or is gone for good, does not hold it up."""
    pair.first.submit("m", "migrate", {"destination": "h22"})
    pair.first.fake.fail("domains.find", transient("libvirtd is being restarted"), times=5)
    pair.take()
    pair.first.submit("d", "destroy")
    pair.take("d")
    assert pair.first.details("d").job.state is JobState.SUCCEEDED


def test_an_attach_in_the_middle_acts_where_the_guest_is_then(pair: Pair) -> None:
    """It was sent to the host that the guest has left."""
    pair.submit()
    pair.take()
    volume = {"id": "v2", "kind": "nbd", "host": "storage", "export": "another"}
    pair.first.submit("a", "attach_volume", {"volume": volume})
    pair.take("a")
    assert pair.first.details("a").job.state is JobState.QUEUED
    pair.run()
    details = pair.run("a")
    assert (details.job.state, details.job.host) == (JobState.SUCCEEDED, "h2")
    shown = pair.second.fake.devices.shown(pair.first.instance)
    assert shown is not None
    assert "ua-v2" in {each.alias for each in shown.live or ()}


# --- workers that die

DEATHS = [
    pytest.param(step.name, moment, id=f"{step.name}-{moment}")
    for step in MIGRATE.steps
    for moment in ("look", "do", "did")
    if moment == "look" or step.name not in NEVER_DONE
]


@pytest.mark.parametrize(("step", "moment"), DEATHS)
def test_a_killed_worker_makes_no_difference(pair: Pair, step: str, moment: str) -> None:
    """Of either host, at each moment of each step: the guest ends whole on the destination, moved once."""
    listener = Listener((moment, step), die)
    pair.submit()
    with pytest.raises(Killed):
        pair.run("m", watched(MIGRATE, listener))
    details = pair.run()
    assert (details.job.state, details.job.error) == (JobState.SUCCEEDED, None)
    assert pair.is_on("h2")
    assert [method for method, _ in pair.first.fake.effects].count("migrations.perform") == 1


@pytest.mark.parametrize("broken", Broken)
def test_a_worker_killed_in_the_middle_of_the_transfer_makes_no_difference(pair: Pair, broken: Broken) -> None:
    """Whatever libvirt made of it: still in flight, arrived, or given up."""
    pair.first.fake.migrations.broken = broken
    pair.first.fake.fail("migrations.perform", Killed(), halfway=True)
    pair.submit()
    with pytest.raises(Killed):
        pair.run()
    assert pair.run().job.state is JobState.SUCCEEDED
    assert pair.is_on("h2")


UNDONE = [
    pytest.param(step.name, moment, id=f"{step.name}-{moment}")
    for step in MIGRATE.steps
    for moment in ("undo", "undid")
    if step.name not in NEVER_DONE | {"SourceCleared"}
]


@pytest.mark.parametrize(("step", "moment"), UNDONE)
def test_a_worker_killed_while_undoing_makes_no_difference(pair: Pair, step: str, moment: str) -> None:
    """The guest ends whole on the source."""
    pair.first.fake.fail("migrations.perform", permanent())
    pair.submit()
    with pytest.raises(Killed):
        pair.run("m", watched(MIGRATE, Listener((moment, step), die)))
    details = pair.run()
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert pair.is_on("h1")
    assert states(details, Direction.UNDO) == dict.fromkeys(states(details, Direction.UNDO), StepState.DONE)
