"""The outbox: what was committed for the broker and is not yet known to have reached it.

A row is delivered at least once; what it carries is the same each time, under the same ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, select, update

from models.engine import Database, now_in_database
from models.reading import job_from_row
from models.records import JobRecord, Json
from models.states import OutboxKind
from models.tables import jobs, outbox

_ERROR_LENGTH = 1000


@dataclass(frozen=True)
class Letter:
    """One outbox row with what is needed to deliver it."""

    number: int
    kind: OutboxKind
    host: str
    run: int
    job: JobRecord
    canvas: Json
    tries: int  #: how often it could not be delivered


_UNDELIVERED = (
    select(
        jobs,
        outbox.c.number.label("letter"),
        outbox.c.kind,
        outbox.c.host.label("to"),
        outbox.c.run.label("of"),
        outbox.c.tries,
    )
    .join(jobs, outbox.c.job == jobs.c.id)
    .where(outbox.c.published_at.is_(None))
    .order_by(outbox.c.number)
    .limit(bindparam("at_most"))
)
_UNDELIVERED_OF_JOB = _UNDELIVERED.where(outbox.c.job == bindparam("of_job"))
_DELIVERED = (
    update(outbox)
    .where(outbox.c.number == bindparam("letter"))
    .values(published_at=now_in_database(), tries=outbox.c.tries + 1, error=None)
)


def undelivered(  # noqa: PLR0913  # a query's conditions
    database: Database,
    *,
    host: str | None = None,
    kind: OutboxKind | None = None,
    job: str | None = None,
    min_age: timedelta = timedelta(0),
    but: Sequence[int] = (),
    limit: int = 100,
) -> list[Letter]:
    """The oldest letters not yet delivered: of one kind, for one host, of one job, where these are given.

    ``min_age`` leaves time for whoever committed a letter to deliver it itself; ``but`` leaves out letters by number.
    """
    query = _UNDELIVERED if job is None else _UNDELIVERED_OF_JOB
    if host is not None:
        query = query.where(outbox.c.host == host)
    if kind is not None:
        query = query.where(outbox.c.kind == kind)
    if but:
        query = query.where(outbox.c.number.not_in(but))
    if min_age:
        query = query.where(outbox.c.created_at <= now_in_database(-min_age))
    asked = {"at_most": limit} | ({} if job is None else {"of_job": job})
    with database.read() as connection:
        return [
            Letter(row.letter, row.kind, row.to, row.of, job_from_row(row), row.canvas or {}, row.tries)
            for row in connection.execute(query, asked)
        ]


def take_over(database: Database, letter: Letter) -> bool:
    """Whether the letter of a host that leaves it lying is now the caller's to deliver: one of those who ask gets it.

    It counts as a try.
    """
    with database.write() as connection:
        taken = connection.execute(
            update(outbox)
            .where(
                outbox.c.number == letter.number,
                outbox.c.published_at.is_(None),
                outbox.c.tries == letter.tries,
            )
            .values(tries=letter.tries + 1)
        )
    return taken.rowcount == 1


def delivered(database: Database, letter: Letter) -> None:
    """Note that the broker has the letter."""
    with database.write() as connection:
        connection.execute(_DELIVERED, {"letter": letter.number})


def not_delivered(database: Database, letter: Letter, error: str) -> None:
    """Note a failed try; the letter stays."""
    with database.write() as connection:
        connection.execute(
            update(outbox)
            .where(outbox.c.number == letter.number)
            .values(tries=outbox.c.tries + 1, error=error[:_ERROR_LENGTH])
        )
