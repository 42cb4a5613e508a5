"""Holding: the lock under which a run writes, and what is written with it: what was seen, and what is intended.

The epoch stands on each row that is written, and the rows that were meant to be are counted. On PostgreSQL all of it is
one statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Connection,
    Integer,
    String,
    Uuid,
    and_,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from models.engine import now_in_database
from models.journal.changing import apply
from models.journal.claiming import Lease
from models.journal.events import record_event
from models.prepared import Listed, Prepared, Speaker, Values
from models.records import Change, Json
from models.states import AttemptOutcome, Direction, EventType, JobState, StepState
from models.tables import instances, jobs, step_attempts, steps


class OvertakenError(Exception):
    """The run's epoch has passed: somebody else claimed or superseded the job. Nothing was written."""


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


_INSTANCE_HELD = select(instances.c.id).where(instances.c.id == bindparam("of")).with_for_update().cte("instance_held")
#: The job's row, if the lease still counts. The instance's row is locked before it, as a claim does.
_HELD = (
    select(jobs.c.id, jobs.c.cancel_requested_at, jobs.c.past_return)
    .where(
        jobs.c.id == bindparam("held"),
        jobs.c.epoch == bindparam("mine"),
        jobs.c.owner == bindparam("worker"),
        jobs.c.state == JobState.RUNNING,
        select(_INSTANCE_HELD.c.id).exists(),
    )
    .with_for_update()
)
_HOLD = Prepared(_HELD)
_OWN_JOB = (jobs.c.id == bindparam("held"), jobs.c.epoch == bindparam("mine"))
_PASS_RETURN = Prepared(update(jobs).where(*_OWN_JOB, jobs.c.past_return.is_(False)).values(past_return=True))
_UNDER_MY_EPOCH = (
    steps.c.run == bindparam("of_run"),
    steps.c.epoch == bindparam("mine"),
)
OWN_STEP = (
    steps.c.job == bindparam("held"),
    steps.c.direction == bindparam("way"),
    steps.c.position == bindparam("at"),
    *_UNDER_MY_EPOCH,
)
_ENDED: dict[str, Any] = {
    "host": bindparam("on_host"),
    "error": None,
    # one that is only looked at again ended when it ended; an intent takes that back
    "ended_at": func.coalesce(steps.c.ended_at, now_in_database()),
}
_STEP_ENDED = Prepared(update(steps).where(*OWN_STEP).values(**_ENDED, state=bindparam("new_state")))
_INTENDED: dict[str, Any] = {
    "state": StepState.INTENDED,
    "host": bindparam("on_host"),
    "intent": bindparam("new_intent"),
    "attempts": steps.c.attempts + 1,
    "started_at": now_in_database(),
    "ended_at": None,
}
_STEP_INTENDED = Prepared(update(steps).where(*OWN_STEP).values(**_INTENDED).returning(steps.c.attempts))
OWN_ATTEMPTS = (
    step_attempts.c.job == bindparam("held"),
    step_attempts.c.run == bindparam("of_run"),
    step_attempts.c.direction == bindparam("way"),
    step_attempts.c.position == bindparam("at"),
)
_ATTEMPT_BEGUN = Prepared(
    insert(step_attempts).values(
        job=bindparam("held"),
        run=bindparam("of_run"),
        direction=bindparam("way"),
        position=bindparam("at"),
        number=bindparam("attempt"),
        epoch=bindparam("mine"),
        worker=bindparam("by_worker"),
        outcome=AttemptOutcome.STARTED,
        started_at=now_in_database(),
    )
)
_MADE: dict[str, Any] = {"outcome": AttemptOutcome.MADE, "ended_at": now_in_database()}
_ATTEMPT_MADE = Prepared(
    update(step_attempts).where(*OWN_ATTEMPTS, step_attempts.c.outcome == AttemptOutcome.STARTED).values(**_MADE)
)


