"""A boot of a host is answered once: in one commit with the jobs that start what was lost."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

import migrations
from models.engine import Database
from models.journal.booting import Boot, answer_boot
from models.journal.settling import settle
from models.reading import instance as instance_record
from models.reading import list_jobs
from models.states import InstanceState, JobState
from models.submission import Submission
from tests.builders import HOST, Desk, enrolled, submission

pytest_plugins = ["tests.builders"]

ENDING = ("stop", "destroy")


def start(instance: UUID) -> Submission:
    """What is asked for each."""
    return submission(f"start.{instance}", "start", instance=instance)


def wanted(desk: Desk, instance: UUID, state: InstanceState, *, host: str = HOST) -> UUID:
    """An instance of which a job has come to make that."""
    job = f"made.{instance}"
    desk.submit(job, instance=instance, host=host)
    lease = desk.claim(job)
    assert settle(desk.database, lease, JobState.SUCCEEDED, wanted_as=state, outbox=False)
    return instance


def answer(desk: Desk, boot_id: str, *, of: Callable[[UUID], Submission] | None = start) -> Boot | None:
    """The host has come up in that boot."""
    return answer_boot(desk.database, HOST, boot_id, of, ending=ENDING)


def starts(desk: Desk) -> set[str]:
    """The starts that were asked for."""
    return {job.id for job in list_jobs(desk.database) if job.operation == "start"}


def test_the_first_boot_that_is_known_tells_nothing(desk: Desk) -> None:
    """A worker came to a host whose guests run."""
    wanted(desk, desk.instance, InstanceState.RUNNING)
    assert answer(desk, "first") is None
    assert answer(desk, "first") is None
    assert starts(desk) == set()


def test_what_is_to_run_is_started_once_per_boot(desk: Desk) -> None:
    """And nothing else is."""
    running = wanted(desk, desk.instance, InstanceState.RUNNING)
    for other in (InstanceState.STOPPED, InstanceState.PAUSED, InstanceState.SUSPENDED, InstanceState.DELETED):
        wanted(desk, uuid4(), other)
    answer(desk, "first")
    boot = answer(desk, "second")
    assert boot == Boot((f"start.{running}",), ())
    assert answer(desk, "second") is None
    assert starts(desk) == {f"start.{running}"}


def test_an_instance_of_another_host_is_left_alone(desk: Desk) -> None:
    """It was moved, and lives on."""
    wanted(desk, desk.instance, InstanceState.RUNNING)
    with desk.database.write() as connection:
        connection.exec_driver_sql("UPDATE instances SET host = 'h2'")
    answer(desk, "first")
    assert answer(desk, "second") == Boot((), ())


def test_a_boot_that_was_not_to_be_answered_is_not_answered_later(desk: Desk) -> None:
    """Whoever turns the setting on means the next boot."""
    wanted(desk, desk.instance, InstanceState.RUNNING)
    answer(desk, "first")
    assert answer(desk, "second", of=None) == Boot((), ())
    assert answer(desk, "second") is None
    assert starts(desk) == set()


@pytest.mark.parametrize("operation", [*ENDING, "attach_volume"])
def test_a_job_that_ends_the_guest_decides_instead(desk: Desk, operation: str) -> None:
    """Behind a stop that the boot has cut off, a start would undo what was asked for; behind an attach it is right."""
    wanted(desk, desk.instance, InstanceState.RUNNING)
    answer(desk, "first")
    desk.submit("open", operation)
    boot = answer(desk, "second")
    expected = Boot((), ((desk.instance, "open"),)) if operation in ENDING else Boot((f"start.{desk.instance}",), ())
    assert boot == expected


def test_a_start_that_cannot_be_accepted_leaves_the_boot_unanswered(desk: Desk) -> None:
    """The next worker answers it whole."""
    instances = [wanted(desk, uuid4(), InstanceState.RUNNING) for _ in range(2)]
    answer(desk, "first")

    def cut_off(instance: UUID) -> Submission:
        if starting:
            raise ConnectionError("the journal went away")
        starting.append(instance)
        return start(instance)

    starting: list[UUID] = []
    with pytest.raises(ConnectionError):
        answer(desk, "second", of=cut_off)
    assert starts(desk) == set()
    boot = answer(desk, "second")
    assert boot is not None
    assert set(boot.started) == {f"start.{instance}" for instance in instances}


def test_only_a_success_changes_what_is_wanted(desk: Desk) -> None:
    """A stop that failed was undone: the guest is to run, as before."""
    wanted(desk, desk.instance, InstanceState.RUNNING)
    lease = desk.begun("failed")
    settle(desk.database, lease, JobState.FAILED, outbox=False)
    found = instance_record(desk.database, desk.instance)
    assert found is not None
    assert found.wanted is InstanceState.RUNNING


def test_instances_of_an_earlier_revision_are_wanted_as_they_are(sqlite_journal: Database) -> None:
    """Whoever updates need not start and stop everything once."""
    desk = Desk(sqlite_journal, enrolled(sqlite_journal))
    desk.begun("building")
    running = wanted(desk, uuid4(), InstanceState.STOPPED)
    with sqlite_journal.write() as connection:
        connection.exec_driver_sql("UPDATE instances SET state = 'running' WHERE wanted = 'stopped'")
    migrations.downgrade(sqlite_journal, "0005")
    migrations.upgrade(sqlite_journal)
    found = {each: instance_record(sqlite_journal, each) for each in (running, desk.instance)}
    assert {each: record and record.wanted for each, record in found.items()} == {
        running: InstanceState.RUNNING,
        desk.instance: None,
    }
