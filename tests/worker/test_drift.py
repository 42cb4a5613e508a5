"""What host and journal tell differently, on the fake host: recorded where it is power, listed where it is drift."""

from dataclasses import replace
from uuid import uuid4

import pytest

from models.engine import Database
from models.observing import events_of, list_drift
from models.states import InstanceState, JobState
from tasks.host import DomainState, HostError, Identity
from tests.fake_host import FakeHost, stranger
from tests.worker.world import World, transient
from worker.drift import SECOND_LOOK_AFTER_S, Comparison

pytest_plugins = ["tests.builders"]


class Clock:
    """It goes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A host with a running instance that has a volume and an interface."""
    fake.volumes.servers["storage:10809"] = True
    world = World(sqlite_journal, fake)
    for job, operation in (("s", "spawn"), ("v", "attach_volume"), ("i", "attach_interface")):
        assert world.run(job, operation).job.state is JobState.SUCCEEDED
    return world


@pytest.fixture
def clock() -> Clock:
    """The comparison's clock."""
    return Clock()


@pytest.fixture
def comparison(world: World, clock: Clock) -> Comparison:
    """The host's comparison, which has not looked yet."""
    return Comparison(world.database, "h1", world.fake, clock)


def drift(world: World) -> list[tuple[str, str]]:
    """What is listed: kind and subject."""
    return [(each.kind.value, each.subject) for each in list_drift(world.database, host="h1")]


def test_where_all_is_as_it_should_be_nothing_is_recorded(world: World, comparison: Comparison) -> None:
    """However often it is looked."""
    for _ in range(2):
        comparison.look()
    assert drift(world) == []
    assert events_of(world.database, world.instance) == []


@pytest.mark.parametrize(
    ("state", "reason", "now"),
    [
        (DomainState.SHUT_OFF, "shutdown", InstanceState.STOPPED),
        (DomainState.SHUT_OFF, "crashed", InstanceState.STOPPED),
        (DomainState.PAUSED, "ioerror", InstanceState.PAUSED),
    ],
)
def test_a_guest_that_changes_its_power_by_itself_is_recorded(
    world: World, comparison: Comparison, state: DomainState, reason: str, now: InstanceState
) -> None:
    """Once, with the reason that libvirt gives; and back again."""
    world.fake.domains.is_now(world.instance, state, reason)
    comparison.look_at([world.instance])
    comparison.look()
    assert world.known.state is now
    [event] = events_of(world.database, world.instance)
    assert (event.type.value, event.host, event.data) == (now.value, "h1", {"from": "running", "reason": reason})
    world.fake.domains.is_now(world.instance, DomainState.RUNNING, "booted")
    comparison.look_at([world.instance])
    assert world.known.state is InstanceState.RUNNING
    assert drift(world) == []


def test_a_guest_that_somebody_saved_is_suspended(world: World, comparison: Comparison) -> None:
    """Not stopped: its memory is there."""
    world.fake.power.save(world.instance, deadline_s=1.0)
    comparison.look_at([world.instance])
    assert world.known.state is InstanceState.SUSPENDED


def test_a_guest_that_reboots_by_itself_is_recorded(world: World, comparison: Comparison) -> None:
    """Its state is what it was."""
    comparison.look_at([], [world.instance])
    assert [event.type.value for event in events_of(world.database, world.instance)] == ["rebooted"]
    assert world.known.state is InstanceState.RUNNING


def test_what_a_job_has_in_hand_is_its_own(world: World, comparison: Comparison) -> None:
    """Neither power nor absence of an instance with a begun job is anybody's to record."""
    world.fake.fail("domains.undefine", transient(), times=5)
    assert world.run("d", "destroy").job.state is JobState.WAITING
    comparison.look_at([world.instance], [world.instance])
    comparison.look()
    assert events_of(world.database, world.instance) == []
    assert drift(world) == []


def test_an_instance_whose_domain_is_gone_is_missing_after_a_second_look(
    world: World, comparison: Comparison, clock: Clock
) -> None:
    """And no more once it is destroyed."""
    del world.fake.domains.there[world.instance]
    comparison.look()
    comparison.look()
    assert drift(world) == []
    assert comparison.is_unsure
    clock.now += SECOND_LOOK_AFTER_S
    comparison.look()
    assert drift(world) == [("missing", str(world.instance))]
    world.run("d", "destroy")
    comparison.look()
    assert drift(world) == []
    assert not comparison.is_unsure


def test_one_that_comes_back_in_time_was_never_missing(world: World, comparison: Comparison, clock: Clock) -> None:
    """The count begins anew with every absence."""
    there = world.fake.domains.there.pop(world.instance)
    comparison.look()
    clock.now += SECOND_LOOK_AFTER_S
    world.fake.domains.there[world.instance] = there
    comparison.look()
    del world.fake.domains.there[world.instance]
    comparison.look()
    assert drift(world) == []


def test_domains_that_nobody_knows_are_listed_until_they_go(world: World, comparison: Comparison) -> None:
    """A stranger's, and one of Hostler's that the journal does not know."""
    other, lost = uuid4(), uuid4()
    world.fake.domains.appears(other, stranger())
    world.fake.domains.appears(lost, replace(stranger(), identity=Identity(lost, "forgotten")))
    comparison.look()
    assert sorted(drift(world)) == sorted([("unknown", str(other)), ("unknown", str(lost))])
    assert {each.data["made_by"] for each in list_drift(world.database)} == {"hostler's", "another's"}
    del world.fake.domains.there[other]
    comparison.look()
    assert drift(world) == [("unknown", str(lost))]


def test_a_device_that_only_one_side_has_is_drift(world: World, comparison: Comparison) -> None:
    """Taken away behind the journal's back; given behind it."""
    fake = world.fake.domains
    (volume,) = [device for device in fake.live[world.instance] if device.alias == "ua-v1"]
    kept = tuple(device for device in fake.live[world.instance] if device is not volume)
    fake.live[world.instance] = kept
    comparison.look()
    assert drift(world) == [("device_missing", f"{world.instance}/ua-v1")]
    fake.live[world.instance] = (*kept, volume, replace(volume, alias="ua-smuggled"), replace(volume, alias="theirs"))
    comparison.look()
    assert drift(world) == [("device_unknown", f"{world.instance}/ua-smuggled")]


def test_a_host_that_cannot_be_seen_tells_of_no_absence(world: World, comparison: Comparison, clock: Clock) -> None:
    """What was listed stays listed."""
    del world.fake.domains.there[world.instance]
    comparison.look()
    clock.now += SECOND_LOOK_AFTER_S
    comparison.look()
    world.fake.fail("domains.known", transient())
    with pytest.raises(HostError):
        comparison.look()
    assert drift(world) == [("missing", str(world.instance))]
