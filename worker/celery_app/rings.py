"""Rings: what a Celery message makes this worker do. It records first, then claims or returns."""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from celery import Celery, Task
from celery.exceptions import Ignore
from celery.worker.request import Request as CeleryRequest
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from models import reading
from models.engine import OUT_OF_REACH, Database
from models.inventory import host_exists
from models.journal.accepting import Accepted, DifferentPayloadError, accept, note
from models.journal.asking import Asked, request_cancel
from models.states import EventType
from models.submission import Submission
from tasks.catalogue import Catalogue
from tasks.requests import BadRequestError
from tasks.requests.withheld import masked
from tasks.submission import read_submission
from worker.celery_app.app import task_name
from worker.celery_app.giving_back import give_back
from worker.celery_app.revoking import EarlyRevokes
from worker.celery_app.turns import Turns
from worker.retrying import insist
from worker.run import RECORDING_DEADLINE_S

log = logging.getLogger(__name__)

#: What of a message's request is canvas: kept with the job, used once, when it settles.
CANVAS_FIELDS = (
    "root_id",
    "parent_id",
    "group",
    "group_index",
    "callbacks",
    "errbacks",
    "chain",
    "chord",
    "reply_to",
    "correlation_id",
)

#: As the journal keeps it.
ACTOR_MAX_LENGTH = 255

_this_thread = threading.local()


class KeepingRequest(CeleryRequest):
    """Celery's request, which keeps itself for the body that its thread is about to run: only it can acknowledge.

    Requests are made in the order in which messages come; each takes its turn then, so that two jobs of one
    instance are recorded in that order, whichever thread is quicker.
    """

    turns = Turns()

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # as Celery calls it
        super().__init__(*arguments, **options)
        kwargs = self.kwargs or {}
        self.turn = self.turns.take(str(kwargs.get("instance")))
        self._shown = masked({name: masked(value) for name, value in kwargs.items()})
        if self._shown != kwargs:  # events, and so Flower, and Celery's log show what the sender wrote of it
            self._kwargsrepr = self.request_dict["kwargsrepr"] = repr(self._shown)

    @override
    def info(self, safe: bool = False) -> Any:  # as Celery calls it
        """What remote control, and so Flower, shows."""
        return {**super().info(safe=safe), "kwargs": self._kwargsrepr if safe else self._shown}

    @override
    def on_accepted(self, pid: Any, time_accepted: Any) -> None:  # as Celery calls it
        """Called by Celery in the pool's thread, right before the body."""
        _this_thread.request = self
        super().on_accepted(pid, time_accepted)

    @override
    def revoked(self) -> bool:
        """Never: a revoke is our cancel, and an expiry is judged once the job is recorded."""
        return False


class JobTaker(Protocol):
    """Who records a job that came in a message, and runs it, if it can be claimed now."""

    def take_new(self, submission: Submission, recorded: Callable[[Accepted], None]) -> None:
        """Record the job, call ``recorded``, carry it out, and what waits for its slot afterwards; or return at once.

        Raises DifferentPayloadError, and what the journal raises when it is out of reach for a minute; nothing once
        ``recorded`` was called.
        """
        ...


