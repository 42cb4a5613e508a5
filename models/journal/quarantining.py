"""Quarantining: setting a job aside, its lock kept, until an operator decides."""

from typing import Any, Final

from sqlalchemy import Connection, Row, func, select, update

from models.journal.events import record_event
from models.records import ErrorRecord
from models.states import ErrorClass, EventType, JobState
from models.tables import job_events, jobs, steps

#: A job that so many workers in a row took and did not outlive, no step ending meanwhile, may be what ends them.
WORKERS_ENDED_MAX: Final = 5
#: What begins the count anew: the job was given back alive, or somebody decided on it.
_GIVEN_BACK = frozenset({EventType.WAITING, EventType.HOPPED, EventType.UNDOING, EventType.RESUMED})


def set_aside(connection: Connection, job: str, run: int, error: ErrorRecord) -> None:
    """Quarantine the job, whose row the caller has locked."""
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job)
        .values(state=JobState.QUARANTINED, owner=None, progress=None, error=error.as_json())
    )
    record_event(connection, job, run, EventType.QUARANTINED, data={"error": error.as_json()})


def ended_its_workers(connection: Connection, row: Row[Any]) -> ErrorRecord | None:
    """Why a running job that is to be taken over is set aside instead, if it is: too many workers died over it."""
    of_run = (job_events.c.job == row.id, job_events.c.run == row.run)
    given_back = select(func.max(job_events.c.number)).where(*of_run, job_events.c.type.in_(_GIVEN_BACK))
    got_on = select(func.max(steps.c.ended_at)).where(steps.c.job == row.id, steps.c.run == row.run)
    since_number = connection.execute(given_back).scalar_one() or 0
    since = connection.execute(got_on).scalar_one()
    claims = select(func.count()).where(
        *of_run, job_events.c.type == EventType.CLAIMED, job_events.c.number > since_number
    )
    if since is not None:
        claims = claims.where(job_events.c.at > since)
    claimed: int = connection.execute(claims).scalar_one()
    if claimed < WORKERS_ENDED_MAX:
        return None
    step = connection.execute(
        select(steps.c.name)
        .where(steps.c.job == row.id, steps.c.run == row.run, steps.c.ended_at.is_(None))
        .order_by(steps.c.direction.desc(), steps.c.position)
        .limit(1)
    ).scalar_one_or_none()
    at = "" if step is None else f" at step {step}"
    return ErrorRecord(
        ErrorClass.INTERNAL,
        f"{claimed} workers in a row ended while they had this job in hand{at}: it may be what ends them; "
        "see their logs, then resume, skip or settle it",
    )
