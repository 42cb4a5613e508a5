"""Pruning: of a job that ended long ago a tombstone stays, so that its id never runs again.

A tombstone is the job's row without its request and canvas: id, payload digest, what it came to and when. Its runs,
steps, attempts and history are gone, and what is refused under its id is not recorded any more. It never changes and
is never deleted: triggers of the database see to that.

What is kept whole, however old: a job of an instance that another job has begun and not settled (an operator may have
to read what came before), and a job whose outcome or ring was not delivered yet.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, delete, exists, func, select, update

from models.engine import Database, now_in_database
from models.states import FINAL, UNSETTLED
from models.tables import job_events, jobs, outbox, runs

#: Jobs that one transaction prunes at most, so that nobody waits long behind it.
BATCH_JOBS = 100
#: Delivered letters that one transaction looks at, the oldest ones.
BATCH_LETTERS = 1000


@dataclass(frozen=True)
class Pruned:
    """What one transaction removed."""

    jobs: int  #: jobs of which a tombstone is left
    letters: int  #: delivered letters of the outbox

    def __bool__(self) -> bool:
        return self.jobs + self.letters > 0


def prune(database: Database, older_than: timedelta) -> Pruned:
    """Prune a batch of the jobs that ended longer ago than that, oldest first, and letters delivered before that.

    Nothing pruned means that nothing is left that could be. Several may do it at once: each takes other jobs.
    """
    with database.write() as connection:
        wanted = select(jobs.c.id).where(*_prunable(older_than)).order_by(jobs.c.ended_at).limit(BATCH_JOBS)
        ids = list(connection.execute(wanted.with_for_update(skip_locked=True, of=jobs)).scalars())
        if ids:
            connection.execute(
                update(jobs).where(jobs.c.id.in_(ids)).values(pruned_at=now_in_database(), request={}, canvas=None)
            )
            connection.execute(delete(job_events).where(job_events.c.job.in_(ids)))
            connection.execute(delete(runs).where(runs.c.job.in_(ids)))  # their steps and attempts go with them
        return Pruned(len(ids), _drop_letters(connection, older_than))


def count_prunable(database: Database, older_than: timedelta) -> int:
    """How many jobs `prune` would make tombstones of, one batch after another."""
    with database.read() as connection:
        query = select(func.count()).select_from(jobs).where(*_prunable(older_than))
        return connection.execute(query).scalar_one()


def _prunable(older_than: timedelta) -> tuple[ColumnElement[bool], ...]:
    other = jobs.alias("other")
    undelivered = select(outbox.c.job).where(outbox.c.published_at.is_(None))
    return (
        jobs.c.pruned_at.is_(None),
        jobs.c.ended_at <= now_in_database(-older_than),
        jobs.c.state.in_(FINAL),
        jobs.c.id.not_in(undelivered),
        ~exists().where(other.c.instance == jobs.c.instance, other.c.state.in_(UNSETTLED)),
    )


def _drop_letters(connection: Connection, older_than: timedelta) -> int:
    """Only the oldest letters are looked at: those that lie there undelivered are few, or much else is wrong."""
    oldest = select(outbox.c.number).order_by(outbox.c.number).limit(BATCH_LETTERS).scalar_subquery()
    gone = connection.execute(
        delete(outbox).where(outbox.c.number.in_(oldest), outbox.c.published_at <= now_in_database(-older_than))
    )
    return gone.rowcount
