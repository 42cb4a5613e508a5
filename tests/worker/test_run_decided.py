"""What becomes of a job that an operator has decided on: resumed, told what to skip, cancelled, retried."""

from dataclasses import replace

import pytest

from models.engine import Database
from models.journal.asking import Asked, request_cancel
from models.journal.deciding import resume, retry, settle_by_hand, skip
from models.states import Direction, ErrorClass, InstanceState, JobState, StepState
from tasks.destroy import destroy
from tasks.spawn import spawn
from tests.builders import watched
from tests.fake_host import FakeHost, Killed
from tests.worker.world import Listener, World, die, error_class, permanent, states

pytest_plugins = ["tests.builders"]

OPS = Asked("ops", "I looked")


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A journal and a host on which nothing has happened."""
    return World(sqlite_journal, fake)


def test_an_undo_that_failed_is_finished_by_resuming(world: World) -> None:
    """The job fails with the error that turned it round, and leaves nothing."""
    world.fake.fail("domains.start", permanent("no"))
    world.fake.fail("domains.undefine", permanent("it cannot be undefined"))
    assert world.run("a").job.state is JobState.QUARANTINED
    assert resume(world.database, "a", OPS, outbox=False).taken
    assert world.take("a") is None
    details = world.details("a")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert world.leftovers == ()


def test_an_undo_that_is_skipped_leaves_what_the_operator_wants_left(world: World) -> None:
    """Everything else is undone, and the domain stays."""
    world.fake.fail("domains.start", permanent("no"))
    world.fake.fail("domains.undefine", permanent("it cannot be undefined"))
    world.run("a")
    assert skip(world.database, "a", OPS, step="DomainDefined").taken
    resume(world.database, "a", OPS, outbox=False)
    world.take("a")
    details = world.details("a")
    assert details.job.state is JobState.FAILED
    assert states(details, Direction.UNDO)["DomainDefined"] is StepState.SKIPPED
    assert world.fake.domains.find(world.instance) is not None


def test_a_skipped_step_is_neither_looked_at_nor_done(world: World) -> None:
    """A destroy that cannot remove the definition goes on to what else there is, by the operator's word."""
    world.run("a")
    world.fake.fail("domains.undefine", permanent())
    assert world.run("d", "destroy").job.state is JobState.QUARANTINED
    world.fake.effects.clear()
    assert skip(world.database, "d", OPS, step="DomainUndefined").taken
    assert resume(world.database, "d", OPS, outbox=False).taken
    assert world.take("d") is None
    details = world.details("d")
    assert details.job.state is JobState.SUCCEEDED
    assert states(details)["DomainUndefined"] is StepState.SKIPPED
    assert "domains.undefine" not in world.effects


def test_a_job_resumed_from_a_step_begins_there(world: World) -> None:
    """Nothing before is looked at, whatever became of it."""
    world.run("a")
    world.fake.fail("domains.undefine", permanent())
    world.run("d", "destroy")
    assert resume(world.database, "d", OPS, outbox=False, from_step="VolumesDisconnected").taken
    listener = Listener()
    assert world.take("d", world.worker(watched(destroy, listener))) is None
    assert listener.steps("look")[0] == "VolumesDisconnected"
    assert world.details("d").job.state is JobState.SUCCEEDED


def test_a_quarantined_job_that_is_cancelled_is_undone(world: World) -> None:
    """A worker that knows its steps takes back what another one made."""
    world.submit("a")
    with pytest.raises(Killed):
        world.take("a", world.worker(watched(spawn, Listener(("look", "DomainDefined"), die))))
    world.take("a", world.worker(replace(spawn, steps=spawn.steps[:-1])))
    assert world.details("a").job.state is JobState.QUARANTINED
    assert request_cancel(world.database, "a", OPS, outbox=False).taken
    assert world.take("a") is None
    assert world.details("a").job.state is JobState.CANCELLED
    assert world.leftovers == ()


def test_a_job_that_nobody_can_read_is_settled_and_gives_its_instance_free(world: World) -> None:
    """The next job of the instance is taken."""
    world.submit("a", request={"name": "vm", "memory_mib": 64, "disk_gib": 1, "colour": "blue"})
    world.take("a")
    assert world.details("a").job.state is JobState.QUARANTINED
    assert settle_by_hand(world.database, "a", OPS, succeeded=False, outbox=False).taken
    world.run("b")
    assert world.known.state is InstanceState.RUNNING


def test_a_failed_job_that_is_retried_does_it_all(world: World) -> None:
    """Its second run is the first of a new job, but for its id."""
    world.fake.fail("domains.start", permanent("no"))
    assert world.run("a").job.state is JobState.FAILED
    assert retry(world.database, "a", OPS, outbox=False).taken
    listener = Listener()
    assert world.take("a", world.worker(watched(spawn, listener))) is None
    details = world.details("a")
    assert (details.job.state, details.job.run, details.job.error) == (JobState.SUCCEEDED, 2, None)
    assert world.known.state is InstanceState.RUNNING
