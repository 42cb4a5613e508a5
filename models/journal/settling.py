"""Settling: ending a run, suspending it, handing it to another host, or setting it aside for an operator."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, bindparam, select, update

from models.engine import Database, now_in_database
from models.journal.changing import want
from models.journal.claiming import Lease
from models.journal.events import (
    APPEND,
    LEAVE,
    WORKER,
    event_values,
    leave_in_outbox,
    letter_values,
    outcome_of,
    record_event,
)
from models.journal.holding import Seen, hold
from models.journal.quarantining import set_aside
from models.prepared import InOne, Prepared
from models.reading import ending_within
from models.records import NOTHING, Ending, ErrorRecord, JobRecord, Json
from models.states import EventType, InstanceState, JobState, OutboxKind
from models.tables import instances, jobs, runs

_FINAL_EVENT = {
    JobState.SUCCEEDED: EventType.SUCCEEDED,
    JobState.FAILED: EventType.FAILED,
    JobState.CANCELLED: EventType.CANCELLED,
}


_CAME_TO = {
    "state": bindparam("new_state"),
    "error": bindparam("new_error"),
    "outcome": bindparam("new_outcome"),
    "ended_at": now_in_database(),
}
_JOB_ENDED = (
    update(jobs)
    .where(jobs.c.id == bindparam("held"), jobs.c.epoch == bindparam("mine"))
    .values(**_CAME_TO, owner=None, not_before=None, progress=None)
)
_RUN_ENDED = (
    update(runs)
    .where(runs.c.job == bindparam("held"), runs.c.number == bindparam("of_run"))
    .values(**_CAME_TO, started_at=bindparam("began"))
)
_END = InOne(_JOB_ENDED, _RUN_ENDED, APPEND, LEAVE)
_END_UNTOLD = InOne(_JOB_ENDED, _RUN_ENDED, APPEND)
_NEXT_OF_INSTANCE = Prepared(
    select(jobs.c.id, jobs.c.run, jobs.c.host)
    .where(jobs.c.instance == bindparam("of"), jobs.c.state == JobState.QUEUED)
    .order_by(jobs.c.number)
    .limit(1)
)


def settle(  # noqa: PLR0913  # one transaction, written in one place
    database: Database,
    lease: Lease,
    state: JobState,
    *,
    error: ErrorRecord | None = None,
    seen: Sequence[Seen] = (),
    warnings: Sequence[str] = (),
    undone_as: InstanceState | None = None,
    wanted_as: InstanceState | None = None,
    outbox: bool,
) -> Ending | None:
    """End the run as ``state``: job, run, instance, event, what Celery is told and the next ring in one commit.

    None, and not ended, when a success is no longer wanted: a cancel was asked for in time.

    With ``undone_as`` the instance becomes that, if it was this job that began it; with ``wanted_as`` that is what it
    is to be from here on, whatever becomes of its host. Without ``outbox`` there is
    neither a broker to ring nor a result backend to tell, and nothing is left for them.
    """
    with database.write() as connection:
        held = hold(connection, lease, seen)
        if state is JobState.SUCCEEDED and held.cancel_requested and not held.past_return:
            return None
        if undone_as is not None:
            connection.execute(
                update(instances)
                .where(
                    instances.c.id == lease.job.instance,
                    instances.c.epoch == lease.epoch,
                    instances.c.made_by == lease.job.id,
                )
                .values(state=undone_as, updated_at=now_in_database())
            )
        if wanted_as is not None:
            want(connection, lease, wanted_as)
        end(connection, lease.job, state, error, warnings=warnings, outbox=outbox)
        if outbox:
            ring_next(connection, lease.job, but=lease.host)
        return ending_within(connection, lease.job.id)


def end(  # noqa: PLR0913  # what the run came to
    connection: Connection,
    job: JobRecord,
    state: JobState,
    error: ErrorRecord | None,
    *,
    warnings: Sequence[str] = (),
    outbox: bool,
    actor: str = WORKER,
    why: Json = NOTHING,
) -> None:
    """Write what the run came to, wherever it is told, and whose word that is."""
    outcome = outcome_of(job, state, error, warnings)
    told = {"error": outcome["error"], "outcome": outcome, **why}
    values = {
        "held": job.id,
        "mine": job.epoch,
        "of_run": job.run,
        "began": job.started_at,
        "new_error": outcome["error"],
        "new_outcome": outcome,
        "new_state": state,
        **event_values(job.id, job.run, _FINAL_EVENT[state], actor=actor, data=told),
    }
    if outbox:
        _END.run(connection, {**values, **letter_values(job.id, job.run, OutboxKind.OUTCOME, job.host)})
    else:
        _END_UNTOLD.run(connection, values)


def ring_next(connection: Connection, job: JobRecord, *, but: str = "") -> None:
    """Ring the instance's next job, ``but`` not on the host whose worker settles: it takes that itself."""
    following = _NEXT_OF_INSTANCE.row(connection, {"of": job.instance})
    if following is not None and following.host != but:
        leave_in_outbox(connection, following.id, following.run, OutboxKind.RING, following.host)


