"""The outbox: what was committed for the broker and is not yet known to have reached it.

A row is delivered at least once; what it carries is the same each time, under the same ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Integer, String, and_, bindparam, cast, or_, select, update

from models.engine import Database, now_in_database
from models.prepared import Prepared, among
from models.reading import job_from_row
from models.records import JobRecord, Json
from models.states import OutboxKind
from models.tables import jobs, outbox

_ERROR_LENGTH = 1000
#: Rings are left to whoever committed them for this long, and outcomes to their host, which may be down.
OTHERS_LETTERS_AGE = timedelta(seconds=5)


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
    .limit(bindparam("at_most", type_=Integer))
)
_UNDELIVERED_OF_JOBS = Prepared(_UNDELIVERED.where(among(outbox.c.job, "of_jobs")))
_DUE = Prepared(
    _UNDELIVERED.where(
        or_(
            and_(outbox.c.kind == OutboxKind.OUTCOME, outbox.c.host == bindparam("here")),
            outbox.c.created_at <= now_in_database(-OTHERS_LETTERS_AGE),
        ),
        ~among(cast(outbox.c.number, String), "but"),
    )
)
_DELIVERED = Prepared(
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
    query = _UNDELIVERED
    if job is not None:
        query = query.where(outbox.c.job == job)
    if host is not None:
        query = query.where(outbox.c.host == host)
    if kind is not None:
        query = query.where(outbox.c.kind == kind)
    if but:
        query = query.where(outbox.c.number.not_in(but))
    if min_age:
        query = query.where(outbox.c.created_at <= now_in_database(-min_age))
    with database.read() as connection:
        return [_letter(row) for row in connection.execute(query, {"at_most": limit})]


def undelivered_of(database: Database, of_jobs: Sequence[str], limit: int = 100) -> list[Letter]:
    """The letters of these jobs that are not yet delivered, the oldest first."""
    with database.one() as connection:
        return [
            _letter(row) for row in _UNDELIVERED_OF_JOBS.rows(connection, {"of_jobs": list(of_jobs), "at_most": limit})
        ]


def due(database: Database, host: str, but: Sequence[int] = (), limit: int = 200) -> list[Letter]:
    """The oldest letters that the host's worker should look after: its jobs' outcomes, and what others left lying."""
    asked = {"here": host, "but": [str(number) for number in but], "at_most": limit}
    with database.one() as connection:
        return [_letter(row) for row in _DUE.rows(connection, asked)]


def _letter(row: Any) -> Letter:  # noqa: ANN401  # a row of either kind
    return Letter(row.letter, row.kind, row.to, row.of, job_from_row(row), row.canvas or {}, row.tries)


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


def delivered(database: Database, *letters: Letter) -> None:
    """Note, in one commit, that the broker has the letters."""
    with database.write() as connection:
        _DELIVERED.run_each(connection, [{"letter": letter.number} for letter in letters])


def not_delivered(database: Database, letter: Letter, error: str) -> None:
    """Note a failed try; the letter stays."""
    with database.write() as connection:
        connection.execute(
            update(outbox)
            .where(outbox.c.number == letter.number)
            .values(tries=outbox.c.tries + 1, error=error[:_ERROR_LENGTH])
        )
