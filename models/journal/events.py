"""The history of jobs: written in the same transaction as what it tells of."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, insert

from models.engine import now_in_database
from models.prepared import Prepared, Speaker, Values
from models.records import NOTHING, ErrorRecord, JobRecord, Json
from models.states import EventType, JobState, OutboxKind
from models.tables import job_events, outbox

#: Who did it, when nobody outside asked for it.
WORKER = "worker"

APPEND = insert(job_events).values(
    job=bindparam("event_job"),
    run=bindparam("event_run"),
    actor=bindparam("event_actor"),
    type=bindparam("event_type"),
    data=bindparam("event_data"),
    at=now_in_database(),
)
LEAVE = insert(outbox).values(
    job=bindparam("letter_job"),
    run=bindparam("letter_run"),
    kind=bindparam("letter_kind"),
    host=bindparam("letter_host"),
    created_at=now_in_database(),
    tries=0,
)
APPENDED = Prepared(APPEND)
LEFT = Prepared(LEAVE)


def record_event(  # noqa: PLR0913  # the columns of one row
    connection: Speaker, job: str, run: int, event: EventType, *, actor: str = WORKER, data: Json = NOTHING
) -> None:
    """Append an event to the job's history."""
    APPENDED.run(connection, event_values(job, run, event, actor=actor, data=data))


def event_values(job: str, run: int, event: EventType, *, actor: str = WORKER, data: Json = NOTHING) -> Values:
    """The values of `APPEND`, where that is a part of a greater statement."""
    return {"event_job": job, "event_run": run, "event_actor": actor, "event_type": event, "event_data": dict(data)}


def leave_in_outbox(connection: Speaker, job: str, run: int, kind: OutboxKind, host: str) -> None:
    """Leave something for the broker to be told; whoever commits tries at once, the relay is the backstop."""
    LEFT.run(connection, letter_values(job, run, kind, host))


def letter_values(job: str, run: int, kind: OutboxKind, host: str) -> Values:
    """The values of `LEAVE`, where that is a part of a greater statement."""
    return {"letter_job": job, "letter_run": run, "letter_kind": kind, "letter_host": host}


def outcome_of(
    job: JobRecord, state: JobState, error: ErrorRecord | None, warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """What a settled run came to, as Celery results and callbacks carry it; ``warnings`` is there where it has some."""
    said = {"warnings": list(warnings)} if warnings else {}
    return {
        "job": job.id,
        "operation": job.operation,
        "instance": str(job.instance),
        "host": job.host,
        "run": job.run,
        "state": state.value,
        "error": None if error is None else error.as_json(),
        **said,
    }
