"""The postman: one thread that tells Celery what the journal has committed, in the journal's order.

It delivers what settling left in the outbox (the state, the result, the callbacks of a run), rings of jobs on
other hosts, and the STARTED that a claim means. A letter is delivered at least once; what it sends is the same
each time, under the same ids, so that a second delivery after a crash starts nothing twice.
"""

import logging
import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, states
from celery.app.task import Context
from celery.exceptions import TaskRevokedError
from celery.result import denied_join_result
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from models.engine import Database
from models.outbox import Letter, delivered, due, not_delivered, take_over, undelivered_of
from models.records import JobRecord, Progress
from models.states import FINAL, JobState, OutboxKind
from worker.celery_app.app import BROKER_TIMEOUT_S, keeps_results, named_queue, queue_name, task_name

log = logging.getLogger(__name__)

#: How often the outbox is looked through when nobody calls, in seconds: the backstop for letters left behind.
ROUND_S = 5.0
#: So many errands at most are taken up together: their letters are read, and noted as delivered, in one go.
ERRANDS_AT_ONCE = 32
#: A letter that meets a defect is tried again after doubling waits, at most this long, in seconds.
LETTER_WAITS_MAX_S = 300.0
#: A claim is news that can wait until the claimed job's own first calls are on their way, in seconds.
CLAIM_TOLD_AFTER_S = 0.02
#: How long whoever settled a job leaves the processor to its result, in seconds.
GIVE_WAY_S = 0.005
#: While so many errands wait, the broker is slow or away, and progress is old before it is told.
PROGRESS_WAITS_BEHIND = 50
#: Namespace of the ids that callbacks get where their sender gave them none: fixed, so that they are the same again.
_CALLBACK_IDS = uuid.UUID("5b0f1f5c-5a4e-4c57-9d0c-3f2f1c2b7a10")
_UNREACHABLE = (OSError, OperationalError, RedisConnectionError, RedisTimeoutError)


class JobFailed(Exception):  # noqa: N818  # the name that Celery clients see
    """What ``AsyncResult.get`` raises for a failed job; its one argument is the outcome."""


JobFailed.__module__ = "hostler"  # clients need not have our packages, and must not mistake theirs for ours


def ring(app: Celery, job: JobRecord, host: str) -> None:
    """Tell a host's worker to look at the job; as good as any sender's own message."""
    app.send_task(
        task_name(job.operation),
        kwargs=_payload(job),
        task_id=job.id,
        queue=named_queue(queue_name(host)),  # type: ignore[arg-type]  # a queue works as well as its name
        retry=False,
        confirm_timeout=BROKER_TIMEOUT_S,
        ignore_result=True,
        add_to_parent=False,
    )


def forget(app: Celery, letter: Letter) -> None:
    """Have Celery know of no outcome of the job's earlier runs, where results are kept at all.

    Once the new run has ended there is nothing to forget: what is kept then may be its own.
    """
    if not keeps_results(app) or letter.job.run != letter.run or letter.job.state in FINAL:
        return
    app.backend.forget(letter.job.id)


def _payload(job: JobRecord) -> dict[str, Any]:
    """As it was sent: sameness is judged on that, wherever the job has gone since."""
    return {"instance": str(job.instance), "request": dict(job.request), "host": job.sent_to}


@dataclass(frozen=True)
class _Progress:
    """The news of how far a job's call has come: told once, or not at all."""

    job: JobRecord
    progress: Progress


@dataclass(frozen=True)
class _Claim:
    """The news that a job was claimed."""

    job: JobRecord
    rung: bool
    due: float  #: when it is told, if nothing of the job must be told before


@dataclass(frozen=True)
class _Look:
    """Something of the job may be in the outbox."""

    job_id: str
    done: threading.Event = field(default_factory=threading.Event)


class _End:
    """The last errand."""


_Errand = _Claim | _Progress | _Look | _End


