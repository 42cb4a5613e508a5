"""The history of jobs: written in the same transaction as what it tells of."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert

from models.engine import now_in_database
from models.records import NOTHING, ErrorRecord, JobRecord, Json
from models.states import EventType, JobState, OutboxKind
from models.tables import job_events, outbox

#: Who did it, when nobody outside asked for it.
WORKER = "worker"

# Statements of the hot path are built once: building one costs more than SQLite takes to run it.
_APPEND = insert(job_events).values(at=now_in_database())
_LEAVE = insert(outbox).values(created_at=now_in_database())


def record_event(  # noqa: PLR0913  # the columns of one row
    connection: Connection, job: str, run: int, event: EventType, *, actor: str = WORKER, data: Json = NOTHING
) -> None:
    """Append an event to the job's history."""
    connection.execute(_APPEND, {"job": job, "run": run, "actor": actor, "type": event, "data": dict(data)})


def leave_in_outbox(connection: Connection, job: str, run: int, kind: OutboxKind, host: str) -> None:
    """Leave something for the broker to be told; whoever commits tries at once, the relay is the backstop."""
    connection.execute(_LEAVE, {"job": job, "run": run, "kind": kind, "host": host, "tries": 0})


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
