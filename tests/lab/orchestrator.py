"""A plain Celery client, as an orchestrator without our code would be: it knows a broker's address and names."""

import uuid
from typing import Any
from uuid import UUID

from celery import Celery, Signature
from celery.result import AsyncResult

RESULT_WITHIN_S = 60.0


class Orchestrator:
    """Sends jobs and waits for their results. Nothing of it is configured but two addresses."""

    def __init__(self, broker_url: str, result_url: str | None = None) -> None:
        self.app = Celery("orchestrator", broker=broker_url, backend=result_url or broker_url, set_as_current=False)

    def signature(
        self,
        operation: str,
        instance: UUID,
        request: dict[str, Any],
        *,
        host: str = "h1",
        job_id: str | None = None,
        queue: str | None = None,
    ) -> Signature[Any]:
        """The message of a job, not sent yet."""
        return self.app.signature(
            f"compute.{operation}",
            kwargs={"instance": str(instance), "request": request, "host": host},
            task_id=job_id or str(uuid.uuid4()),
            queue=queue or f"host.{host}",
        )

    def send(self, operation: str, instance: UUID, request: dict[str, Any], **options: Any) -> AsyncResult[Any]:
        """Send a job; its result."""
        return self.signature(operation, instance, request, **options).apply_async()

    def result(self, job_id: str) -> AsyncResult[Any]:
        """What Celery knows of the job."""
        return AsyncResult(job_id, app=self.app)

    def states_seen(self, job_id: str) -> "StateWatch":
        """Every state that Celery's result of the job takes from now on, told by Redis itself."""
        return StateWatch(self.app, job_id)

    def close(self) -> None:
        """Let go of the broker."""
        self.app.close()


class StateWatch:
    """Listens to the channel on which Celery's Redis backend publishes a result's states."""

    def __init__(self, app: Celery, job_id: str) -> None:
        self._backend = app.backend
        self._subscription = self._backend.client.pubsub(ignore_subscribe_messages=True)
        self._subscription.subscribe(self._backend.get_key_for_task(job_id))
        self._subscription.get_message(timeout=5.0)

    def states(self, quiet_for_s: float = 1.0) -> list[str]:
        """The states published since the last call, until none came for a while."""
        seen: list[str] = []
        while True:
            message = self._subscription.get_message(timeout=quiet_for_s)
            if message is None:
                return seen
            seen.append(self._backend.decode_result(message["data"])["status"])

    def close(self) -> None:
        """Listen no more."""
        self._subscription.close()