def _in_one(*, intending: bool) -> Prepared:
    """For PostgreSQL: hold the lease, write what was seen and, when ``intending``, the intent, in one statement.

    Each part writes only what the lease that was held gives it, under the epoch on the row that it changes; and nothing
    is written unless all the rows that are meant are there under that epoch. So it may be a transaction of its own.
    """
    locked = _HELD.cte("locked")
    seen = (
        func.unnest(
            cast(bindparam("seen_ways", type_=Listed()), ARRAY(String)),
            cast(bindparam("seen_at", type_=Listed()), ARRAY(Integer)),
            cast(bindparam("seen_states", type_=Listed()), ARRAY(String)),
        )
        .table_valued(column("way", String), column("at", Integer), column("state", String), name="seen")
        .render_derived()
    )
    # the job's id as a value, too, so that a plan made while the tables were small finds the rows by their key
    own = (steps.c.job == bindparam("held"), *_UNDER_MY_EPOCH)
    # its rows change under this lock alone, so that they can be counted as they were when the statement began
    meant = and_(steps.c.direction == bindparam("way"), steps.c.position == bindparam("at"))
    there = select(func.count()).select_from(
        seen.join(steps, and_(*own, steps.c.direction == seen.c.way, steps.c.position == seen.c.at))
    )
    sound = there.scalar_subquery() == func.cardinality(cast(bindparam("seen_at", type_=Listed()), ARRAY(Integer)))
    if intending:
        sound = and_(sound, select(steps.c.position).where(*own, meant).exists())
    held = select(locked).where(sound).cte("held")
    ended = (
        update(steps)
        .where(steps.c.job == held.c.id, *own, steps.c.direction == seen.c.way, steps.c.position == seen.c.at)
        .values(**_ENDED, state=seen.c.state)
        .returning(steps.c.direction, steps.c.position, steps.c.state)
        .cte("ended")
    )
    made = (
        update(step_attempts)
        .where(
            step_attempts.c.job == bindparam("held"),
            step_attempts.c.run == bindparam("of_run"),
            step_attempts.c.direction == ended.c.direction,
            step_attempts.c.position == ended.c.position,
            step_attempts.c.outcome == AttemptOutcome.STARTED,
            ended.c.state == StepState.DONE,
        )
        .values(**_MADE)
        .cte("made")
    )
    shown = [locked.c.cancel_requested_at, locked.c.past_return, select(held.c.id).exists().label("sound")]
    if not intending:
        return Prepared(select(*shown).add_cte(made))
    intended = (
        update(steps)
        .where(
            steps.c.job == held.c.id,
            *own,
            meant,
            or_(held.c.cancel_requested_at.is_(None), held.c.past_return, bindparam("regardless", type_=Boolean)),
        )
        .values(**_INTENDED)
        .returning(steps.c.attempts)
        .cte("intended")
    )
    begun = (
        insert(step_attempts)
        .from_select(
            ["job", "run", "direction", "position", "number", "epoch", "worker", "outcome", "started_at"],
            select(
                bindparam("held", type_=String),
                bindparam("of_run", type_=Integer),
                bindparam("way", type_=String),
                bindparam("at", type_=Integer),
                intended.c.attempts,
                bindparam("mine", type_=BigInteger),
                bindparam("worker", type_=Uuid),
                literal(AttemptOutcome.STARTED.value),
                now_in_database(),
            ),
        )
        .cte("begun")
    )
    attempt = select(intended.c.attempts).scalar_subquery().label("attempts")
    return Prepared(select(*shown, attempt).add_cte(made, begun))


_HOLD_AND_RECORD = _in_one(intending=False)
_HOLD_RECORD_AND_INTEND = _in_one(intending=True)


@dataclass(frozen=True)
class Held:
    """A job's row that is locked until the transaction ends, with what was seen written."""

    cancel_requested: bool
    past_return: bool
    attempt: int = 0  #: of the step that is intended, where one is


def hold(connection: Connection, lease: Lease, seen: Sequence[Seen] = ()) -> Held:
    """Lock the job's row until the transaction ends, and write what was seen, if the lease still counts.

    Else it raises OvertakenError. The instance's row is locked before it, as a claim does.
    """
    return hold_and_intend(connection, lease, seen, None)


