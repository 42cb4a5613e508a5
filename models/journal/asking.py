"""Asking: what people and programs want of a job that somebody else carries out. Its worker notices in time."""

from dataclasses import dataclass

from sqlalchemy import select, update

from models.engine import Database, now_in_database
from models.journal.events import record_event
from models.journal.settling import end
from models.reading import job_from_row
from models.records import JobRecord
from models.states import FINAL, EventType, JobClass, JobState
from models.tables import jobs


@dataclass(frozen=True)
class Answer:
    """What became of what was asked: ``taken`` is False when it was refused, and ``sentence`` says why."""

    taken: bool
    sentence: str


def request_cancel(database: Database, job_id: str, *, actor: str, reason: str, outbox: bool) -> Answer:
    """Ask a job to stop: a queued one is cancelled here, a begun one at its next safe point, undone."""
    with database.write() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
        if row is None:
            return Answer(taken=False, sentence=f"there is no job {job_id}.")
        job = job_from_row(row)
        asked = {"reason": reason}
        refusal = _cancel_refusal(job)
        if refusal is not None:
            record_event(
                connection,
                job.id,
                job.run,
                EventType.CANCEL_REFUSED,
                actor=actor,
                data={**asked, "because": refusal},
            )
            return Answer(taken=False, sentence=refusal)
        record_event(connection, job.id, job.run, EventType.CANCEL_REQUESTED, actor=actor, data=asked)
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(cancel_requested_at=now_in_database()))
        if job.state is JobState.QUEUED:
            end(connection, job, JobState.CANCELLED, None, outbox=outbox)
            return Answer(taken=True, sentence=f"job {job.id} is cancelled; nothing of it was begun.")
        return Answer(taken=True, sentence=f"job {job.id} is {job.state}; it stops at its next safe point.")


def _cancel_refusal(job: JobRecord) -> str | None:
    if job.state in FINAL:
        return f"job {job.id} has {job.state} already."
    if job.state is JobState.QUARANTINED:
        return f"job {job.id} is quarantined; an operator decides what becomes of it."
    if job.past_return:
        return f"job {job.id} is past its point of no return: {job.operation} can only go forward."
    if job.cancel_requested:
        return f"job {job.id} was asked to stop already."
    return None


def request_force_complete(database: Database, job_id: str, *, actor: str, reason: str) -> Answer:
    """Ask a migration under way to be over soon, whatever that costs its guest: post-copy, or a pause."""
    with database.write() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
        if row is None:
            return Answer(taken=False, sentence=f"there is no job {job_id}.")
        job = job_from_row(row)
        asked = {"reason": reason}
        refusal = _force_complete_refusal(job)
        if refusal is not None:
            data = asked | {"because": refusal}
            record_event(connection, job.id, job.run, EventType.FORCE_COMPLETE_REFUSED, actor=actor, data=data)
            return Answer(taken=False, sentence=refusal)
        record_event(connection, job.id, job.run, EventType.FORCE_COMPLETE_REQUESTED, actor=actor, data=asked)
        connection.execute(
            update(jobs).where(jobs.c.id == job.id).values(force_complete_requested_at=now_in_database())
        )
        return Answer(taken=True, sentence=f"job {job.id}: the migration is made to complete.")


def _force_complete_refusal(job: JobRecord) -> str | None:
    if job.job_class is not JobClass.MIGRATE:
        return f"job {job.id} is no migration: {job.operation}."
    if job.state in FINAL or job.state is JobState.QUARANTINED:
        return f"job {job.id} has {job.state} already." if job.state in FINAL else f"job {job.id} is quarantined."
    if job.verdict is not None or job.cancel_requested:
        return f"job {job.id} is being undone."
    if job.force_complete_requested:
        return f"job {job.id} was asked to complete already."
    return None
