"""Revoke, from any Celery client or Flower, is our cancel.

Celery's own revoke keeps ids in the worker's memory for hours, where they would swallow re-rings and retries of
the same job; ours keeps none, but for a message that has not arrived yet, briefly.
"""

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from celery.worker.control import Panel
from kombu.utils.encoding import safe_repr

from models.journal.asking import Answer

log = logging.getLogger(__name__)

#: How long a revoke waits for a message that may still be on its way, in seconds, and how many may wait.
EARLY_REVOKE_KEPT_S = 60.0
EARLY_REVOKES_MAX = 10_000


class EarlyRevokes:
    """Revokes that came before their message did."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def keep(self, job: str) -> None:
        """Remember the revoke for a while."""
        with self._lock:
            self._until[job] = self._clock() + EARLY_REVOKE_KEPT_S
            self._until.move_to_end(job)
            while len(self._until) > EARLY_REVOKES_MAX:
                self._until.popitem(last=False)

    def has(self, job: str) -> bool:
        """Whether a revoke of the job is waiting."""
        with self._lock:
            return self._until.get(job, -math.inf) > self._clock()

    def withdraw(self, job: str) -> bool:
        """Whether a revoke of the job is waiting; it is forgotten with this."""
        with self._lock:
            until = self._until.pop(job, None)
        return until is not None and until > self._clock()


def install(cancel: Callable[[str, str], Answer | None], revokes: EarlyRevokes) -> None:
    """Put our cancel in the place of the commands by which Celery's clients revoke and terminate.

    ``cancel(job, reason)`` answers None for a job that the journal does not know.
    """

    def revoke(_state: object, task_id: Any, **_options: object) -> dict[str, str]:  # noqa: ANN401  # an id or several
        """Cancel jobs at their next safe point."""
        ids: Iterable[str] = [task_id] if isinstance(task_id, str) else list(task_id or ())
        said = []
        for job in ids:
            answer = cancel(job, "revoked through Celery")
            if answer is None:
                revokes.keep(job)
                said.append(f"job {job} is not known here; it is cancelled if it arrives within a minute.")
            else:
                said.append(answer.sentence)
            log.info("revoke: job=%s %s", job, said[-1])
        return {"ok": " ".join(said)}

    def terminate(state: object, signal: str, task_id: Any, **options: object) -> dict[str, str]:  # noqa: ANN401
        """Cancel jobs at their next safe point: a thread cannot be killed, nor should a step be."""
        log.info("terminate %s is answered as a cancel: %s", safe_repr(signal), safe_repr(task_id))
        return revoke(state, task_id, **options)

    for command in (revoke, terminate):
        Panel.data[command.__name__] = command
