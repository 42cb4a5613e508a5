"""Accepting requests: a job is accepted once its row is committed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Insert, Table, bindparam, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from models.engine import Database, now_in_database
from models.journal.events import leave_in_outbox, record_event
from models.reading import job_from_row
from models.records import JobRecord, Json
from models.states import EventType, InstanceState, JobState, OutboxKind
from models.submission import Submission
from models.tables import instances, jobs, runs


class DifferentPayloadError(ValueError):
    """The id belongs to a job with another payload."""


@dataclass(frozen=True)
class Accepted:
    """The job under the submission's id; ``new`` is False when it was there already."""

    job: JobRecord
    new: bool


_FIRST_RUN = insert(runs).values(submitted_at=now_in_database())
_BY_ID = select(jobs).where(jobs.c.id == bindparam("wanted"))


def _if_new(table: Table, key: str, moments: Sequence[str]) -> dict[str, Insert]:
    """For each database, the insert of a row unless its key is there; it returns the key if it was not."""
    times = {moment: now_in_database() for moment in moments}
    return {
        dialect.dialect.name: dialect.insert(table)
        .values(times)
        .on_conflict_do_nothing(index_elements=[key])
        .returning(table.c[key])
        for dialect in (postgresql, sqlite)
    }


_NEW_INSTANCE = _if_new(instances, "id", ("created_at", "updated_at"))
_NEW_JOB = _if_new(jobs, "id", ("submitted_at",))


def _insert_if_new(connection: Connection, statements: Mapping[str, Insert], values: Mapping[str, Any]) -> bool:
    return connection.execute(statements[connection.dialect.name], values).one_or_none() is not None


def accept(database: Database, submission: Submission, *, outbox: bool) -> Accepted:
    """Record the request, once.

    With ``outbox`` the ring that tells the host's worker is left there in the same transaction.
    The same id with the same payload is the same job; with another payload it raises DifferentPayloadError.
    """
    with database.write() as connection:
        return accept_within(connection, submission, outbox=outbox)


def accept_within(connection: Connection, submission: Submission, *, outbox: bool) -> Accepted:
    """`accept`, as a part of a transaction."""
    _insert_if_new(connection, _NEW_INSTANCE, {"id": submission.instance, "state": InstanceState.ABSENT, "epoch": 0})
    new = _insert_if_new(
        connection,
        _NEW_JOB,
        {
            "id": submission.id,
            "operation": submission.operation,
            "job_class": submission.job_class,
            "instance": submission.instance,
            "host": submission.host,
            "sent_to": submission.host,
            "request": dict(submission.request),
            "payload_digest": submission.digest,
            "canvas": None if submission.canvas is None else dict(submission.canvas),
            "state": JobState.QUEUED,
            "run": 1,
            "epoch": 0,
            "past_return": False,
            "waits": 0,
        },
    )
    row = connection.execute(_BY_ID, {"wanted": submission.id}).one()
    if not new:
        if row.payload_digest != submission.digest:
            raise DifferentPayloadError(
                f"job id {submission.id} belongs to another request already "
                f"({row.operation} of instance {row.instance} on host {row.host})."
            )
        return Accepted(job_from_row(row), new=False)
    connection.execute(_FIRST_RUN, {"job": submission.id, "number": 1})
    record_event(
        connection,
        submission.id,
        1,
        EventType.SUBMITTED,
        actor=submission.actor,
        data={
            "operation": submission.operation,
            "instance": str(submission.instance),
            "host": submission.host,
            "request": dict(submission.request),
        },
    )
    if outbox:
        leave_in_outbox(connection, submission.id, 1, OutboxKind.RING, submission.host)
    return Accepted(job_from_row(row), new=True)


def note(database: Database, job: str, event: EventType, *, actor: str, data: Json) -> None:
    """Append an event that changes nothing (a refused ring, a misrouted one) to a known job's history.

    A tombstone has none, and gets none.
    """
    with database.write() as connection:
        row = connection.execute(
            select(jobs.c.run, jobs.c.pruned_at).where(jobs.c.id == job).with_for_update(read=True, key_share=True)
        ).one()
        if row.pruned_at is None:
            record_event(connection, job, row.run, event, actor=actor, data=data)
