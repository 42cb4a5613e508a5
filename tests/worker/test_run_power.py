"""The power operations on the fake host: what each comes to, is refused for, and is killed in."""

import pytest

from models.engine import Database
from models.journal.asking import Asked, request_cancel
from models.records import Json
from models.states import ErrorClass, InstanceState, JobState, StepState
from tasks.catalogue import OPERATIONS
from tasks.host import DomainState
from tests.builders import watched
from tests.fake_host import FakeHost, Killed, stranger
from tests.worker.world import Listener, World, die, error_class, permanent, states, transient

pytest_plugins = ["tests.builders"]

#: What each is asked of, and what the domain and the instance are then.
FROM_TO = {
    "start": ("off", DomainState.RUNNING, InstanceState.RUNNING),
    "stop": ("running", DomainState.SHUT_OFF, InstanceState.STOPPED),
    "reboot": ("running", DomainState.RUNNING, InstanceState.RUNNING),
    "pause": ("running", DomainState.PAUSED, InstanceState.PAUSED),
    "unpause": ("paused", DomainState.RUNNING, InstanceState.RUNNING),
    "suspend": ("running", DomainState.SHUT_OFF, InstanceState.SUSPENDED),
    "resume": ("suspended", DomainState.RUNNING, InstanceState.RUNNING),
}
#: Asked again, these find their fact true.
FOUND_AGAIN = set(FROM_TO) - {"reboot"}
#: Those that can turn round, and the call whose failure makes them.
TURNED_ROUND = {
    "start": "domains.start",
    "pause": "power.pause",
    "unpause": "power.unpause",
    "suspend": "power.save",
    "resume": "domains.start",
}
#: Of a guest in such a state each of these is refused, with these words.
REFUSED = [
    ("stop", "suspended", "is suspended: resume it, then stop it"),
    ("reboot", "off", "does not run: start it"),
    ("pause", "off", "does not run"),
    ("unpause", "off", "does not run: start it"),
    ("suspend", "off", "does not run, so there is nothing to keep"),
    ("suspend", "paused", "is paused: unpause it, then suspend it"),
    ("resume", "off", "has no saved memory to go on from: start it"),
]


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A host with a running instance."""
    world = World(sqlite_journal, fake)
    world.run("spawned")
    fake.effects.clear()
    return world


def bring(world: World, state: str) -> None:
    """Have the guest in that state, by the operations themselves."""
    before = {"off": "stop", "paused": "pause", "suspended": "suspend"}.get(state)
    if before is not None:
        assert world.run("before", before).job.state is JobState.SUCCEEDED
    world.fake.effects.clear()


def ends(world: World) -> None:
    """The guest's process is gone, and no job's doing."""
    world.fake.domains.is_now(world.instance, DomainState.SHUT_OFF, "crashed")


def state_of(world: World) -> DomainState:
    """The domain's, which is there."""
    domain = world.fake.domains.find(world.instance)
    assert domain is not None
    return domain.state


@pytest.mark.parametrize("operation", FROM_TO)
def test_a_power_operation_makes_its_fact_true(world: World, operation: str) -> None:
    """Of domain and instance; asked again under another id, it is found, but for a reboot, which is another one."""
    before, domain, instance = FROM_TO[operation]
    bring(world, before)
    details = world.run("a", operation)
    assert (details.job.state, details.job.error) == (JobState.SUCCEEDED, None)
    assert (state_of(world), world.known.state) == (domain, instance)
    again = world.run("b", operation)
    found = set(states(again).values()) == {StepState.FOUND}
    assert (again.job.state, found) == (JobState.SUCCEEDED, operation in FOUND_AGAIN)


@pytest.mark.parametrize(("operation", "before", "why"), REFUSED)
def test_what_makes_no_sense_is_refused_with_a_sentence(world: World, operation: str, before: str, why: str) -> None:
    """And nothing is done."""
    bring(world, before)
    details = world.run("a", operation)
    assert details.job.state is JobState.FAILED
    assert details.job.error is not None
    assert details.job.error.message == f"instance {world.instance} on host h1 {why}"
    assert world.effects == []


@pytest.mark.parametrize("operation", FROM_TO)
def test_an_instance_that_is_not_there_has_no_power(sqlite_journal: Database, fake: FakeHost, operation: str) -> None:
    """The sentence says so."""
    world = World(sqlite_journal, fake)
    details = world.run("a", operation)
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert details.job.error is not None
    assert "has no domain there" in details.job.error.message


@pytest.mark.parametrize("operation", FROM_TO)
def test_a_strangers_domain_is_left_alone(world: World, operation: str) -> None:
    """Even under the instance's UUID."""
    bring(world, FROM_TO[operation][0])
    world.fake.domains.there[world.instance] = stranger()
    details = world.run("a", operation)
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.CONFLICT)
    assert world.effects == []


