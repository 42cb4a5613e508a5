"""Rings: what a Celery message makes this worker do. It records first, then claims or returns."""

import logging
import threading
from collections.abc import Mapping
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
from models.journal.asking import request_cancel
from models.records import JobRecord
from models.states import EventType
from models.submission import Submission
from tasks.catalogue import Catalogue
from tasks.requests import BadRequestError
from tasks.submission import read_submission
from worker.celery_app.app import task_name
from worker.celery_app.revoking import EarlyRevokes
from worker.celery_app.turns import Turns
from worker.retrying import insist

log = logging.getLogger(__name__)

#: How long a message is kept in hand while the journal is out of reach, in seconds; then it goes back to its queue.
RECORDING_DEADLINE_S = 60.0

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
        self.turn = self.turns.take(str((self.kwargs or {}).get("instance")))

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
    """Who runs a job that was rung for, if it can be claimed now."""

    def take_rung(self, job: JobRecord) -> None:
        """Claim and carry out the job, and what waits for its slot afterwards; or return at once. Raises nothing."""
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
        """Record, acknowledge, take; ends with Ignore for every job that the journal knows."""
        message: KeepingRequest = _this_thread.request
        job_id: str = task.request.id
        message.turn.wait(RECORDING_DEADLINE_S)
        try:
            accepted = insist(lambda: self._record(task, payload), on=OUT_OF_REACH, for_s=RECORDING_DEADLINE_S)
        except OUT_OF_REACH as error:
            log.error("journal out of reach, message given back: job=%s %s", job_id, error)  # noqa: TRY400
            message.reject(requeue=True)
            raise Ignore from None
        except SQLAlchemyError as error:
            log.warning("a message that the journal cannot hold: job=%r %s", job_id, error)
            raise BadRequestError("message: the journal cannot hold it (a NUL, or a number that is none?).") from None
        finally:
            message.turn.done()
        message.acknowledge()
        if accepted is not None:
            self._taker.take_rung(accepted.job)
        raise Ignore

    def _record(self, task: Any, payload: Mapping[str, object]) -> Accepted | None:  # noqa: ANN401
        """The job, recorded; None for a ring that is refused under a known id."""
        request = task.request
        try:
            submission = self._read(task.name, request, payload)
        except BadRequestError as error:
            if reading.job(self._database, str(request.id)) is None:
                raise
            self._refuse(str(request.id), str(error))
            return None
        try:
            accepted = accept(self._database, submission, outbox=False)
        except DifferentPayloadError as error:
            self._refuse(submission.id, str(error))
            return None
        if accepted.new:
            self._judge_new(accepted, submission, request)
        return accepted

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
            request_cancel(
                self._database, job.id, actor="celery:revoke", reason="revoked before it arrived", outbox=True
            )
        elif _expired(request.expires):
            request_cancel(
                self._database, job.id, actor=submission.actor, reason="expired before it was accepted", outbox=True
            )

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
