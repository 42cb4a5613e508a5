"""Stepping: what a run comes to know about its steps, and what it is about to do.

The done of one step and the intent of the next are one commit. A cancel that was asked for is noticed here, in
the same transaction that would have committed the next intent, so that it can never be overlooked at the
point of no return.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from models.engine import Database, now_in_database
from models.journal.changing import apply
from models.journal.claiming import Lease
from models.journal.events import record_event
from models.records import (
    Change,
    DeviceAdded,
    ErrorRecord,
    Json,
)
from models.states import AttemptOutcome, Direction, EventType, JobState, StepState
from models.tables import devices, instances, jobs, step_attempts, steps


class OvertakenError(Exception):
    """The run's epoch has passed: somebody else claimed or superseded the job. Nothing was written."""


class TakenError(Exception):
    """What the intent reserves belongs to another instance; the message is one sentence. Nothing was written."""


@dataclass(frozen=True)
class Seen:
    """What a look told of one step, ready to be journaled: done, found or skipped, and what the inventory learns."""

    position: int
    state: StepState
    direction: Direction = Direction.DO
    changes: tuple[Change, ...] = ()
    passes_return: bool = False  #: now that it is true, there is only forward


@dataclass(frozen=True)
class Intend:
    """What the run is about to do."""

    position: int
    intent: Json
    direction: Direction = Direction.DO
    passes_return: bool = False  #: from here on there is only forward
    reserves: tuple[Change, ...] = ()  #: what the inventory holds for the instance from the intent on


@dataclass(frozen=True)
class Advanced:
    """What the run may do next: with ``cancelled`` nothing was intended, because a cancel was asked for."""

    cancelled: bool
    attempt: int = 0


# Statements of the hot path are built once: building one costs more than SQLite takes to run it.
_HOLD = (
    select(jobs)
    .where(
        jobs.c.id == bindparam("held"),
        jobs.c.epoch == bindparam("mine"),
        jobs.c.owner == bindparam("worker"),
        jobs.c.state == JobState.RUNNING,
    )
    .with_for_update()
)
_HOLD_INSTANCE = select(instances.c.id).where(instances.c.id == bindparam("of")).with_for_update()
_OWN_JOB = (jobs.c.id == bindparam("held"), jobs.c.epoch == bindparam("mine"))
_PASS_RETURN = update(jobs).where(*_OWN_JOB, jobs.c.past_return.is_(False)).values(past_return=True)
_OWN_STEP = (
    steps.c.job == bindparam("held"),
    steps.c.run == bindparam("of_run"),
    steps.c.direction == bindparam("way"),
    steps.c.position == bindparam("at"),
    steps.c.epoch == bindparam("mine"),
)
_STEP_ENDED = (
    update(steps)
    .where(*_OWN_STEP)
    .values(
        state=bindparam("new_state"),
        host=bindparam("on_host"),
        error=None,
        # one that is only looked at again ended when it ended; an intent takes that back
        ended_at=func.coalesce(steps.c.ended_at, now_in_database()),
    )
)
_STEP_ERRED = (
    update(steps)
    .where(*_OWN_STEP)
    .values(state=StepState.INTENDED, host=bindparam("on_host"), error=bindparam("new_error"))
)
_STEP_INTENDED = (
    update(steps)
    .where(*_OWN_STEP)
    .values(
        state=StepState.INTENDED,
        host=bindparam("on_host"),
        intent=bindparam("new_intent"),
        attempts=steps.c.attempts + 1,
        started_at=now_in_database(),
        ended_at=None,
    )
    .returning(steps.c.attempts)
)
_OWN_ATTEMPTS = (
    step_attempts.c.job == bindparam("held"),
    step_attempts.c.run == bindparam("of_run"),
    step_attempts.c.direction == bindparam("way"),
    step_attempts.c.position == bindparam("at"),
)
_ATTEMPT_BEGUN = insert(step_attempts).values(started_at=now_in_database())
_ATTEMPT_MADE = (
    update(step_attempts)
    .where(*_OWN_ATTEMPTS, step_attempts.c.outcome == AttemptOutcome.STARTED)
    .values(outcome=AttemptOutcome.MADE, ended_at=now_in_database())
)
_ATTEMPT_ERRED = (
    update(step_attempts)
    .where(*_OWN_ATTEMPTS, step_attempts.c.number == bindparam("attempt"))
    .values(outcome=AttemptOutcome.ERROR, ended_at=now_in_database(), error=bindparam("new_error"))
)


def hold(connection: Connection, lease: Lease) -> Any:  # noqa: ANN401  # a row of jobs
    """The job's row, locked until the transaction ends, if the lease still counts; else OvertakenError.

    The instance's row is locked before it, as a claim does.
    """
    connection.execute(_HOLD_INSTANCE, {"of": lease.job.instance})
    row = connection.execute(_HOLD, _held(lease) | {"worker": lease.worker}).one_or_none()
    if row is None:
        raise OvertakenError(f"job {lease.job.id}: epoch {lease.epoch} has passed")
    return row


