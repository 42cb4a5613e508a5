"""What a host could claim now: the sweeper's question. The claim itself asks everything again."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Integer, and_, bindparam, exists, or_, select

from models.availability import NOT_ADMITTED
from models.engine import Database, now_in_database
from models.prepared import Prepared, among
from models.reading import job_from_row
from models.records import JobRecord
from models.states import UNSETTLED, JobClass, JobState
from models.tables import OPEN, jobs

_other = jobs.alias("other")
_HELD_UP = exists().where(
    _other.c.instance == jobs.c.instance,
    _other.c.id != jobs.c.id,
    or_(
        _other.c.state.in_(UNSETTLED),
        and_(_other.c.state == JobState.QUEUED, _other.c.number < jobs.c.number),
    ),
    or_(
        ~among(jobs.c.operation, "superseding"),
        and_(
            or_(_other.c.operation == jobs.c.operation, and_(_other.c.past_return, _other.c.peer.is_not(None))),
            _other.c.state != JobState.QUARANTINED,
        ),
    ),
)
_DUE = or_(
    jobs.c.not_before <= now_in_database(),
    and_(jobs.c.cancel_requested_at.is_not(None), jobs.c.verdict.is_(None), ~jobs.c.past_return),
)
_CLAIMABLE = Prepared(
    select(jobs)
    .where(
        jobs.c.host == bindparam("here"),
        jobs.c.state.in_(OPEN),  # in the words of the index of open jobs, or SQLite reads every job there ever was
        among(jobs.c.job_class, "classes"),
        ~among(jobs.c.id, "in_hand"),
        or_(
            and_(jobs.c.state == JobState.QUEUED, ~_HELD_UP, ~NOT_ADMITTED),
            jobs.c.state == JobState.RUNNING,
            and_(jobs.c.state == JobState.WAITING, _DUE),
        ),
    )
    .order_by(jobs.c.number)
    .limit(bindparam("at_most", type_=Integer))
)


def claimable_jobs(  # noqa: PLR0913  # a query's conditions
    database: Database,
    host: str,
    *,
    classes: Collection[JobClass],
    in_hand: Collection[str],
    superseding: Collection[str],
    limit: int,
) -> list[JobRecord]:
    """The host's jobs of these classes that could be claimed now, in order of submission.

    A running job of this host counts when no thread of this process has it in hand (``in_hand``): its owner is
    dead, because the host's lock is ours. ``superseding`` names the operations that do not wait for jobs before them.
    A disabled host takes no new guests; see `models.availability`.
    """
    asked = {
        "here": host,
        "classes": list(classes),
        "in_hand": list(in_hand),
        "superseding": list(superseding),
        "at_most": limit,
    }
    with database.one() as connection:
        return [job_from_row(row) for row in _CLAIMABLE.rows(connection, asked)]


def claimable(database: Database, host: str, **conditions: Any) -> list[str]:  # noqa: ANN401  # handed on
    """The ids of `claimable_jobs`."""
    return [job.id for job in claimable_jobs(database, host, **conditions)]
