"""Stepping: what a run comes to know about its steps, and what it is about to do.

The done of one step and the intent of the next are one commit. A cancel that was asked for is noticed here, in
the same transaction that would have committed the next intent, so that it can never be overlooked at the
point of no return.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from models.engine import Database, now_in_database
from models.journal.claiming import Lease
from models.journal.events import record_event
from models.reading import devices_of, steps_of
from models.records import (
    Change,
    Device,
    DeviceAdded,
    DeviceRemoved,
    ErrorRecord,
    InstanceIs,
    Json,
    StepRecord,
)
from models.states import AttemptOutcome, Direction, EventType, JobState, StepState, Verdict
from models.tables import devices, instances, jobs, step_attempts, steps


class OvertakenError(Exception):
    """The run's epoch has passed: somebody else claimed or superseded the job. Nothing was written."""


@dataclass(frozen=True)
class Seen:
    """What a look told of one step, ready to be journaled: done, found or skipped, and what the inventory learns."""

    position: int
    state: StepState
    direction: Direction = Direction.DO
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Intend:
    """What the run is about to do."""

    position: int
    intent: Json
    direction: Direction = Direction.DO
    passes_return: bool = False  #: from here on there is only forward


@dataclass(frozen=True)
class Advanced:
    """What the run may do next: with ``cancelled`` nothing was intended, because a cancel was asked for."""

    cancelled: bool
    attempt: int
    devices: tuple[Device, ...]


