"""Adopting and releasing on the fake host: what each comes to, is refused for, and is killed in."""

from dataclasses import replace
from uuid import uuid4

import pytest

from models.engine import Database
from models.journal.asking import Asked, request_cancel
from models.states import ErrorClass, InstanceState, JobState
from tasks.catalogue import OPERATIONS
from tasks.host import Domain, DomainState, HostError, Identity
from tests.builders import watched
from tests.fake_host import FakeHost, Killed, mislabelled, stranger
from tests.worker.world import Listener, World, die, error_class, permanent

pytest_plugins = ["tests.builders"]


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A host with a running domain that Hostler did not make."""
    world = World(sqlite_journal, fake)
    fake.domains.appears(world.instance, stranger())
    return world


def domain(world: World) -> Domain:
    """The domain, which is there."""
    found = world.fake.domains.find(world.instance)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("state", "comes_to"),
    [
        (DomainState.RUNNING, InstanceState.RUNNING),
        (DomainState.PAUSED, InstanceState.PAUSED),
        (DomainState.SHUT_OFF, InstanceState.STOPPED),
        (DomainState.CRASHED, InstanceState.STOPPED),
    ],
)
def test_an_adopted_domain_is_an_instance_as_it_is(world: World, state: DomainState, comes_to: InstanceState) -> None:
    """And is to stay so; its guest notices nothing."""
    world.fake.domains.is_now(world.instance, state)
    before = domain(world)
    assert world.run("adopted", "adopt").job.state is JobState.SUCCEEDED
    assert (world.known.state, world.known.wanted, world.known.host) == (comes_to, comes_to, world.host)
    assert domain(world) == replace(before, identity=Identity(world.instance, "adopted"))
    assert world.effects == ["domains.mark"]


def test_jobs_of_an_adopted_domain_are_as_any_others(world: World) -> None:
    """Before that each is a conflict."""
    early = world.run("early", "stop")
    assert (early.job.state, error_class(early)) == (JobState.FAILED, ErrorClass.CONFLICT)
    world.run("adopted", "adopt")
    for operation in ("stop", "start", "destroy"):
        assert world.run(operation, operation).job.state is JobState.SUCCEEDED


def test_a_released_domain_is_as_it_was_before(world: World) -> None:
    """Nobody's but its owner's: a destroy of it is a conflict again."""
    before = domain(world)
    world.run("adopted", "adopt")
    assert world.run("released", "release").job.state is JobState.SUCCEEDED
    assert domain(world) == before
    assert (world.known.state, world.known.wanted) == (InstanceState.DELETED, InstanceState.DELETED)
    world.run("late", "destroy")
    assert domain(world) == before


def test_what_a_released_instance_had_may_be_anothers(world: World) -> None:
    """Its volumes are in no row any more."""
    world.fake.volumes.servers["storage:10809"] = True
    world.run("adopted", "adopt")
    assert world.run("attached", "attach_volume").job.state is JobState.SUCCEEDED
    world.run("released", "release")
    assert world.known.devices == ()


@pytest.mark.parametrize("operation", ["adopt", "release"])
def test_a_second_one_changes_nothing_more(world: World, operation: str) -> None:
    """Whoever asks twice gets what there is; the first mark stays."""
    world.run("adopted", "adopt")
    world.run("first", operation)
    before = domain(world)
    assert world.run("second", operation).job.state is JobState.SUCCEEDED
    assert domain(world) == before


def test_a_domain_of_a_journal_that_was_lost_is_adopted_with_its_mark(world: World) -> None:
    """And keeps it when the adoption is undone: it was there before."""
    mark = Identity(world.instance, "job-of-a-lost-journal")
    world.fake.domains.appears(world.instance, replace(stranger(), identity=mark))
    world.submit("cancelled", "adopt")
    tell = Listener(
        ("did", "DomainAdopted"), lambda: request_cancel(world.database, "cancelled", Asked("me"), outbox=False)
    )
    assert world.take("cancelled", world.worker(watched(OPERATIONS["adopt"], tell))) is None
    assert world.details("cancelled").job.state is JobState.CANCELLED
    assert domain(world).identity == mark
    assert world.run("adopted", "adopt").job.state is JobState.SUCCEEDED
    assert domain(world).identity == mark
    assert world.known.state is InstanceState.RUNNING


def test_an_adoption_that_fails_leaves_nothing(world: World) -> None:
    """Neither in the domain nor in the journal."""
    world.fake.fail("domains.mark", permanent(), after=True)
    failed = world.run("failed", "adopt")
    assert failed.job.state is JobState.FAILED
    assert domain(world).identity is None
    assert world.known.state is InstanceState.ABSENT


def test_what_cannot_be_adopted_is_refused_with_a_sentence(world: World) -> None:
    """No domain; one that is gone when it stops; a copy of another instance."""
    refused = {
        "has no definition: define it, then adopt it": replace(stranger(), persistent=False),
        "says that it is instance": mislabelled(uuid4()),
    }
    for number, (words, there) in enumerate(refused.items()):
        world.fake.domains.appears(world.instance, there)
        failed = world.run(f"refused-{number}", "adopt").job
        assert failed.state is JobState.FAILED
        assert failed.error is not None
        assert words in failed.error.message
        assert domain(world) == there
    elsewhere = World(world.database, world.fake)
    failed = elsewhere.run("absent", "adopt").job
    assert failed.error is not None
    assert f"has no domain {elsewhere.instance} to adopt" in failed.error.message
    assert elsewhere.known.state is InstanceState.ABSENT


@pytest.mark.parametrize("moment", ["look", "do", "did"])
@pytest.mark.parametrize("operation", ["adopt", "release"])
def test_a_worker_that_dies_leaves_it_to_the_next(world: World, operation: str, moment: str) -> None:
    """The effect is made once."""
    if operation == "release":
        world.run("adopted", "adopt")
    world.fake.effects.clear()
    world.submit("job", operation)
    tell = Listener((moment, OPERATIONS[operation].steps[0].name), die)
    with pytest.raises(Killed):
        world.take("job", world.worker(watched(OPERATIONS[operation], tell)))
    assert world.take_until_settled("job").job.state is JobState.SUCCEEDED
    assert len(world.effects) == 1


def test_a_host_that_cannot_be_asked_is_asked_later(world: World) -> None:
    """Both sides are looked at again."""
    line = HostError(ErrorClass.TRANSIENT, "the line is down")
    world.fake.fail("domains.owners", line, times=6)
    world.submit("adopted", "adopt")
    assert world.take_until_settled("adopted").job.state is JobState.SUCCEEDED
    assert world.effects == ["domains.mark"]
