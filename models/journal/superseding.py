"""Superseding: ending jobs of an instance in favour of one that takes it over, as a destroy does."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from models.engine import now_in_database
from models.journal.events import leave_in_outbox, outcome_of, record_event
from models.reading import ending_from_row
from models.records import Ending, JobRecord
from models.states import EventType, InstanceState, JobState, OutboxKind
from models.tables import jobs, runs, steps


@dataclass(frozen=True)
class Terms:
    """What the claim must know of the job's operation."""

    version: int
    steps: tuple[str, ...]
    supersedes: bool
    begins_as: InstanceState | None
    name: str | None = None  #: the instance's name, where the request gives one
    peer: str | None = None  #: the other host that has steps of the job, where the request names one


def yields(other: JobRecord, job: JobRecord, terms: Terms) -> bool:
    """Whether ``other`` gives way to a job that supersedes.

    A quarantined one always does; else none of its own kind, and no migration that can only go forward.
    """
    may_stay = other.operation == job.operation or (other.past_return and other.peer is not None)
    return terms.supersedes and (not may_stay or other.state is JobState.QUARANTINED)


def other_host(connection: Connection, superseded: Sequence[JobRecord], here: str) -> str | None:
    """Where else a superseded job may have left half of its work: where it intended anything."""
    ids = [other.id for other in superseded if other.peer is not None]
    if not ids:
        return None
    touched = connection.execute(
        select(steps.c.host)
        .where(steps.c.job.in_(ids), steps.c.intent.is_not(None), steps.c.host.is_not(None), steps.c.host != here)
        .order_by(steps.c.host)
        .limit(1)
    )
    return touched.scalar_one_or_none()


def supersede(connection: Connection, other: JobRecord, by: JobRecord, epoch: int, *, outbox: bool) -> Ending:
    """End ``other`` in favour of ``by``: its late writes meet rows of an epoch that is not its own."""
    outcome = outcome_of(other, JobState.CANCELLED, other.error) | {"superseded_by": by.id}
    row = connection.execute(
        update(jobs)
        .where(jobs.c.id == other.id)
        .values(
            state=JobState.CANCELLED,
            superseded_by=by.id,
            owner=None,
            not_before=None,
            progress=None,
            hopping=False,
            outcome=outcome,
            ended_at=now_in_database(),
        )
        .returning(jobs)
    ).one()
    connection.execute(
        update(runs)
        .where(runs.c.job == other.id, runs.c.number == other.run)
        .values(state=JobState.CANCELLED, outcome=outcome, started_at=other.started_at, ended_at=now_in_database())
    )
    connection.execute(update(steps).where(steps.c.job == other.id, steps.c.run == other.run).values(epoch=epoch))
    record_event(
        connection, other.id, other.run, EventType.CANCELLED, data={"outcome": outcome, "superseded_by": by.id}
    )
    if outbox:
        leave_in_outbox(connection, other.id, other.run, OutboxKind.OUTCOME, other.host)
    return ending_from_row(row)
