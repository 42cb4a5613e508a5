"""Asking: what people and programs want of a job that somebody else carries out. Its worker notices in time."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, select, update

from models.engine import Database, now_in_database
from models.journal.events import leave_in_outbox, record_event
from models.journal.settling import end
from models.reading import job_from_row
from models.records import JobRecord
from models.states import FINAL, EventType, JobClass, JobState, OutboxKind
from models.tables import jobs, steps


@dataclass(frozen=True)
class Asked:
    """Who asks for something, and why."""

    actor: str
    reason: str = ""

    def as_json(self, **more: object) -> dict[str, Any]:
        """What stands in the event."""
        return {"reason": self.reason, **more}


@dataclass(frozen=True)
class Answer:
    """What became of what was asked: ``taken`` is False when it was refused, and ``sentence`` says why."""

    taken: bool
    sentence: str


def tombstone_sentence(job: JobRecord) -> str | None:
    """Why nothing can be asked of a job of which only a tombstone is left; None of any other."""
    if job.pruned_at is None:
        return None
    return (
        f"job {job.id} has {job.state}, and was pruned on {job.pruned_at:%Y-%m-%d}: only what it came to is kept; "
        "ask for it again under a new id."
    )


def request_cancel(database: Database, job_id: str, asked: Asked, *, outbox: bool) -> Answer:
    """Ask a job to stop: a queued one is cancelled here, a begun one at its next safe point, undone."""
    with database.write() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
        if row is None:
            return Answer(taken=False, sentence=f"there is no job {job_id}.")
        job = job_from_row(row)
        refusal = tombstone_sentence(job) or _cancel_refusal(job)
        if refusal is not None:
            _record_refusal(connection, job, EventType.CANCEL_REFUSED, asked, refusal)
            return Answer(taken=False, sentence=refusal)
        record_event(connection, job.id, job.run, EventType.CANCEL_REQUESTED, actor=asked.actor, data=asked.as_json())
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(cancel_requested_at=now_in_database()))
        if job.state is JobState.QUARANTINED:
            # it goes on as one whose worker died, and finds the cancel
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(state=JobState.RUNNING, waits=0))
            return Answer(taken=True, sentence=f"job {job.id} is taken out of quarantine, and is undone.")
        if job.state is JobState.QUEUED:
            end(connection, job, JobState.CANCELLED, None, outbox=outbox)
            return Answer(taken=True, sentence=f"job {job.id} is cancelled; nothing of it was begun.")
        if job.hopping and job.home is not None and not _has_work_on(connection, job, job.host):
            _call_back(connection, job, job.home, outbox=outbox)
            return Answer(taken=True, sentence=f"job {job.id} comes back from its way to {job.host}, and is undone.")
        return Answer(taken=True, sentence=f"job {job.id} is {job.state}; it stops at its next safe point.")


def _record_refusal(connection: Connection, job: JobRecord, event: EventType, asked: Asked, refusal: str) -> None:
    """A tombstone has no history, and gets none."""
    if job.pruned_at is None:
        record_event(connection, job.id, job.run, event, actor=asked.actor, data=asked.as_json(because=refusal))


def _cancel_refusal(job: JobRecord) -> str | None:
    if job.state in FINAL:
        return f"job {job.id} has {job.state} already."
    if job.past_return:
        return f"job {job.id} is past its point of no return: {job.operation} can only go forward{_stuck(job)}."
    if job.verdict is not None:
        return f"job {job.id} is being undone already{_stuck(job)}."
    if job.cancel_requested:
        return f"job {job.id} was asked to stop already."
    return None


def _stuck(job: JobRecord) -> str:
    return "; it is quarantined, so resume or settle it" if job.state is JobState.QUARANTINED else ""


def _has_work_on(connection: Connection, job: JobRecord, host: str) -> bool:
    """Whether a step of this run may have made anything on the host."""
    made = exists().where(
        steps.c.job == job.id, steps.c.run == job.run, steps.c.host == host, steps.c.intent.is_not(None)
    )
    return bool(connection.execute(select(made)).scalar_one())


def _call_back(connection: Connection, job: JobRecord, home: str, *, outbox: bool) -> None:
    """The host that it is on its way to may never take it, and has no part in undoing it."""
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(host=home))
    record_event(connection, job.id, job.run, EventType.REDIRECTED, data={"from": job.host, "to": home})
    if outbox:
        leave_in_outbox(connection, job.id, job.run, OutboxKind.RING, home)


def request_force_complete(database: Database, job_id: str, asked: Asked) -> Answer:
    """Ask a migration under way to be over soon, whatever that costs its guest: post-copy, or a pause."""
    with database.write() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
        if row is None:
            return Answer(taken=False, sentence=f"there is no job {job_id}.")
        job = job_from_row(row)
        refusal = tombstone_sentence(job) or _force_complete_refusal(job)
        if refusal is not None:
            _record_refusal(connection, job, EventType.FORCE_COMPLETE_REFUSED, asked, refusal)
            return Answer(taken=False, sentence=refusal)
        record_event(
            connection, job.id, job.run, EventType.FORCE_COMPLETE_REQUESTED, actor=asked.actor, data=asked.as_json()
        )
        connection.execute(
            update(jobs).where(jobs.c.id == job.id).values(force_complete_requested_at=now_in_database())
        )
        when = "" if job.progress is not None else " once it is under way"
        how = "by post-copy" if job.request.get("post_copy") else "its guest paused until it is over"
        return Answer(taken=True, sentence=f"job {job.id}: the migration is made to complete{when}, {how}.")


def _force_complete_refusal(job: JobRecord) -> str | None:
    if job.job_class is not JobClass.MIGRATE:
        return f"job {job.id} is no migration: {job.operation}."
    if job.state in FINAL or job.state is JobState.QUARANTINED:
        return f"job {job.id} has {job.state} already." if job.state in FINAL else f"job {job.id} is quarantined."
    if job.verdict is not None or job.cancel_requested:
        return f"job {job.id} is being undone."
    if job.past_return and not (job.progress or {}).get("post_copy"):
        return f"job {job.id}: its guest has switched over already."
    if job.force_complete_requested:
        return f"job {job.id} was asked to complete already."
    return None
