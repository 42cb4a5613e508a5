"""Telling a journal again what it has forgotten: jobs, instances, epochs and the host sequence, in one commit."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from models.journal.asking import Asked
from models.journal.claiming import NotNow
from models.journal.holding import OvertakenError, Seen
from models.journal.pruning import prune
from models.journal.recovering import begin, claims_of, open_recovery
from models.journal.repairing import Repairs, repair
from models.journal.settling import quarantine, settle, wait
from models.reading import instance as instance_record
from models.reading import job
from models.records import Device, DeviceAdded, Ending, ErrorRecord, InstanceRecord
from models.states import DeviceKind, Direction, ErrorClass, InstanceState, JobClass, JobState, StepState
from tests.builders import HOST, Desk, submission, time_passes

pytest_plugins = ["tests.builders"]

ASKED = Asked("cli:ann", "the disk died")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TROUBLE = ErrorRecord(ErrorClass.PERMANENT, "no")
VOLUME = Device(DeviceKind.VOLUME, "v1", {"n": 1}, exclusive="volume:v1", place="nbd://storage/v1")


def ending(desk: Desk, job_id: str, state: JobState = JobState.SUCCEEDED, **more: Any) -> Ending:
    """What a ledger tells of a run of this desk's instance."""
    sent = submission(job_id, instance=desk.instance)
    error = TROUBLE.as_json() if state is JobState.FAILED else None
    told = Ending(
        job=job_id,
        run=1,
        state=state,
        operation="spawn",
        operation_version=1,
        job_class=JobClass.SPAWN,
        instance_id=desk.instance,
        host=HOST,
        sent_to=HOST,
        home=HOST,
        payload_digest=sent.digest,
        epoch=7,
        error=error,
        outcome={"state": state.value, "error": error, "warnings": ["emulated"]},
        superseded_by=None,
        submitted_at=NOON,
        started_at=NOON,
        ended_at=NOON,
    )
    return replace(told, **more)


def living(desk: Desk, *devices: Device, state: InstanceState = InstanceState.RUNNING) -> InstanceRecord:
    """The desk's instance, as a ledger tells of it."""
    return InstanceRecord(desk.instance, "vm", HOST, state, 7, {"name": "vm"}, devices, state, "a")


def repaired(desk: Desk, *endings: Ending, instances: tuple[InstanceRecord, ...] = (), **more: Any) -> list[str]:
    """Begin a recovery, and have this told; what could not be."""
    begin(desk.database, HOST, "restored")
    found = open_recovery(desk.database, HOST)
    assert found is not None
    assert isinstance(desk.try_claim("whatever"), NotNow)
    sequence, left = repair(desk.database, found.number, HOST, Repairs(endings, instances, **more), ASKED)
    claims = claims_of(desk.database, HOST)
    assert claims is not None
    assert (claims.sequence, claims.recovering_because) == (sequence, None)
    assert open_recovery(desk.database, HOST) is None
    return left


def _queued(desk: Desk) -> None:
    desk.submit("a")


def _running(desk: Desk) -> None:
    desk.done(desk.begun("a"), 0)


def _waiting(desk: Desk) -> None:
    wait(desk.database, desk.begun("a"), timedelta(hours=1), TROUBLE)


def _quarantined(desk: Desk) -> None:
    quarantine(desk.database, desk.begun("a"), TROUBLE)


@pytest.mark.parametrize("before", [_queued, _running, _waiting, _quarantined])
@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_the_journal_has_not_ended_is_ended_as_it_was(desk: Desk, before: Any, state: JobState) -> None:
    """Whatever it is in the journal; with one final event, by the operator, and no step left open by a success."""
    before(desk)

    assert repaired(desk, ending(desk, "a", state)) == []

    details = desk.details("a")
    assert (details.job.state, details.job.outcome["warnings"]) == (state, ["emulated"])  # type: ignore[index]
    assert (details.job.error is not None) == (state is JobState.FAILED)
    assert [event.type for event in details.events[-2:]] == ["recovered", state.value]
    assert details.events[-1].actor == "cli:ann"
    if state is JobState.SUCCEEDED:
        made = [step for step in details.steps if step.direction is Direction.DO]
        assert {step.state for step in made} <= {StepState.DONE, StepState.FOUND, StepState.SKIPPED}
    assert isinstance(desk.try_claim("a"), NotNow)
    following = desk.begun("b")
    assert following.epoch > 8


def test_what_the_journal_knows_better_stays(desk: Desk) -> None:
    """A job that ended there, whatever the ledger says; a later run; a tombstone."""
    settle(desk.database, desk.begun("a"), JobState.FAILED, error=TROUBLE, outbox=False)
    before = desk.details("a")
    assert repaired(desk, ending(desk, "a")) == []
    assert desk.details("a") == before

    prune(desk.database, timedelta())
    assert repaired(desk, ending(desk, "a", run=2)) == []
    tombstone = job(desk.database, "a")
    assert tombstone is not None
    assert (tombstone.state, tombstone.run) == (JobState.FAILED, 1)


