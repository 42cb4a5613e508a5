"""The Celery worker process: one, with the threads pool, on this host's queue."""

import gc
import logging
import warnings
from collections.abc import Callable

from celery import Celery
from celery.platforms import SecurityWarning  # type: ignore[attr-defined]  # the stubs lack it
from celery.signals import setup_logging, worker_ready, worker_shutting_down
from celery.worker import state

from worker.celery_app.app import OPS_QUEUE, queue_name


def worker_name(host: str) -> str:
    """The worker as Flower and Celery's inspection show it."""
    return f"hostler@{host}"


def keep_our_logging() -> None:
    """Leave logging as it is set up: Celery's own set-up would swallow an operator's lines."""
    setup_logging.connect(_logging_is_set_up, weak=False)
    # Celery warns root of messages that run code; ours are JSON, and a system libvirt is commanded as root.
    warnings.filterwarnings("ignore", category=SecurityWarning)


def end_before_serving() -> bool:
    """Have `serve` end as soon as it has begun; whether that was asked for before."""
    before = state.should_stop is not None
    setattr(state, "should_stop", 0)  # noqa: B010  # its stubs know of None alone
    return before


def _logging_is_set_up(**_fields: object) -> None:
    logging.getLogger("celery").setLevel(logging.WARNING)
    logging.getLogger("kombu").setLevel(logging.WARNING)


def _set_aside_what_stays(**_fields: object) -> None:
    """Count what the start left (modules, tasks, tables) as there for good.

    Python collects cyclic garbage of long life once it is a quarter of all that lives: with the half million objects
    of a start, that of hundreds of jobs. Only the second collection makes it count without them.
    """
    gc.collect()
    gc.freeze()
    gc.collect()


def serve(app: Celery, host: str, *, threads: int, on_stopping: Callable[[], None]) -> int:
    """Take messages until a signal ends it (TERM or INT: warm, what is in hand is finished); the exit status.

    ``on_stopping`` is called when the signal comes: from then on nothing new is taken.
    """

    def stopping(**_fields: object) -> None:
        on_stopping()

    worker_shutting_down.connect(stopping, weak=False)
    worker_ready.connect(_set_aside_what_stays, weak=False)
    worker = app.Worker(
        hostname=worker_name(host),
        pool_cls="threads",
        concurrency=threads,
        queues=[queue_name(host), OPS_QUEUE],
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        task_events=True,
        optimization="fair",
    )
    worker.start()
    return int(worker.exitcode or 0)
