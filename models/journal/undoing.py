"""Undoing: turning a run round, so that what it made is taken back in reverse."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select, update

from models.engine import Database
from models.journal.claiming import Lease
from models.journal.events import record_event
from models.journal.holding import Seen, hold
from models.reading import steps_of
from models.records import ErrorRecord, StepRecord
from models.states import Direction, ErrorClass, EventType, StepState, Verdict
from models.tables import jobs, steps


def begin_undo(
    database: Database, lease: Lease, verdict: Verdict, error: ErrorRecord | None, seen: Sequence[Seen]
) -> tuple[StepRecord, ...]:
    """Turn the run round: give every step with an intent of this run a row to be undone in; the run's steps now.

    A step whose only attempt met a conflict made nothing: what stands in its place is somebody else's.
    """
    with database.write() as connection:
        hold(connection, lease, seen)
        intended = connection.execute(
            select(steps.c.position, steps.c.name, steps.c.error, steps.c.attempts).where(
                steps.c.job == lease.job.id,
                steps.c.run == lease.job.run,
                steps.c.direction == Direction.DO,
                steps.c.intent.is_not(None),
                steps.c.state.in_([StepState.INTENDED, StepState.DONE]),
            )
        ).all()
        ours = [step for step in intended if not _met_a_stranger(step)]
        if ours:
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
                    for step in ours
                ],
            )
        connection.execute(
            update(jobs)
            .where(jobs.c.id == lease.job.id, jobs.c.epoch == lease.epoch)
            .values(verdict=verdict, error=None if error is None else error.as_json(), waits=0)
        )
        record_event(
            connection,
            lease.job.id,
            lease.job.run,
            EventType.UNDOING,
            data={"verdict": verdict.value, "error": None if error is None else error.as_json()},
        )
        return steps_of(connection, lease.job.id, lease.job.run)


def _met_a_stranger(step: Any) -> bool:  # noqa: ANN401  # a row of steps
    return step.attempts == 1 and step.error is not None and step.error["class"] == ErrorClass.CONFLICT