class Postman(threading.Thread):
    """Delivers letters until it is stopped. It fits `worker.run.Announcer`."""

    def __init__(self, app: Celery, database: Database, host: str, worker_name: str, *, rings: bool) -> None:
        super().__init__(name="postman", daemon=True)
        self._app = app
        self._database = database
        self._host = host
        self._worker_name = worker_name
        self._rings = rings
        self._errands: queue.SimpleQueue[_Errand] = queue.SimpleQueue()
        self._events: Any = None
        self._not_before: dict[int, float] = {}  # of letters that met a defect

    def claimed(self, job: JobRecord, *, rung: bool) -> None:
        """The claim writes STARTED; of a job that no message brought, Celery's watchers are told as well."""
        self._errands.put(_Claim(job, rung=rung, due=time.monotonic() + CLAIM_TOLD_AFTER_S))

    def progressed(self, job: JobRecord, progress: Progress) -> None:
        """Celery's watchers are told in an event of its own, ``task-progress``; not while much else is to be told."""
        if self._errands.qsize() < PROGRESS_WAITS_BEHIND:
            self._errands.put(_Progress(job, progress))

    def left_in_outbox(self, job_id: str) -> None:
        """Look for the job's letters now. The caller gives way for a moment: somebody may wait for that result."""
        errand = _Look(job_id)
        self._errands.put(errand)
        errand.done.wait(GIVE_WAY_S)

    def stop(self, deadline_s: float) -> None:
        """Deliver what is at hand, then end."""
        self._errands.put(_End())
        self.join(timeout=deadline_s)

    @override
    def run(self) -> None:
        """Deliver as called, and look through the outbox between calls."""
        claims: dict[str, _Claim] = {}
        next_round = time.monotonic() + ROUND_S
        while True:
            due_at = min([next_round, *(claim.due for claim in claims.values())])
            errands = self._take_errands(max(0.0, due_at - time.monotonic()))
            now = time.monotonic()
            claims |= {errand.job.id: errand for errand in errands if isinstance(errand, _Claim)}
            looks = {errand.job_id: errand for errand in errands if isinstance(errand, _Look)}
            for job_id in [job_id for job_id, claim in claims.items() if job_id in looks or claim.due <= now]:
                self._patiently(self._say_started, claims.pop(job_id))
            for errand in errands:
                if isinstance(errand, _Progress):
                    self._patiently(self._say_progress, errand)
            if looks:
                self._patiently(self._deliver_for, *looks.values())
            ending = any(isinstance(errand, _End) for errand in errands)
            if ending:
                for claim in claims.values():
                    self._patiently(self._say_started, claim)
            self._patiently(self._flush_events)
            if ending:
                return
            if now >= next_round:
                self._patiently(self._make_round)
                next_round = now + ROUND_S

    def _take_errands(self, within_s: float) -> list[_Errand]:
        """The next errand, and those that wait behind it; none if none comes in time."""
        errands: list[_Errand] = []
        try:
            errands.append(self._errands.get(timeout=within_s))
            while len(errands) < ERRANDS_AT_ONCE:
                errands.append(self._errands.get_nowait())
        except queue.Empty:
            pass
        return errands

    def _patiently(self, errand: Any, *arguments: object) -> None:  # noqa: ANN401  # one of the methods here
        """A broker or a database that is out of reach is met again on the next round."""
        try:
            errand(*arguments)
        except (*_UNREACHABLE, SQLAlchemyError) as error:
            self._events = None
            log.warning("not told yet: %s: %s", type(error).__name__, error)
        except Exception:
            log.exception("the postman met a defect; the letter stays in the outbox")

    def _make_round(self) -> None:
        now = time.monotonic()
        waiting = [number for number, until in self._not_before.items() if until > now]
        letters = due(self._database, self._host, but=waiting)
        with self._noting() as note:
            for letter in letters:
                if not self._is_anothers(letter):
                    self._deliver(letter, note)
        for letter in letters:
            if self._is_anothers(letter) and take_over(self._database, letter):
                with self._noting() as note:
                    self._deliver(letter, note)

    def _deliver_for(self, *looks: _Look) -> None:
        """Deliver the letters of these jobs; each caller goes on as soon as its job's are with the broker."""
        waiting = {look.job_id: look.done for look in looks}
        try:
            with self._noting() as note:
                letters = undelivered_of(self._database, list(waiting))
                left = Counter(letter.job.id for letter in letters)
                for letter in letters:
                    if not self._is_anothers(letter):
                        self._deliver(letter, note)
                    left[letter.job.id] -= 1
                    if not left[letter.job.id]:
                        waiting.pop(letter.job.id).set()
        finally:
            for done in waiting.values():
                done.set()

    @contextmanager
    def _noting(self) -> Iterator[Callable[[Letter], None]]:
        """What is delivered while the block runs is noted in one commit as it ends, however it does."""
        done: list[Letter] = []
        try:
            yield done.append
        finally:
            if done:
                self._flush_events()
                delivered(self._database, *done)

    def _is_anothers(self, letter: Letter) -> bool:
        """Of two postmen who deliver the same outcome, each would send its links."""
        return letter.kind is OutboxKind.OUTCOME and letter.host != self._host

    def _deliver(self, letter: Letter, note: Callable[[Letter], None]) -> None:
        """Deliver the letter, and have it noted. Without a broker all letters wait; one with a defect waits alone."""
        try:
            if letter.kind is OutboxKind.OUTCOME:
                self._say_outcome(letter)
            elif letter.kind is OutboxKind.FORGET:
                forget(self._app, letter)
            elif self._rings:
                ring(self._app, letter.job, letter.host)
        except Exception as error:
            not_delivered(self._database, letter, f"{type(error).__name__}: {error}")
            if isinstance(error, _UNREACHABLE):
                raise
            log.exception("a letter cannot be delivered: job=%s kind=%s", letter.job.id, letter.kind)
            wait_s = min(LETTER_WAITS_MAX_S, ROUND_S * 2.0 ** min(letter.tries, 10))
            self._not_before[letter.number] = time.monotonic() + wait_s
            return
        self._not_before.pop(letter.number, None)
        note(letter)

    # --- what Celery's state, results and callbacks are made of

    def _say_started(self, claim: "_Claim") -> None:
        job = claim.job
        if job.run > 1:  # what Celery has of the run before is forgotten first
            self._deliver_for(_Look(job.id))
        if keeps_results(self._app):
            self._app.backend.store_result(job.id, {"hostname": self._worker_name, "host": job.host}, states.STARTED)
        if claim.rung:
            return
        self._send_event(
            "task-received", job, name=task_name(job.operation), args="()", kwargs=repr(_payload(job)), retries=0
        )
        self._send_event("task-started", job)

    def _say_progress(self, news: _Progress) -> None:
        self._send_event("task-progress", news.job, **news.progress.as_json())

    def _say_outcome(self, letter: Letter) -> None:
        job, outcome = letter.job, dict(letter.job.outcome or {})
        if letter.run != job.run:
            return  # it was never told, and a new run has begun: that one's is
        context = _context(letter)
        backend = self._app.backend
        runtime = (job.ended_at - job.started_at).total_seconds() if job.ended_at and job.started_at else 0.0
        match job.state:
            case JobState.SUCCEEDED:
                with denied_join_result():  # else every callback's result would be subscribed to from here
                    self._call_back(context, outcome)
                backend.mark_as_done(job.id, outcome, request=context)
                self._send_event("task-succeeded", job, result=repr(outcome), runtime=runtime)
            case JobState.FAILED:
                failure = JobFailed(outcome)
                backend.mark_as_failure(job.id, failure, request=context)
                why = job.error.told if job.error else ""
                self._send_event("task-failed", job, exception=f"JobFailed({why!r})", traceback="")
            case JobState.CANCELLED:
                # as a failure that is a revocation, so that chains and chords after it end too
                revoked = TaskRevokedError("cancelled")
                backend.mark_as_failure(job.id, revoked, request=context, call_errbacks=False, state=states.REVOKED)
                self._send_event("task-revoked", job, terminated=False, signum=None, expired=False)
            case _:
                log.error("an outcome was left for a job that is not settled: job=%s state=%s", job.id, job.state)

    def _call_back(self, context: Context, outcome: dict[str, Any]) -> None:
        """Send the links and the next of the chain, as Celery's own tracer would have."""
        root = context.root_id or context.id
        for link in context.callbacks or ():
            try:
                self._app.signature(link).apply_async(
                    (outcome,), parent_id=context.id, root_id=root, add_to_parent=False
                )
            except _UNREACHABLE:
                raise
            except Exception:
                # The sender's own mistake (a serializer that is not there); it must not hide the job's result.
                log.exception("a link cannot be sent: job=%s", context.id)
        chain = list(context.chain or ())
        if chain:
            following = self._app.signature(chain.pop())
            following.apply_async((outcome,), chain=chain, parent_id=context.id, root_id=root, add_to_parent=False)

    def _send_event(self, kind: str, job: JobRecord, **fields: object) -> None:
        """Tell whoever watches (Flower does); nobody watching is no error."""
        if not self._rings:
            return
        if self._events is None:
            self._events = self._app.events.Dispatcher(
                self._app.connection_for_write(),
                hostname=self._worker_name,
                enabled=True,
                buffer_group={"task"},  # one message for all that there is to tell at a time
            )
        self._events.send(kind, uuid=job.id, **fields)

    def _flush_events(self) -> None:
        if self._events is not None:
            self._events.flush()


def _with_ids(job_id: str, kind: str, links: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """The links, each under an id: its sender's, or one that is the same whenever the letter is delivered."""
    fixed = []
    for index, link in enumerate(links or ()):
        options = dict(link.get("options") or {})
        if not link.get("subtask_type"):  # a group or a chain has no one id
            options.setdefault("task_id", str(uuid.uuid5(_CALLBACK_IDS, f"{job_id}/{kind}/{index}")))
        fixed.append({**link, "options": options})
    return fixed


def _context(letter: Letter) -> Context:
    """The request of the message that the job came with, as far as its result and callbacks need it."""
    job = letter.job
    return Context(
        {
            **letter.canvas,
            "callbacks": _with_ids(job.id, "link", letter.canvas.get("callbacks")),
            "errbacks": _with_ids(job.id, "link_error", letter.canvas.get("errbacks")),
            "id": job.id,
            "task": task_name(job.operation),
            "args": (),
            "kwargs": _payload(job),
            "delivery_info": {"routing_key": queue_name(letter.host)},
            "called_directly": False,
        }
    )
