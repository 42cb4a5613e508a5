"""Stepping: what a run comes to know about its steps, and what it is about to do.

The done of one step and the intent of the next are one commit. A cancel that was asked for is noticed here, in
the same transaction that would have committed the next intent, so that it can never be overlooked at the
point of no return.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, bindparam, or_, select, update
from sqlalchemy.exc import IntegrityError

from models.engine import Database, now_in_database
from models.journal.changing import apply
from models.journal.claiming import Lease
from models.journal.holding import (
    OWN_ATTEMPTS,
    OWN_STEP,
    Intend,
    Seen,
    expect,
    hold,
    hold_and_intend,
    of_step,
    pass_return,
)
from models.prepared import Prepared
from models.records import DeviceAdded, ErrorRecord
from models.states import AttemptOutcome, Direction, StepState
from models.tables import devices, step_attempts, steps


class TakenError(Exception):
    """What the intent reserves belongs to another instance; the message is one sentence. Nothing was written."""


@dataclass(frozen=True)
class Advanced:
    """What the run may do next: with ``cancelled`` nothing was intended, because a cancel was asked for."""

    cancelled: bool
    attempt: int = 0


_STEP_ERRED = Prepared(
    update(steps)
    .where(*OWN_STEP)
    .values(state=StepState.INTENDED, host=bindparam("on_host"), error=bindparam("new_error"))
)
_ATTEMPT_ERRED = Prepared(
    update(step_attempts)
    .where(*OWN_ATTEMPTS, step_attempts.c.number == bindparam("attempt"))
    .values(outcome=AttemptOutcome.ERROR, ended_at=now_in_database(), error=bindparam("new_error"))
)


def advance(database: Database, lease: Lease, seen: Sequence[Seen], intend: Intend | None) -> Advanced:
    """Journal what was seen, and what is intended next, of another step, in one commit.

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
    more = any(fact.changes or fact.passes_return for fact in seen)
    more |= intend is not None and (intend.passes_return or bool(intend.reserves))
    with database.write() if more else database.write_one() as connection:
        held = hold_and_intend(connection, lease, seen, intend)
        if intend is None:
            return Advanced(cancelled=False)
        if held.cancel_requested and not held.past_return and intend.direction is Direction.DO:
            return Advanced(cancelled=True)
        for change in intend.reserves:
            apply(connection, lease, change)
        if intend.passes_return and not held.past_return:
            pass_return(connection, lease)
        return Advanced(cancelled=False, attempt=held.attempt)


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


def attempt_failed(  # noqa: PLR0913, PLR0917  # what the row is about
    database: Database, lease: Lease, direction: Direction, position: int, attempt: int, error: ErrorRecord
) -> None:
    """Journal that an attempt at a step ended in an error; the step stays intended."""
    with database.write() as connection:
        hold(connection, lease)
        about = of_step(lease, direction, position) | {"new_error": error.as_json(), "on_host": lease.host}
        expect(_STEP_ERRED.run(connection, about), 1, lease, f"step {position}")
        _ATTEMPT_ERRED.run(connection, about | {"attempt": attempt})
