"""The tracer of rings tells Celery what its own would have told it."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, Task
from celery.exceptions import Ignore
from celery.states import FAILURE, IGNORED, PENDING

from worker.celery_app.tracing import ring_tracer

REQUEST = {"task": "compute.test", "lang": "py", "retries": 0, "errbacks": None, "ignore_result": False}


@pytest.fixture
def job_id() -> str:
    """Of each test its own: Celery's backend in memory is one for all applications of a process."""
    return str(uuid4())


@pytest.fixture
def app() -> Iterator[Celery]:
    """An application whose results are kept in memory."""
    app = Celery("test", broker="memory://", backend="cache+memory://", set_as_current=False)
    yield app
    app.close()


def traced(app: Celery, job_id: str, body: Any) -> tuple[Any, Any]:
    """What the tracer returns for a task with this body, and the task."""

    class Ring(Task[Any, None]):
        name = "compute.test"
        typing = False

        def run(self, /, *_args: object, **payload: object) -> None:
            body(self, payload)

    task = app.register_task(Ring())
    return ring_tracer(task)(job_id, (), {"host": "h1"}, {**REQUEST, "id": job_id}), task


def test_a_ring_that_ends_with_ignore_is_ignored(app: Celery, job_id: str) -> None:
    """Its request acknowledges it, and nobody writes the job's state."""
    seen: list[object] = []

    def body(task: Any, payload: object) -> None:
        seen.extend([task.request.id, payload])
        raise Ignore

    result, task = traced(app, job_id, body)
    assert seen == [job_id, {"host": "h1"}]
    assert result.info.state == IGNORED
    assert isinstance(result.retval.exception, Ignore)
    assert task.request_stack.top is None
    assert app.backend.get_state(job_id) == PENDING


def test_a_ring_that_fails_has_failed(app: Celery, job_id: str) -> None:
    """As a request that cannot be a job does; its sender gets the exception."""

    def body(_task: Any, _payload: object) -> None:
        raise ValueError("host: a name is needed.")

    result, task = traced(app, job_id, body)
    assert result.info.state == FAILURE
    assert "a name is needed" in str(result.retval.exception)
    assert task.request_stack.top is None
    assert app.backend.get_state(job_id) == FAILURE
    assert "a name is needed" in str(app.backend.get_result(job_id))
