"""Deciding: what an operator makes of a job that cannot, or must not, go on by itself.

=========  =======  ==================  =============  ==============  =================  =========
verb       queued   running             waiting        quarantined     failed, cancelled  succeeded
=========  =======  ==================  =============  ==============  =================  =========
retry      refused  refused             refused        refused         a new run          by force
resume     refused  refused             tried now      goes on         refused            refused
skip       refused  refused             step is past   step is past    refused            refused
settle     refused  if nobody has it    ended          ended           refused            refused
=========  =======  ==================  =============  ==============  =================  =========

``cancel`` is asked for in `models.journal.asking`; that of a quarantined job is a resume that undoes.
Each is one transaction and an event with its actor and reason; a refusal is an event, too, and changes nothing else.
Of a job that was pruned nothing can be decided, and no event is left: its request and history are gone.
What a decision takes from a run it fences: the instance's epoch rises, so that a worker that wakes up writes nothing.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, exists, func, insert, or_, select, update

from models.engine import Database, now_in_database
from models.journal.asking import Answer, Asked, tombstone_sentence
from models.journal.events import leave_in_outbox, record_event
from models.journal.settling import end, ring_next
from models.reading import job_from_row
from models.records import ErrorRecord, JobRecord, withheld_fields
from models.states import (
    FINAL,
    Direction,
    ErrorClass,
    EventType,
    JobState,
    OutboxKind,
    StepState,
)
from models.tables import hosts, instances, jobs, runs, steps, workers

#: A worker that is silent for so long has its jobs no more, as far as an operator's word goes.
SILENT_AFTER = timedelta(seconds=60)
#: What of a canvas counts the job among others: told once, with the first outcome.
_TOLD_ONCE = frozenset({"chord", "group", "group_index"})


class _RefusedError(Exception):
    """It cannot be decided so; the message is the sentence that says why."""


def retry(database: Database, job_id: str, asked: Asked, *, outbox: bool, force: bool = False) -> Answer:
    """Begin a new run of an ended job under its id, at the end of its instance's line.

    Refused for a job that succeeded, and where a later job of the instance has succeeded, unless forced with a reason.
    With ``outbox`` the Celery result of the id is forgotten and its host is rung. What the first outcome told of
    chords and groups is not told again, and after a success no link is.
    """

    def decide(connection: Connection, job: JobRecord) -> str:
        if job.state not in FINAL:
            hint = "resume or settle it" if job.state is JobState.QUARANTINED else "cancel it first, or wait"
            raise _RefusedError(f"job {job.id} is {job.state}: only an ended job can be retried; {hint}.")
        if dropped := withheld_fields(job.request):
            raise _RefusedError(f"job {job.id} lost its {dropped[0]} when it ended: submit it anew, under a new id.")
        later = _later_success(connection, job)
        why_not = f"job {job.id} has succeeded" if job.state is JobState.SUCCEEDED else later
        if why_not and not (force and asked.reason):
            raise _RefusedError(f"{why_not}; a retry may undo what came of it: give --force and --because if it must.")
        run = job.run + 1
        number = connection.execute(_next_number(connection)).scalar_one()
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job.id)
            .values(NEW_RUN | {"run": run, "number": number, "host": job.sent_to, "canvas": _canvas(connection, job)})
        )
        connection.execute(insert(runs).values(job=job.id, number=run, submitted_at=now_in_database()))
        record_event(
            connection,
            job.id,
            run,
            EventType.RETRIED,
            actor=asked.actor,
            data=asked.as_json(host=job.sent_to, number=number, forced=bool(why_not)),
        )
        if outbox:
            leave_in_outbox(connection, job.id, run, OutboxKind.FORGET, job.sent_to)
            leave_in_outbox(connection, job.id, run, OutboxKind.RING, job.sent_to)
        return f"job {job.id} is queued again, as run {run}, behind whatever else is asked of its instance."

    return _decide(database, job_id, asked, "retry", decide)


def resume(database: Database, job_id: str, asked: Asked, *, outbox: bool, from_step: str | None = None) -> Answer:
    """Have a quarantined job go on, or a waiting one go on now; it looks at every step again.

    The steps before ``from_step`` count as they are: they are not looked at, and those that did not end are skipped.
    """

    def decide(connection: Connection, job: JobRecord) -> str:
        _refuse_unless_set_aside(job, "resumed")
        skipped: list[str] = []
        if from_step is not None:
            if job.verdict is not None:
                raise _RefusedError(f"job {job.id} is being undone, in reverse; skip single steps of that instead.")
            position = _step_of(connection, job, from_step).position
            skipped = _skip(connection, job, steps.c.position < position, asked)
        now = connection.execute(select(now_in_database())).scalar_one()
        # a quarantined job goes on as one whose worker died: running, and in nobody's hand
        moved: dict[str, Any] = {"not_before": now} if job.state is JobState.WAITING else {"state": JobState.RUNNING}
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(moved | {"waits": 0}))
        data = asked.as_json(**{"from": from_step, "skipped": skipped})
        record_event(connection, job.id, job.run, EventType.RESUMED, actor=asked.actor, data=data)
        if outbox:
            leave_in_outbox(connection, job.id, job.run, OutboxKind.RING, job.host)
        doing = "is undone further" if job.verdict is not None else "goes on"
        return f"job {job.id} {doing} on host {job.host}."

    return _decide(database, job_id, asked, "resume", decide)


def skip(database: Database, job_id: str, asked: Asked, *, step: str) -> Answer:
    """Count a step of a quarantined or waiting job as past, whatever the host shows; needs a reason.

    While the job is undone, it is the undoing of the step that is skipped. The job stays as it is: resume it. One that
    waits for its other host goes home: that host may be gone for good, and if not, home sends it there again.
    """

    def decide(connection: Connection, job: JobRecord) -> str:
        _refuse_unless_set_aside(job, "changed")
        _refuse_without_reason(asked)
        found = _step_of(connection, job, step)
        if found.state in {StepState.DONE, StepState.FOUND, StepState.SKIPPED}:
            raise _RefusedError(f"step {step} of job {job.id} is {found.state} already.")
        _skip(connection, job, steps.c.position == found.position, asked)
        record_event(
            connection, job.id, job.run, EventType.STEP_SKIPPED, actor=asked.actor, data=asked.as_json(step=step)
        )
        _bring_home(connection, job, asked)
        return f"step {step} of job {job.id} is skipped; the job is still {job.state}: `hostler jobs resume {job.id}`."

    return _decide(database, job_id, asked, "skip", decide)


def settle_by_hand(database: Database, job_id: str, asked: Asked, *, succeeded: bool, outbox: bool) -> Answer:
    """End a job as an operator found it to have ended; needs a reason. Its instance is free for the next job.

    Nothing is done on any host, and the inventory stays as it is. A running job is ended so only when its worker is
    stopped or has been silent for `SILENT_AFTER`.
    """

    def decide(connection: Connection, job: JobRecord) -> str:
        if job.state is JobState.RUNNING:
            _refuse_while_in_hand(connection, job)
        else:
            _refuse_unless_set_aside(job, "settled")
        _refuse_without_reason(asked)
        if succeeded and job.verdict is not None:
            raise _RefusedError(f"job {job.id} is being undone, so it has not succeeded; settle it as failed.")
        state = JobState.SUCCEEDED if succeeded else JobState.FAILED
        if job.state is JobState.WAITING:  # which ends by nobody's word but its own
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(state=JobState.QUARANTINED))
        unended = or_(steps.c.state == StepState.PENDING, steps.c.state == StepState.INTENDED)
        if succeeded:
            _skip(connection, job, unended, asked)
        error = None
        if not succeeded:
            before = "" if job.error is None else f" It had met: {job.error.message}"
            error = ErrorRecord(ErrorClass.PERMANENT, f"settled as failed by {asked.actor}: {asked.reason}.{before}")
        end(connection, job, state, error, outbox=outbox, actor=asked.actor, why=asked.as_json())
        if outbox:
            ring_next(connection, job)
        return f"job {job.id} has {state}, by your word; its instance {job.instance} is free for the next job."

    return _decide(database, job_id, asked, "settle", decide)


# --- what the verbs have in common

NEW_RUN: dict[str, Any] = {
    "state": JobState.QUEUED,
    "operation_version": None,
    "home": None,
    "peer": None,
    "hopping": False,
    "owner": None,
    "past_return": False,
    "verdict": None,
    "error": None,
    "outcome": None,
    "superseded_by": None,
    "cancel_requested_at": None,
    "force_complete_requested_at": None,
    "not_before": None,
    "waits": 0,
    "progress": None,
    "started_at": None,
    "ended_at": None,
}


def _decide(
    database: Database, job_id: str, asked: Asked, verb: str, decide: Callable[[Connection, JobRecord], str]
) -> Answer:
    """Have it decided on the job's row, which is locked behind its instance's, as in a claim."""
    with database.write() as connection:
        instance = select(jobs.c.instance).where(jobs.c.id == job_id).scalar_subquery()
        epoch = connection.execute(
            select(instances.c.epoch).where(instances.c.id == instance).with_for_update()
        ).scalar_one_or_none()
        if epoch is None:
            return Answer(taken=False, sentence=f"there is no job {job_id}.")
        job = job_from_row(connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one())
        if (tombstone := tombstone_sentence(job)) is not None:
            return Answer(taken=False, sentence=tombstone)
        savepoint = connection.begin_nested()
        try:
            if job.state not in FINAL | {JobState.QUEUED}:
                job = _fenced(connection, job, epoch + 1)
            sentence = decide(connection, job)
        except _RefusedError as refused:
            savepoint.rollback()
            data = asked.as_json(verb=verb, because=str(refused))
            record_event(connection, job.id, job.run, EventType.DECISION_REFUSED, actor=asked.actor, data=data)
            return Answer(taken=False, sentence=str(refused))
        savepoint.commit()
        return Answer(taken=True, sentence=sentence)


def _fenced(connection: Connection, job: JobRecord, epoch: int) -> JobRecord:
    """The job under an epoch that nobody holds."""
    connection.execute(
        update(instances).where(instances.c.id == job.instance).values(epoch=epoch, updated_at=now_in_database())
    )
    row = connection.execute(
        update(jobs).where(jobs.c.id == job.id).values(epoch=epoch, owner=None).returning(jobs)
    ).one()
    connection.execute(update(steps).where(steps.c.job == job.id, steps.c.run == job.run).values(epoch=epoch))
    return job_from_row(row)


def _bring_home(connection: Connection, job: JobRecord, asked: Asked) -> None:
    if job.state is not JobState.WAITING or job.home is None or job.host == job.home:
        return
    now = connection.execute(select(now_in_database())).scalar_one()
    home: dict[str, Any] = {"host": job.home, "hopping": True, "not_before": now, "waits": 0}
    error: dict[str, Any] = {} if job.verdict is not None else {"error": None}
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(home | error))
    data = {"from": job.host, "to": job.home, "not_before": now.isoformat()}
    record_event(connection, job.id, job.run, EventType.HOPPED, actor=asked.actor, data=data)


def _refuse_unless_set_aside(job: JobRecord, done: str) -> None:
    if job.state in {JobState.WAITING, JobState.QUARANTINED}:
        return
    if job.state in FINAL:
        raise _RefusedError(f"job {job.id} has {job.state} already; `hostler jobs retry {job.id}` begins it anew.")
    hint = "cancel it, or wait" if job.state is JobState.QUEUED else "its worker has it in hand"
    raise _RefusedError(f"job {job.id} is {job.state} and cannot be {done}: {hint}.")


def _refuse_without_reason(asked: Asked) -> None:
    if not asked.reason.strip():
        raise _RefusedError("--because: a reason is needed; whoever reads the job's history will ask for it.")


def _refuse_while_in_hand(connection: Connection, job: JobRecord) -> None:
    heard = connection.execute(
        select(workers.c.stopped_at, workers.c.heartbeat_at, now_in_database().label("now"))
        .join(hosts, hosts.c.worker == workers.c.id)
        .where(hosts.c.name == job.host)
    ).one_or_none()
    if heard is not None and heard.stopped_at is None and heard.now - heard.heartbeat_at < SILENT_AFTER:
        raise _RefusedError(f"job {job.id} is running, and the worker of {job.host} is alive: cancel it, or wait.")


def _step_of(connection: Connection, job: JobRecord, name: str) -> Any:  # noqa: ANN401  # a row of steps
    rows = connection.execute(
        select(steps.c.position, steps.c.name, steps.c.state)
        .where(steps.c.job == job.id, steps.c.run == job.run, steps.c.direction == _direction(job))
        .order_by(steps.c.position)
    ).all()
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        names = ", ".join(row.name for row in rows)
        raise _RefusedError(f"step: job {job.id} has no step {name!r} to decide on; it has {names}.")
    return found


def _skip(connection: Connection, job: JobRecord, which: Any, asked: Asked) -> list[str]:  # noqa: ANN401  # a condition
    """Count these steps as past by an operator's word; the names of those that had not ended."""
    ours = (steps.c.job == job.id, steps.c.run == job.run, steps.c.direction == _direction(job), which)
    connection.execute(update(steps).where(*ours).values(skipped_by=asked.actor))
    open_ones = (*ours, steps.c.state.in_([StepState.PENDING, StepState.INTENDED]))
    rows = connection.execute(
        update(steps)
        .where(*open_ones)
        .values(state=StepState.SKIPPED, ended_at=now_in_database())
        .returning(steps.c.position, steps.c.name)
    ).all()
    return [row.name for row in sorted(rows)]