@pytest.mark.parametrize("moment", ["look", "do", "did"])
@pytest.mark.parametrize("operation", FROM_TO)
def test_a_worker_that_dies_in_it_is_followed_by_one_that_ends_it(world: World, operation: str, moment: str) -> None:
    """As if nothing had happened, and each effect is made once."""
    before, domain, instance = FROM_TO[operation]
    bring(world, before)
    step = OPERATIONS[operation].steps[0].name
    world.submit("a", operation)
    with pytest.raises(Killed):
        world.take("a", world.worker(watched(OPERATIONS[operation], Listener((moment, step), die))))
    assert world.take("a") is None
    assert world.details("a").job.state is JobState.SUCCEEDED
    assert (state_of(world), world.known.state) == (domain, instance)
    assert len(world.effects) == len(set(world.effects))


@pytest.mark.parametrize("operation", ["pause", "unpause", "suspend"])
def test_a_cancel_that_comes_behind_the_effect_comes_too_late(world: World, operation: str) -> None:
    """The job succeeds, and the journal has the state that the guest has."""
    before, domain, instance = FROM_TO[operation]
    bring(world, before)
    step = OPERATIONS[operation].steps[0].name
    world.submit("a", operation)
    late = Listener(("did", step), lambda: request_cancel(world.database, "a", Asked("ops"), outbox=False))
    world.take("a", world.worker(watched(OPERATIONS[operation], late)))
    assert world.details("a").job.state is JobState.SUCCEEDED
    assert (state_of(world), world.known.state) == (domain, instance)


@pytest.mark.parametrize("moment", ["look", "do", "did"])
@pytest.mark.parametrize("operation", FROM_TO)
def test_a_guest_that_ends_meanwhile_leaves_nothing_to_an_operator(world: World, operation: str, moment: str) -> None:
    """The job succeeds or fails, as what it was asked for can still be; it is not set aside."""
    bring(world, FROM_TO[operation][0])
    step = OPERATIONS[operation].steps[0].name
    world.submit("a", operation)
    world.take("a", world.worker(watched(OPERATIONS[operation], Listener((moment, step), lambda: ends(world)))))
    assert world.details("a").job.state in {JobState.SUCCEEDED, JobState.FAILED}


@pytest.mark.parametrize(("operation", "call"), sorted(TURNED_ROUND.items()))
def test_a_guest_that_ends_while_its_job_is_undone_leaves_nothing_to_undo(
    world: World, operation: str, call: str
) -> None:
    """The job has failed, and is not set aside."""
    bring(world, FROM_TO[operation][0])
    step = OPERATIONS[operation].steps[0].name
    world.fake.fail(call, permanent())
    world.submit("a", operation)
    world.take("a", world.worker(watched(OPERATIONS[operation], Listener(("undo", step), lambda: ends(world)))))
    assert world.details("a").job.state is JobState.FAILED


def test_a_guest_that_does_not_shut_down_is_ended(world: World) -> None:
    """When its time is over."""
    world.fake.power.deaf.add(world.instance)
    assert world.run("a", "stop").job.state is JobState.SUCCEEDED
    assert (world.fake.power.asked, world.effects) == ([world.instance], ["domains.kill"])


@pytest.mark.parametrize(
    ("operation", "request_", "before"),
    [("stop", {"timeout_s": 0}, "running"), ("reboot", {"type": "hard"}, "running"), ("stop", {}, "paused")],
    ids=["no time", "hard", "paused"],
)
def test_a_guest_that_has_no_time_or_cannot_hear_is_not_asked(
    world: World, operation: str, request_: Json, before: str
) -> None:
    """It is ended at once."""
    bring(world, before)
    world.submit("a", operation, request_)
    world.take("a")
    assert world.details("a").job.state is JobState.SUCCEEDED
    assert world.fake.power.asked == []
    assert world.effects[0] == "domains.kill"


def test_a_reboot_that_ended_the_guest_and_cannot_start_it_waits_and_starts_it(world: World) -> None:
    """The guest that was ended is not ended again."""
    world.fake.fail("domains.start", transient(), times=5)
    assert world.run("a", "reboot").job.state is JobState.WAITING
    assert world.take_until_settled("a").job.state is JobState.SUCCEEDED
    assert world.effects == ["power.shut_down", "domains.start"]


def test_a_destroy_of_a_suspended_guest_leaves_nothing(world: World) -> None:
    """Not what was kept of it either."""
    bring(world, "suspended")
    assert world.run("d", "destroy").job.state is JobState.SUCCEEDED
    assert world.leftovers == ()
    assert world.fake.domains.saved == set()