def hold_and_intend(connection: Speaker, lease: Lease, seen: Sequence[Seen], intend: Intend | None) -> Held:
    """`hold`, and write the intent, if no cancel is in its way; what it reserves is not written yet."""
    passes = any(fact.passes_return for fact in seen)
    regardless = passes or (intend is not None and intend.direction is Direction.UNDO)
    asked = _held(lease) | {"worker": lease.worker, "of": lease.job.instance}
    if connection.dialect.name == "postgresql":
        row = _hold_in_one(connection, lease, asked, seen, intend, regardless=regardless)
    else:
        row = _HOLD.row(connection, asked)
    if row is None:
        raise OvertakenError(f"job {lease.job.id}: epoch {lease.epoch} has passed")
    cancelled = row.cancel_requested_at is not None and not row.past_return and not regardless
    attempt = 0
    if connection.dialect.name == "postgresql":
        expect(int(row.sound), 1, lease, "what was seen or is intended")
        if intend is not None and not cancelled:
            attempt = row.attempts
    else:
        _record_ended(connection, lease, seen)
        if intend is not None and not cancelled:
            attempt = _record_intent(connection, lease, intend)
    for fact in seen:
        for change in fact.changes:
            apply(connection, lease, change)
    if passes:
        pass_return(connection, lease)
    return Held(row.cancel_requested_at is not None, row.past_return or passes, attempt)


def _hold_in_one(  # noqa: PLR0913  # what the statement is about
    connection: Speaker,
    lease: Lease,
    asked: Values,
    seen: Sequence[Seen],
    intend: Intend | None,
    *,
    regardless: bool,
) -> Any:  # noqa: ANN401  # its row
    asked = {
        **asked,
        "of_run": lease.job.run,
        "on_host": lease.host,
        "seen_ways": [fact.direction.value for fact in seen],
        "seen_at": [fact.position for fact in seen],
        "seen_states": [fact.state.value for fact in seen],
    }
    if intend is None:
        return _HOLD_AND_RECORD.row(connection, asked)
    new = {"new_intent": dict(intend.intent), "way": intend.direction, "at": intend.position, "regardless": regardless}
    return _HOLD_RECORD_AND_INTEND.row(connection, asked | new)


def pass_return(connection: Speaker, lease: Lease) -> None:
    """From here on there is only forward; said once."""
    if _PASS_RETURN.run(connection, _held(lease)):
        record_event(connection, lease.job.id, lease.job.run, EventType.PAST_RETURN)


def _record_ended(connection: Speaker, lease: Lease, seen: Sequence[Seen]) -> None:
    if not seen:
        return
    about = [
        of_step(lease, fact.direction, fact.position) | {"new_state": fact.state, "on_host": lease.host}
        for fact in seen
    ]
    expect(_STEP_ENDED.run_each(connection, about), len(seen), lease, "what was seen")
    made = [each for each, fact in zip(about, seen, strict=True) if fact.state is StepState.DONE]
    if made:
        _ATTEMPT_MADE.run_each(connection, made)


def _held(lease: Lease) -> dict[str, Any]:
    return {"held": lease.job.id, "mine": lease.epoch}


def of_step(lease: Lease, direction: Direction, position: int) -> dict[str, Any]:
    """The values that say which step of the lease's run is meant."""
    return _held(lease) | {"of_run": lease.job.run, "way": direction, "at": position}


def expect(written: int, wanted: int, lease: Lease, what: str) -> None:
    """Raise OvertakenError unless as many rows were written as were meant to be."""
    if written != wanted:
        raise OvertakenError(f"job {lease.job.id}: {what} is no longer of epoch {lease.epoch}")


def _record_intent(connection: Speaker, lease: Lease, intend: Intend) -> int:
    about = of_step(lease, intend.direction, intend.position)
    new = {"on_host": lease.host, "new_intent": dict(intend.intent)}
    written = _STEP_INTENDED.row(connection, about | new)
    expect(0 if written is None else 1, 1, lease, f"step {intend.position}")
    attempt: int = written.attempts if written is not None else 0
    _ATTEMPT_BEGUN.run(connection, about | {"attempt": attempt, "by_worker": lease.worker})
    return attempt