def test_a_job_that_the_journal_does_not_know_is_a_tombstone(desk: Desk) -> None:
    """Of its last run; it never runs again, and its instance is there, for whoever asks."""
    runs = (ending(desk, "a", JobState.FAILED), ending(desk, "a", run=2, epoch=9))

    assert repaired(desk, *runs) == []

    found = job(desk.database, "a")
    assert found is not None
    assert (found.state, found.run, found.pruned_at is not None, found.request) == (JobState.SUCCEEDED, 2, True, {})
    desk.submit("a")  # the same request is the same job
    assert desk.try_claim("a") == NotNow("it has succeeded")
    known = instance_record(desk.database, desk.instance)
    assert known is not None
    assert (known.state, known.epoch) == (InstanceState.ABSENT, 10)


def test_a_run_after_one_that_the_journal_has_ended_is_a_run_of_its_own(desk: Desk) -> None:
    """As a retry would have begun it; one of which the run between is missing is not made up."""
    settle(desk.database, desk.begun("a"), JobState.FAILED, error=TROUBLE, outbox=False)
    assert repaired(desk, ending(desk, "a", run=2)) == []
    assert (desk.job("a").state, desk.job("a").run) == (JobState.SUCCEEDED, 2)

    [sentence] = repaired(desk, ending(desk, "a", run=4))
    assert sentence == "job a had ended its run 4, and the journal has run 2: look at it"


def test_a_queued_job_behind_one_that_only_the_journal_has_begun_does_not_run_again(desk: Desk) -> None:
    """It is cancelled, and says what it had come to."""
    desk.begun("first")
    desk.submit("a")

    [sentence] = repaired(desk, ending(desk, "a"))

    assert sentence.startswith("job a is cancelled, so that it does not run again: it had succeeded before")
    assert (desk.job("a").state, desk.job("first").state) == (JobState.CANCELLED, JobState.RUNNING)


def test_an_instance_is_what_the_ledger_says(desk: Desk) -> None:
    """With just those devices; told twice it is the same."""
    lease = desk.begun("a")
    disk = Device(DeviceKind.DISK, "old", {})
    settle(
        desk.database,
        lease,
        JobState.SUCCEEDED,
        seen=[Seen(0, StepState.DONE, changes=(DeviceAdded(disk),))],
        outbox=False,
    )
    for _ in range(2):
        assert repaired(desk, instances=(living(desk, VOLUME, state=InstanceState.STOPPED),)) == []
    known = instance_record(desk.database, desk.instance)
    assert known is not None
    assert (known.state, known.devices, known.host, known.wanted) == (
        InstanceState.STOPPED, (VOLUME,), HOST, InstanceState.STOPPED,
    )  # fmt: skip


def test_volumes_that_changed_hands_are_with_whom_they_came_to(desk: Desk) -> None:
    """In whichever order they are told; what an instance that nobody tells of has is left to it, and said."""
    other = Desk(desk.database, desk.claimant, uuid4())
    assert repaired(desk, instances=(living(desk, VOLUME), living(other))) == []
    assert repaired(desk, instances=(living(other, VOLUME), living(desk))) == []
    [owner] = [each for each in (desk, other) if instance_record(desk.database, each.instance).devices]  # type: ignore[union-attr]
    assert owner is other

    [sentence] = repaired(desk, instances=(living(desk, VOLUME),))
    assert sentence.startswith(f"the volume v1 of instance {desk.instance} is another instance's in the journal")


def test_epochs_and_the_sequence_are_above_all_that_was_seen(desk: Desk) -> None:
    """Those of instances that the journal does not know, too; what it has higher stays above that."""
    desk.done(desk.begun("a"), 0)
    repaired(desk, epochs={desk.instance: 41, UUID(int=5): 3}, sequence=500)
    known, new = (instance_record(desk.database, each) for each in (desk.instance, UUID(int=5)))
    assert known is not None
    assert new is not None
    assert (known.epoch, new.epoch, new.state) == (42, 4, InstanceState.ABSENT)
    assert claims_of(desk.database, HOST).sequence == 501  # type: ignore[union-attr]
    repaired(desk, sequence=3)
    assert claims_of(desk.database, HOST).sequence == 502  # type: ignore[union-attr]


def test_a_run_under_way_is_fenced_as_the_recovery_begins(desk: Desk) -> None:
    """Though it has the very epoch that the journal has; afterwards it goes on under another."""
    lease = desk.begun("a")
    begin(desk.database, HOST, "restored")
    with pytest.raises(OvertakenError):
        desk.intend(lease)
    assert desk.try_claim("a") == NotNow("host h1 is in recovery: restored")
    begin(desk.database, HOST, "restored once more")
    found = open_recovery(desk.database, HOST)
    assert found is not None
    assert found.because == "restored"
    repair(desk.database, found.number, HOST, Repairs(epochs={desk.instance: lease.epoch}), ASKED)
    assert desk.claim("a").epoch == lease.epoch + 2
    time_passes(desk.database, "a")
