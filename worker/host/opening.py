"""Opening a connection where a hang can be walked away from.

``open()`` of a daemon that is stopped, or has no slot free, never returns and has no time limit. So it runs in a
thread of its own; one that is not back in time is abandoned, and puts away by itself what it opens too late.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import libvirt

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.errors import Call, translated

T = TypeVar("T")


class Opener(Generic[T]):
    """Opens with a deadline; leaves at most ``abandoned_limit`` hung opens behind at any time."""

    def __init__(self, deadline_s: float, abandoned_limit: int) -> None:
        self._deadline_s = deadline_s
        self._limit = threading.BoundedSemaphore(abandoned_limit)

    def open(self, opening: Callable[[], T], put_away: Callable[[T], None]) -> T:
        """What ``opening`` returned in time. Raises HostError(TRANSIENT) when it did not, or may not be tried."""
        if not self._limit.acquire(blocking=False):
            raise HostError(ErrorClass.TRANSIENT, "libvirt still answers none of the connections begun earlier")
        attempt = _Attempt(opening, put_away, self._limit)
        threading.Thread(target=attempt.run, name="libvirt-open", daemon=True).start()
        return attempt.result(self._deadline_s)


@dataclass(frozen=True)
class _Failure:
    error: Exception


class _Attempt(Generic[T]):
    def __init__(self, opening: Callable[[], T], put_away: Callable[[T], None], limit: threading.Semaphore) -> None:
        self._opening = opening
        self._put_away = put_away
        self._limit = limit
        self._lock = threading.Lock()
        self._abandoned = False
        self._results: SimpleQueue[T | _Failure] = SimpleQueue()

    def run(self) -> None:
        try:
            self._settle()
        finally:
            self._limit.release()

    def _settle(self) -> None:
        result: T | _Failure
        try:
            result = self._opening()
        except Exception as error:  # noqa: BLE001 - handed over, and raised where it is waited for
            result = _Failure(error)
        with self._lock:
            if not self._abandoned:
                self._results.put(result)
                return
        if not isinstance(result, _Failure):
            self._put_away(result)

    def result(self, deadline_s: float) -> T:
        try:
            result = self._results.get(timeout=deadline_s)
        except Empty:
            result = self._abandon(deadline_s)
        if isinstance(result, _Failure):
            if isinstance(result.error, libvirt.libvirtError):
                raise translated(result.error, Call.OPEN) from result.error
            raise result.error
        return result

    def _abandon(self, deadline_s: float) -> "T | _Failure":
        with self._lock:
            if self._results.empty():
                self._abandoned = True
                message = f"libvirt did not answer within {deadline_s:g} s while a connection was opened"
                raise HostError(ErrorClass.TRANSIENT, message)
            return self._results.get_nowait()
