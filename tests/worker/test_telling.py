"""What a person is told of a job's error."""

from dataclasses import replace
from uuid import UUID

import pytest

from models.engine import Database
from models.records import ErrorRecord
from models.states import ErrorClass, JobState
from tests.fake_host import FakeHost
from tests.worker.world import World, permanent
from worker.telling import in_full

pytest_plugins = ["tests.builders"]

INSTANCE = UUID("6f1d1f0e-6d3c-4d3c-9d6e-0d6f6a1c2b3d")
FULL = ErrorRecord(ErrorClass.PERMANENT, "it will never work.", "SYSTEM_ERROR", "QEMU", 5)


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A journal and a host."""
    return World(sqlite_journal, fake, INSTANCE)


@pytest.mark.parametrize(
    ("error_class", "state", "what", "advice"),
    [
        ("permanent", "failed", "failed at Step", "mend that or ask for something else, then: hostler jobs retry a"),
        ("conflict", "failed", "failed at Step", "once it is out of the way: hostler jobs retry a"),
        ("resource", "failed", "failed at Step", "free some there, then: hostler jobs retry a"),
        ("internal", "failed", "failed at Step", "a defect of Hostler: report it, with the worker's log"),
        ("transient", "waiting", "waits at Step", "it is tried again by itself; hostler doctor, on h2"),
        ("unknown", "quarantined", "is quarantined at Step", "until you say hostler jobs resume a, or skip, or settle"),
    ],
)
def test_a_sentence_says_what_failed_where_for_whom_and_what_to_do(
    world: World, error_class: str, state: str, what: str, advice: str
) -> None:
    """One line, whatever the class; the message and libvirt's numbers stay beside it."""
    world.submit("a")
    error = replace(FULL, error_class=ErrorClass(error_class))
    told = in_full(error, world.details("a").job, "h2", JobState(state), "Step")
    assert replace(told, sentence=None) == error
    assert told.sentence == told.told
    assert told.told.startswith(f"spawn of instance {INSTANCE} on host h2 {what}: it will never work; ")
    assert advice in told.told
    assert ErrorRecord.from_json(told.as_json()) == told


def test_without_a_step_none_is_named(world: World) -> None:
    """A job that could not even be read."""
    world.submit("a", "transmogrify")
    world.take("a")
    error = world.details("a").job.error
    assert error is not None
    assert error.told.startswith(f"transmogrify of instance {INSTANCE} on host h1 is quarantined: this worker knows no")


def test_a_failed_jobs_outcome_and_history_have_the_sentence(world: World) -> None:
    """Of the step that failed, not of one that was undone since."""
    world.fake.fail("domains.wait_running", permanent())
    details = world.run("a")
    assert details.job.error is not None
    assert "failed at DomainRunning: it will never work; mend that" in details.job.error.told
    assert details.job.outcome is not None
    assert details.job.outcome["error"] == details.job.error.as_json()
    assert details.events[-1].data["error"] == details.job.error.as_json()
