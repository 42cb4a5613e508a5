"""Tracing: the body of a compute task is run and what it raises is handled as Celery's own tracer does it, for less.

Every ring ends with ``Ignore``. Celery's tracer writes its stack out, twice, for a line of the log that is never
written, which takes longer than the journal takes over a whole job.
"""

import time
from collections.abc import Callable
from typing import Any

from celery.app.task import Context
from celery.app.trace import TraceInfo, trace_ok_t, traceback_clear
from celery.exceptions import Ignore
from celery.states import FAILURE, IGNORED

Tracer = Callable[..., Any]


class _Ignored:
    """As much of Celery's record of an exception as its request asks for."""

    exception = Ignore()


def ring_tracer(task: Any) -> Tracer:  # noqa: ANN401  # Celery's task is untyped
    """What runs the task's body in a thread of the pool, given id, arguments and request, and tells what became of it.

    A body that returns is one that ended with ``Ignore``: a job's state and result are the postman's to tell.
    """

    def trace(_id: str, args: Any, kwargs: Any, request: Any = None) -> Any:  # noqa: ANN401
        began = time.monotonic()
        context = Context(request or {}, args=args, called_directly=False, kwargs=kwargs)
        task.request_stack.push(context)
        try:
            task.run(*args, **kwargs)
        except Ignore:
            pass
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the task's failure
            info = TraceInfo(FAILURE, error)
            failed = info.handle_error_state(task, context)
            traceback_clear(error)
            return trace_ok_t(failed, info, time.monotonic() - began, None)
        finally:
            task.request_stack.pop()
        return trace_ok_t(_Ignored, TraceInfo(IGNORED), time.monotonic() - began, None)

    return trace