def advance(database: Database, lease: Lease, seen: Sequence[Seen], intend: Intend | None) -> Advanced:
    """Journal what was seen, and what is intended next, in one commit.

    Raises TakenError when the intent reserves what another device has.
    """
    for last in (False, True):  # whoever had it may have let it go before it was asked who
        try:
            return _advance(database, lease, seen, intend)
        except IntegrityError as error:
            taken = _taken_by_another(database, lease, intend)
            if taken is not None:
                raise TakenError(taken) from error
            if last:
                raise
    raise AssertionError("unreachable: the last round returns or raises")


def _advance(database: Database, lease: Lease, seen: Sequence[Seen], intend: Intend | None) -> Advanced:
    with database.write() as connection:
        row = hold(connection, lease)
        past_return = record_seen(connection, lease, seen) or row.past_return
        if intend is None:
            return Advanced(cancelled=False)
        undoing = intend.direction is Direction.UNDO
        if row.cancel_requested_at is not None and not past_return and not undoing:
            return Advanced(cancelled=True)
        attempt = _record_intent(connection, lease, intend)
        if intend.passes_return and not past_return:
            pass_return(connection, lease)
        return Advanced(cancelled=False, attempt=attempt)


def pass_return(connection: Connection, lease: Lease) -> None:
    """From here on there is only forward; said once."""
    if connection.execute(_PASS_RETURN, _held(lease)).rowcount:
        record_event(connection, lease.job.id, lease.job.run, EventType.PAST_RETURN)


def _taken_by_another(database: Database, lease: Lease, intend: Intend | None) -> str | None:
    """Who has what the intent reserves, in a sentence; None if no other device has."""
    reserves = () if intend is None else intend.reserves
    for device in (change.device for change in reserves if isinstance(change, DeviceAdded)):
        itself = and_(
            devices.c.instance == lease.job.instance, devices.c.kind == device.kind, devices.c.key == device.key
        )
        same = or_(devices.c.exclusive == device.exclusive, devices.c.place == device.place)
        with database.read() as connection:
            row = connection.execute(select(devices).where(same, ~itself)).first()
        if row is not None:
            what = device.exclusive if row.exclusive == device.exclusive else device.place
            return f"{what} belongs to instance {row.instance} already, as its {row.kind} {row.key}"
    return None


def record_seen(connection: Connection, lease: Lease, seen: Sequence[Seen]) -> bool:
    """Write the rows of steps whose outcome is known, with what the inventory learns from each.

    True if one of them passed the point of no return.
    """
    passed = False
    for fact in seen:
        about = _of_step(lease, fact.direction, fact.position)
        _expect_one(
            connection.execute(_STEP_ENDED, about | {"new_state": fact.state, "on_host": lease.host}).rowcount,
            lease,
            fact.position,
        )
        if fact.state is StepState.DONE:
            connection.execute(_ATTEMPT_MADE, _without_epoch(about))
        for change in fact.changes:
            apply(connection, lease, change)
        if fact.passes_return:
            pass_return(connection, lease)
            passed = True
    return passed


def attempt_failed(  # noqa: PLR0913, PLR0917  # what the row is about
    database: Database, lease: Lease, direction: Direction, position: int, attempt: int, error: ErrorRecord
) -> None:
    """Journal that an attempt at a step ended in an error; the step stays intended."""
    with database.write() as connection:
        hold(connection, lease)
        about = _of_step(lease, direction, position)
        said = {"new_error": error.as_json()}
        _expect_one(connection.execute(_STEP_ERRED, about | said | {"on_host": lease.host}).rowcount, lease, position)
        connection.execute(_ATTEMPT_ERRED, _without_epoch(about) | said | {"attempt": attempt})


def _held(lease: Lease) -> dict[str, Any]:
    return {"held": lease.job.id, "mine": lease.epoch}


def _of_step(lease: Lease, direction: Direction, position: int) -> dict[str, Any]:
    return _held(lease) | {"of_run": lease.job.run, "way": direction, "at": position}


def _without_epoch(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if name != "mine"}


def _expect_one(written: int, lease: Lease, position: int) -> None:
    if written != 1:
        raise OvertakenError(f"job {lease.job.id}: step {position} is no longer of epoch {lease.epoch}")


def _record_intent(connection: Connection, lease: Lease, intend: Intend) -> int:
    about = _of_step(lease, intend.direction, intend.position)
    new = {"on_host": lease.host, "new_intent": dict(intend.intent)}
    written = connection.execute(_STEP_INTENDED, about | new).one_or_none()
    _expect_one(0 if written is None else 1, lease, intend.position)
    attempt: int = written.attempts if written is not None else 0
    for change in intend.reserves:
        apply(connection, lease, change)
    connection.execute(
        _ATTEMPT_BEGUN,
        {
            "job": lease.job.id,
            "run": lease.job.run,
            "direction": intend.direction,
            "position": intend.position,
            "number": attempt,
            "epoch": lease.epoch,
            "worker": lease.worker,
            "outcome": AttemptOutcome.STARTED,
        },
    )
    return attempt