class Rings:
    """The bodies of the compute tasks."""

    def __init__(
        self, database: Database, host: str, catalogue: Catalogue, taker: JobTaker, revokes: EarlyRevokes
    ) -> None:
        self._database = database
        self._host = host
        self._catalogue = catalogue
        self._taker = taker
        self._revokes = revokes

    def register(self, app: Celery) -> None:
        """Add ``compute.<operation>`` for every operation to the app."""
        rings = self

        class ComputeTask(Task[Any, None]):
            """Records a job and looks at it; its result is published when the job settles."""

            Request = KeepingRequest  # type: ignore[assignment]  # a class works as well as its name
            throws = (BadRequestError,)
            acks_late = True
            ignore_result = False
            typing = False

            @override
            def run(self, /, *_parent_result: object, **payload: object) -> None:
                rings.answer(self, payload)

        for operation in self._catalogue:
            app.register_task(type(f"Compute{operation.title()}", (ComputeTask,), {"name": task_name(operation)})())

    def answer(self, task: Any, payload: Mapping[str, object]) -> None:  # noqa: ANN401  # Celery's task is untyped
        """Record, acknowledge, run; ends with Ignore for every job that the journal knows."""
        message: KeepingRequest = _this_thread.request
        job_id: str = task.request.id

        def recorded(accepted: Accepted) -> None:
            message.turn.done()
            message.acknowledge()
            if accepted.new and self._revokes.withdraw(job_id):  # it came while the job was being recorded
                self._cancel(job_id, "celery:revoke", "revoked as it arrived")

        message.turn.wait(RECORDING_DEADLINE_S)
        try:
            submission = insist(lambda: self._read_known(task, payload), on=OUT_OF_REACH, for_s=RECORDING_DEADLINE_S)
            if submission is not None:
                self._take(submission, task.request, recorded)
        except OUT_OF_REACH as error:
            log.error("journal out of reach, message given back: job=%s %s", job_id, error)  # noqa: TRY400
            give_back(task.app, message)
            raise Ignore from None
        except SQLAlchemyError as error:
            log.warning("a message that the journal cannot hold: job=%r %s", job_id, error)
            raise BadRequestError("message: the journal cannot hold it (a NUL, or a number that is none?).") from None
        finally:
            message.turn.done()
        message.acknowledge()
        raise Ignore

    def _read_known(self, task: Any, payload: Mapping[str, object]) -> Submission | None:  # noqa: ANN401
        """What was sent; None for a ring that is refused under a known id."""
        request = task.request
        try:
            return self._read(task.name, request, payload)
        except BadRequestError as error:
            if reading.job(self._database, str(request.id)) is None:
                raise
            self._refuse(str(request.id), str(error))
            return None

    def _take(self, submission: Submission, request: Any, recorded: Callable[[Accepted], None]) -> None:  # noqa: ANN401
        """Have the job recorded and run; what is known to keep it from running is recorded first."""
        try:
            if self._is_plain(submission, request):
                self._taker.take_new(submission, recorded)
                return
            accepted = insist(
                lambda: accept(self._database, submission, outbox=False), on=OUT_OF_REACH, for_s=RECORDING_DEADLINE_S
            )
            if accepted.new:
                insist(
                    lambda: self._judge_new(accepted, submission, request),
                    on=OUT_OF_REACH,
                    for_s=RECORDING_DEADLINE_S,
                )
            self._taker.take_new(submission, recorded)
        except DifferentPayloadError as error:
            self._refuse(submission.id, str(error))

    def _is_plain(self, submission: Submission, request: Any) -> bool:  # noqa: ANN401
        return submission.host == self._host and not self._revokes.has(submission.id) and not _expired(request.expires)

    def _read(self, name: str, request: Any, payload: Mapping[str, object]) -> Submission:  # noqa: ANN401
        unknown = sorted(set(payload) - {"instance", "request", "host"})
        if unknown:
            raise BadRequestError(f"{unknown[0]}: there is no such argument; a job has instance, request and host.")
        canvas = {key: value for key in CANVAS_FIELDS if (value := getattr(request, key, None)) is not None}
        submission = read_submission(
            self._catalogue,
            operation=name.removeprefix("compute."),
            host=payload.get("host"),
            instance=payload.get("instance"),
            request=payload.get("request"),
            job_id=request.id,
            actor=f"celery:{request.origin or 'unknown'}"[:ACTOR_MAX_LENGTH],
            canvas=canvas,
            is_known=lambda job: reading.job(self._database, job) is not None,
        )
        if submission.host != self._host and not host_exists(self._database, submission.host):
            raise BadRequestError(
                f"host: {submission.host} is not a host that is known, and this is the queue of {self._host}."
            )
        return submission

    def _judge_new(self, accepted: Accepted, submission: Submission, request: Any) -> None:  # noqa: ANN401
        job = accepted.job
        if job.host != self._host:
            # It is for a host that exists: recorded is accepted, and that host's worker finds it.
            log.warning("misrouted message: job=%s for host %s came to the queue of %s", job.id, job.host, self._host)
            note(
                self._database,
                job.id,
                EventType.MISROUTED,
                actor=submission.actor,
                data={"queue_of": self._host, "host": job.host},
            )
        if self._revokes.withdraw(job.id):
            self._cancel(job.id, "celery:revoke", "revoked before it arrived")
        elif _expired(request.expires):
            self._cancel(job.id, submission.actor, "expired before it was accepted")

    def _cancel(self, job_id: str, actor: str, reason: str) -> None:
        request_cancel(self._database, job_id, Asked(actor, reason), outbox=True)

    def _refuse(self, job_id: str, why: str) -> None:
        log.warning("ring refused: job=%s %s", job_id, why)
        note(self._database, job_id, EventType.RING_REFUSED, actor="celery", data={"why": why})


def _expired(expires: object) -> bool:
    if isinstance(expires, str):
        try:
            moment = datetime.fromisoformat(expires)
        except ValueError:
            return False
    elif isinstance(expires, datetime):
        moment = expires
    else:
        return False
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() < datetime.now(UTC).timestamp()  # noqa: TID251  # the sender's clock meets ours here