def hold(connection: Connection, lease: Lease) -> Any:  # noqa: ANN401  # a row of jobs
    """The job's row, locked until the transaction ends, if the lease still counts; else OvertakenError."""
    row = connection.execute(
        select(jobs)
        .where(
            jobs.c.id == lease.job.id,
            jobs.c.epoch == lease.epoch,
            jobs.c.owner == lease.worker,
            jobs.c.state == JobState.RUNNING,
        )
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise OvertakenError(f"job {lease.job.id}: epoch {lease.epoch} has passed")
    return row


def advance(database: Database, lease: Lease, seen: Sequence[Seen], intend: Intend | None) -> Advanced:
    """Journal what was seen, and what is intended next, in one commit."""
    with database.write() as connection:
        row = hold(connection, lease)
        record_seen(connection, lease, seen)
        if intend is None:
            return Advanced(cancelled=False, attempt=0, devices=devices_of(connection, lease.job.instance))
        undoing = intend.direction is Direction.UNDO
        if row.cancel_requested_at is not None and not row.past_return and not undoing:
            return Advanced(cancelled=True, attempt=0, devices=())
        attempt = _record_intent(connection, lease, intend)
        if intend.passes_return and not row.past_return:
            connection.execute(_fenced(lease).values(past_return=True))
        return Advanced(cancelled=False, attempt=attempt, devices=devices_of(connection, lease.job.instance))


def record_seen(connection: Connection, lease: Lease, seen: Sequence[Seen]) -> None:
    """Write the rows of steps whose outcome is known, with what the inventory learns from each."""
    for fact in seen:
        _write_step(connection, lease, fact.direction, fact.position, state=fact.state, error=None, ended=True)
        if fact.state is StepState.DONE:
            connection.execute(
                update(step_attempts)
                .where(
                    *_attempts_of(lease, fact.direction, fact.position),
                    step_attempts.c.outcome == AttemptOutcome.STARTED,
                )
                .values(outcome=AttemptOutcome.MADE, ended_at=now_in_database())
            )
        for change in fact.changes:
            _apply(connection, lease, change)
    if seen:
        connection.execute(_fenced(lease).values(waits=0))


def attempt_failed(  # noqa: PLR0913, PLR0917  # what the row is about
    database: Database, lease: Lease, direction: Direction, position: int, attempt: int, error: ErrorRecord
) -> None:
    """Journal that an attempt at a step ended in an error; the step stays intended."""
    with database.write() as connection:
        hold(connection, lease)
        _write_step(connection, lease, direction, position, state=StepState.INTENDED, error=error, ended=False)
        connection.execute(
            update(step_attempts)
            .where(*_attempts_of(lease, direction, position), step_attempts.c.number == attempt)
            .values(outcome=AttemptOutcome.ERROR, ended_at=now_in_database(), error=error.as_json())
        )


def begin_undo(
    database: Database, lease: Lease, verdict: Verdict, error: ErrorRecord | None, seen: Sequence[Seen]
) -> tuple[StepRecord, ...]:
    """Turn the run round: give every step with an intent of this run a row to be undone in; the run's steps now."""
    with database.write() as connection:
        hold(connection, lease)
        record_seen(connection, lease, seen)
        intended = connection.execute(
            select(steps.c.position, steps.c.name).where(
                steps.c.job == lease.job.id,
                steps.c.run == lease.job.run,
                steps.c.direction == Direction.DO,
                steps.c.intent.is_not(None),
                steps.c.state.in_([StepState.INTENDED, StepState.DONE]),
            )
        ).all()
        if intended:
            connection.execute(
                insert(steps),
                [
                    {
                        "job": lease.job.id,
                        "run": lease.job.run,
                        "direction": Direction.UNDO,
                        "position": step.position,
                        "name": step.name,
                        "state": StepState.PENDING,
                        "epoch": lease.epoch,
                        "attempts": 0,
                    }
                    for step in intended
                ],
            )
        connection.execute(
            _fenced(lease).values(verdict=verdict, error=None if error is None else error.as_json(), waits=0)
        )
        record_event(
            connection,
            lease.job.id,
            lease.job.run,
            EventType.UNDOING,
            data={"verdict": verdict.value, "error": None if error is None else error.as_json()},
        )
        return steps_of(connection, lease.job.id, lease.job.run)


def _fenced(lease: Lease) -> Any:  # noqa: ANN401  # an update of the job's row
    return update(jobs).where(jobs.c.id == lease.job.id, jobs.c.epoch == lease.epoch)


def _attempts_of(lease: Lease, direction: Direction, position: int) -> tuple[Any, ...]:
    return (
        step_attempts.c.job == lease.job.id,
        step_attempts.c.run == lease.job.run,
        step_attempts.c.direction == direction,
        step_attempts.c.position == position,
    )


def _step_rows(lease: Lease, direction: Direction, position: int) -> tuple[Any, ...]:
    return (
        steps.c.job == lease.job.id,
        steps.c.run == lease.job.run,
        steps.c.direction == direction,
        steps.c.position == position,
        steps.c.epoch == lease.epoch,
    )


def _write_step(  # noqa: PLR0913  # the columns of one row
    connection: Connection,
    lease: Lease,
    direction: Direction,
    position: int,
    *,
    state: StepState,
    error: ErrorRecord | None,
    ended: bool,
) -> None:
    values: dict[str, Any] = {
        "state": state,
        "host": lease.host,
        "error": None if error is None else error.as_json(),
    }
    if ended:
        values["ended_at"] = now_in_database()
    written = connection.execute(update(steps).where(*_step_rows(lease, direction, position)).values(**values))
    if written.rowcount != 1:
        raise OvertakenError(f"job {lease.job.id}: step {position} is no longer of epoch {lease.epoch}")


def _record_intent(connection: Connection, lease: Lease, intend: Intend) -> int:
    written = connection.execute(
        update(steps)
        .where(*_step_rows(lease, intend.direction, intend.position))
        .values(
            state=StepState.INTENDED,
            host=lease.host,
            intent=dict(intend.intent),
            attempts=steps.c.attempts + 1,
            started_at=now_in_database(),
            ended_at=None,
        )
        .returning(steps.c.attempts)
    ).one_or_none()
    if written is None:
        raise OvertakenError(f"job {lease.job.id}: step {intend.position} is no longer of epoch {lease.epoch}")
    attempt: int = written.attempts
    connection.execute(
        insert(step_attempts).values(
            job=lease.job.id,
            run=lease.job.run,
            direction=intend.direction,
            position=intend.position,
            number=attempt,
            epoch=lease.epoch,
            worker=lease.worker,
            outcome=AttemptOutcome.STARTED,
            started_at=now_in_database(),
        )
    )
    return attempt


def _apply(connection: Connection, lease: Lease, change: Change) -> None:
    instance = lease.job.instance
    match change:
        case DeviceAdded(device):
            mine = (devices.c.instance == instance, devices.c.kind == device.kind, devices.c.key == device.key)
            connection.execute(delete(devices).where(*mine))
            connection.execute(
                insert(devices).values(
                    instance=instance, kind=device.kind, key=device.key, details=dict(device.details)
                )
            )
        case DeviceRemoved(kind, key):
            connection.execute(
                delete(devices).where(devices.c.instance == instance, devices.c.kind == kind, devices.c.key == key)
            )
        case InstanceIs(state):
            connection.execute(
                update(instances)
                .where(instances.c.id == instance, instances.c.epoch == lease.epoch)
                .values(state=state, updated_at=now_in_database())
            )