def wait(  # noqa: PLR0913  # what the row is about
    database: Database,
    lease: Lease,
    delay: timedelta,
    error: ErrorRecord,
    seen: Sequence[Seen] = (),
    *,
    progressed: bool = False,
) -> None:
    """Give the run back for a while: nobody owns it until ``delay`` has passed; its instance stays locked.

    ``progressed`` says that a step got on since the claim: the waits are counted from one again.
    """
    with database.write() as connection:
        hold(connection, lease, seen)
        not_before = connection.execute(select(now_in_database(delay))).scalar_one()
        waits = connection.execute(
            update(jobs)
            .where(jobs.c.id == lease.job.id, jobs.c.epoch == lease.epoch)
            .values(
                state=JobState.WAITING,
                owner=None,
                not_before=not_before,
                progress=None,
                waits=1 if progressed else jobs.c.waits + 1,
                # while undoing, the job's error stays the one that it will fail with
                **({} if lease.job.verdict is not None else {"error": error.as_json()}),
            )
            .returning(jobs.c.waits)
        ).scalar_one()
        record_event(
            connection,
            lease.job.id,
            lease.job.run,
            EventType.WAITING,
            data={"not_before": not_before.isoformat(), "waits": waits, "error": error.as_json()},
        )


def hop(database: Database, lease: Lease, to: str, seen: Sequence[Seen] = (), *, outbox: bool) -> Ending:
    """Hand the job to the host that has its next step; its instance stays locked on the way.

    With ``outbox`` that host is rung through it. Returned is what the job and its instance are then.
    """
    with database.write() as connection:
        hold(connection, lease, seen)
        now = connection.execute(select(now_in_database())).scalar_one()
        connection.execute(
            update(jobs)
            .where(jobs.c.id == lease.job.id, jobs.c.epoch == lease.epoch)
            .values(
                host=to,
                state=JobState.WAITING,
                hopping=True,
                owner=None,
                not_before=now,
                waits=0,
                progress=None,
                # while undoing, the job's error stays the one that it will fail with
                **({} if lease.job.verdict is not None else {"error": None}),
            )
        )
        record_event(
            connection,
            lease.job.id,
            lease.job.run,
            EventType.HOPPED,
            data={"from": lease.host, "to": to, "not_before": now.isoformat()},
        )
        if outbox:
            leave_in_outbox(connection, lease.job.id, lease.job.run, OutboxKind.RING, to)
        return ending_within(connection, lease.job.id)


def quarantine(database: Database, lease: Lease, error: ErrorRecord, seen: Sequence[Seen] = ()) -> None:
    """Set the job aside with its lock kept, until an operator decides."""
    with database.write() as connection:
        hold(connection, lease, seen)
        set_aside(connection, lease.job.id, lease.job.run, error)