def _direction(job: JobRecord) -> Direction:
    return Direction.DO if job.verdict is None else Direction.UNDO


def _later_success(connection: Connection, job: JobRecord) -> str:
    later = connection.execute(
        select(jobs.c.id, jobs.c.operation)
        .where(jobs.c.instance == job.instance, jobs.c.number > job.number, jobs.c.state == JobState.SUCCEEDED)
        .order_by(jobs.c.number)
        .limit(1)
    ).one_or_none()
    return "" if later is None else f"job {later.id} ({later.operation}) of the same instance has succeeded since"


def _next_number(connection: Connection) -> Any:  # noqa: ANN401  # a query
    if connection.dialect.name == "postgresql":
        return select(func.nextval(func.pg_get_serial_sequence("jobs", "number")))
    return select(func.max(jobs.c.number) + 1)


def _canvas(connection: Connection, job: JobRecord) -> dict[str, Any] | None:
    if connection.execute(
        select(exists().where(runs.c.job == job.id, runs.c.state == JobState.SUCCEEDED))
    ).scalar_one():
        return None
    canvas = connection.execute(select(jobs.c.canvas).where(jobs.c.id == job.id)).scalar_one()
    return None if canvas is None else {key: value for key, value in canvas.items() if key not in _TOLD_ONCE}
