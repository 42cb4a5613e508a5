"""Progress: what a long call tells of itself, and hears of what is wanted meanwhile."""

from dataclasses import dataclass

from sqlalchemy import bindparam, update

from models.engine import Database
from models.journal.claiming import Lease
from models.journal.events import record_event
from models.journal.holding import OvertakenError, pass_return
from models.records import Progress
from models.states import EventType, JobState
from models.tables import jobs

#: A call of which nothing came for this long has stalled, in seconds: the history says so.
STALLED_AFTER_S = 10.0


@dataclass(frozen=True)
class Wanted:
    """What was asked of the job since."""

    cancel: bool = False
    force_complete: bool = False


_REPORT = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("held"),
        jobs.c.epoch == bindparam("mine"),
        jobs.c.owner == bindparam("worker"),
        jobs.c.state == JobState.RUNNING,
    )
    .values(progress=bindparam("now"))
    .returning(jobs.c.cancel_requested_at, jobs.c.force_complete_requested_at, jobs.c.past_return)
)


def report(
    database: Database, lease: Lease, progress: Progress, *, before: Progress | None = None, passes_return: bool = False
) -> Wanted:
    """Write how far the call has come; what is wanted of it. Raises OvertakenError when the job is another's by now.

    With ``passes_return`` there is only forward once this is committed, unless a cancel was asked for before.
    """
    with database.write() as connection:
        row = connection.execute(
            _REPORT,
            {"held": lease.job.id, "mine": lease.epoch, "worker": lease.worker, "now": progress.as_json()},
        ).one_or_none()
        if row is None:
            raise OvertakenError(f"job {lease.job.id}: epoch {lease.epoch} has passed")
        cancel = row.cancel_requested_at is not None and not row.past_return
        if passes_return and not cancel and not row.past_return:
            pass_return(connection, lease)
        stalled, was = (each is not None and each.silent_s >= STALLED_AFTER_S for each in (progress, before))
        if stalled != was:
            record_event(
                connection,
                lease.job.id,
                lease.job.run,
                EventType.STALLED if stalled else EventType.MOVING_AGAIN,
                data={"what": progress.what, "silent_s": round(progress.silent_s, 1)},
            )
        return Wanted(cancel=cancel, force_complete=row.force_complete_requested_at is not None)
