"""Consuming: a message that makes no sense is thrown away with a line in the log; it never ends the worker.

Nor does it write anybody's Celery state: what cannot be read may carry the id of a job that is well.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.consumer.control import Control
from celery.worker.consumer.tasks import Tasks
from typing_extensions import override

from worker.celery_app.app import COMPUTE
from worker.celery_app.tracing import ring_tracer

log = logging.getLogger(__name__)


def _why_unreadable(message: Any) -> str | None:  # noqa: ANN401  # kombu's message
    """What is wrong with the message's frame, if anything; what it asks for is judged by the task."""
    headers = message.headers or {}
    for name in ("id", "task"):
        if not isinstance(headers.get(name), str):
            return f"its header {name} is no text"
    body = message.payload
    match body:
        case [list(), dict(), dict() | None]:
            return None
        case _:
            return "its body is not arguments, named arguments and canvas"


class TasksOfEachQueue(Tasks):
    """Celery's step that takes tasks, with a prefetch for each queue.

    RabbitMQ's quorum queues refuse one for the whole channel, and whether a queue is one is not ours to say.
    """

    @override
    def qos_global(self, c: Any) -> bool:  # as Celery calls it
        """Never."""
        return False


class ControlAfterTasks(Control):
    """Celery's step that takes revokes and the like, behind our step in the place of its own."""

    requires = (TasksOfEachQueue,)


def _steps() -> tuple[str, ...]:
    """Celery's steps, ours in the place of its own, and none for tasks with an ETA, which have no place here."""
    ours = {
        "celery.worker.consumer.tasks:Tasks": f"{__name__}:{TasksOfEachQueue.__name__}",
        "celery.worker.consumer.control:Control": f"{__name__}:{ControlAfterTasks.__name__}",
        "celery.worker.consumer.delayed_delivery:DelayedDelivery": None,
    }
    steps = (ours.get(step, step) for step in Consumer.Blueprint.default_steps)
    return tuple(step for step in steps if step is not None)


class SturdyConsumer(Consumer):
    """Celery's consumer, which survives whatever is put into its queue."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]  # its stubs take it for a variable
        """Celery's steps, two of them ours."""

        default_steps: Sequence[str] = _steps()

    connection_errors: tuple[type[Exception], ...]

    @override
    def update_strategies(self) -> None:
        """Celery's own, with a tracer of ours for the compute tasks."""
        super().update_strategies()
        for name, task in self.app.tasks.items():
            if name.startswith(COMPUTE):
                task.__trace__ = ring_tracer(task)

    @override
    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """The handler of each message that comes."""
        handle = super().create_task_handler(*arguments, **options)

        def on_task_received(message: Any) -> None:  # noqa: ANN401  # kombu's message
            try:
                why = _why_unreadable(message)
                if why is None:
                    handle(message)
                    return
            except self.connection_errors:
                raise
            except Exception as error:  # noqa: BLE001  # anything can be in a message
                why = f"{type(error).__name__}: {error}"
            log.error("a message that cannot be read is thrown away: %s", why)
            message.reject_log_error(log, self.connection_errors)

        return on_task_received

    @override
    def on_unknown_task(self, _body: Any, message: Any, error: Any) -> None:
        """Celery would write a failure under the message's id; there may be a job of that id."""
        log.error("a message for a task that is not known is thrown away: %s", error)
        message.reject_log_error(log, self.connection_errors)
