"""Accepting requests: a job is accepted once its row is committed."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, String, Uuid, bindparam, insert, literal, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from models.engine import Database, now_in_database
from models.journal.events import APPENDED, event_values, leave_in_outbox, record_event
from models.prepared import Prepared
from models.reading import job_from_row
from models.records import JobRecord, Json
from models.states import EventType, InstanceState, JobState, OutboxKind
from models.submission import Submission
from models.tables import instances, job_events, jobs, runs, withheld_parts


class DifferentPayloadError(ValueError):
    """The id belongs to a job with another payload."""


@dataclass(frozen=True)
class Accepted:
    """The job under the submission's id; ``new`` is False when it was there already."""

    job: JobRecord
    new: bool
    instance_locked: bool = False  #: until the end of the transaction that accepted it


_BY_ID = Prepared(select(jobs).where(jobs.c.id == bindparam("id")))
_NEW_JOB = (
    "id",
    "operation",
    "job_class",
    "instance",
    "host",
    "sent_to",
    "request",
    "payload_digest",
    "canvas",
    "state",
    "run",
    "epoch",
    "past_return",
    "waits",
)
_NEW_RUN = Prepared(
    insert(runs).values(job=bindparam("event_job"), number=bindparam("event_run"), submitted_at=now_in_database())
)


def _new_job(dialect: ModuleType) -> Any:  # noqa: ANN401  # either dialect's insert
    """The insert of a job's row unless its id is there; it returns the row if it was not."""
    return (
        dialect.insert(jobs)
        .values({name: bindparam(f"new_{name}", type_=jobs.c[name].type) for name in _NEW_JOB})
        .values(submitted_at=now_in_database())
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(jobs)
    )


_NEW_INSTANCE_IN_SQLITE = Prepared(
    sqlite.insert(instances)
    .values(
        id=bindparam("new_instance"),
        state=InstanceState.ABSENT,
        epoch=0,
        created_at=now_in_database(),
        updated_at=now_in_database(),
    )
    .on_conflict_do_nothing(index_elements=["id"])
)
_NEW_JOB_IN_SQLITE = Prepared(_new_job(sqlite))


def _in_one() -> Prepared:
    """For PostgreSQL: the instance, the job, its run and its first event, in one statement; the job if it is new.

    The instance's row is locked first, as in every claim: a new job's reference to its instance is a lock, too, though
    a weaker one, and two transactions that both have that one would wait for each other.
    """
    there = select(instances.c.id).where(instances.c.id == bindparam("new_instance")).with_for_update().cte("there")
    instance = (
        postgresql.insert(instances)
        .from_select(
            ["id", "state", "epoch", "created_at", "updated_at"],
            select(
                bindparam("new_instance", type_=Uuid),
                literal(InstanceState.ABSENT.value),
                literal(0),
                now_in_database(),
                now_in_database(),
            ).where(~select(there.c.id).exists()),
        )
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(instances.c.id)
        .cte("instance")
    )
    new = _new_job(postgresql).cte("new")
    run = (
        insert(runs)
        .from_select(["job", "number", "submitted_at"], select(new.c.id, new.c.run, now_in_database()))
        .cte("run")
    )
    event = (
        insert(job_events)
        .from_select(
            ["job", "run", "actor", "type", "data", "at"],
            select(
                new.c.id,
                new.c.run,
                bindparam("event_actor", type_=String),
                bindparam("event_type", type_=String),
                bindparam("event_data", type_=job_events.c.data.type),
                now_in_database(),
            ),
        )
        .cte("event")
    )
    locked = or_(select(there.c.id).exists(), select(instance.c.id).exists()).label("instance_locked")
    return Prepared(select(*(new.c[column.key] for column in jobs.c), locked).add_cte(run, event))


_IN_ONE = _in_one()


def accept(database: Database, submission: Submission, *, outbox: bool) -> Accepted:
    """Record the request, once.

    With ``outbox`` the ring that tells the host's worker is left there in the same transaction.
    The same id with the same payload is the same job; with another payload it raises DifferentPayloadError.
    """
    with database.write() as connection:
        return accept_within(connection, submission, outbox=outbox)


def accept_within(connection: Connection, submission: Submission, *, outbox: bool) -> Accepted:
    """`accept`, as a part of a transaction."""
    row = _insert(connection, submission)
    if row is None:
        return _same(submission, _BY_ID.row(connection, {"id": submission.id}))
    if submission.withheld is not None:
        connection.execute(insert(withheld_parts).values(job=submission.id, parts=dict(submission.withheld)))
    if outbox:
        leave_in_outbox(connection, submission.id, 1, OutboxKind.RING, submission.host)
    locked = connection.dialect.name == "sqlite" or row.instance_locked  # SQLite has one writer at a time
    return Accepted(job_from_row(row), new=True, instance_locked=locked)


def known(database: Database, submission: Submission) -> Accepted | None:
    """What `accept` would return where the job is there already; None if it is not. It only reads."""
    with database.one() as connection:
        row = _BY_ID.row(connection, {"id": submission.id})
        return None if row is None else _same(submission, row)


def _same(submission: Submission, row: Any) -> Accepted:  # noqa: ANN401  # a job's row
    """The job that is there under the submission's id; raises DifferentPayloadError if it is another."""
    if row.payload_digest != submission.digest:
        raise DifferentPayloadError(
            f"job id {submission.id} belongs to another request already "
            f"({row.operation} of instance {row.instance} on host {row.host})."
        )
    return Accepted(job_from_row(row), new=False)


def _insert(connection: Connection, submission: Submission) -> Any:  # noqa: ANN401  # the job's row
    """Write the job with its run and its first event; None if there is a job of that id."""
    values = {
        "new_id": submission.id,
        "new_operation": submission.operation,
        "new_job_class": submission.job_class,
        "new_instance": submission.instance,
        "new_host": submission.host,
        "new_sent_to": submission.host,
        "new_request": dict(submission.request),
        "new_payload_digest": submission.digest,
        "new_canvas": None if submission.canvas is None else dict(submission.canvas),
        "new_state": JobState.QUEUED,
        "new_run": 1,
        "new_epoch": 0,
        "new_past_return": False,
        "new_waits": 0,
    }
    said = {
        "operation": submission.operation,
        "instance": str(submission.instance),
        "host": submission.host,
        "request": dict(submission.request),
    }
    event = event_values(submission.id, 1, EventType.SUBMITTED, actor=submission.actor, data=said)
    if connection.dialect.name == "postgresql":
        return _IN_ONE.row(connection, {**values, **event})
    _NEW_INSTANCE_IN_SQLITE.run(connection, values)
    row = _NEW_JOB_IN_SQLITE.row(connection, values)
    if row is not None:
        _NEW_RUN.run(connection, event)
        APPENDED.run(connection, event)
    return row


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
