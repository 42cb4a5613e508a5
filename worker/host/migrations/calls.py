"""Calls in threads of their own: libvirt's may last as long as a migration, or for ever."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from uuid import UUID

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.threaded_call import ThreadedCall

ResultT = TypeVar("ResultT")


class OwnCalls:
    """The migrations that this process has asked for, and whose calls have not returned."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[UUID, ThreadedCall[None]] = {}

    def begin(self, instance: UUID, call: Callable[[], None]) -> ThreadedCall[None]:
        """Begin the call; one of the instance that has not returned is HostError(TRANSIENT)."""
        with self._lock:
            if not self._is_under_way(instance):
                self._calls[instance] = ThreadedCall(call, name=f"migrate-{instance}")
                return self._calls[instance]
        raise HostError(ErrorClass.TRANSIENT, f"an earlier call to migrate {instance} has not returned")

    def under_way(self, instance: UUID) -> ThreadedCall[None] | None:
        """The instance's call, while it has not returned."""
        with self._lock:
            return self._calls[instance] if self._is_under_way(instance) else None

    def _is_under_way(self, instance: UUID) -> bool:
        call = self._calls.get(instance)
        if call is not None and call.returned():
            del self._calls[instance]
            return False
        return call is not None


class Questions:
    """Calls that are waited for with a deadline. Of those about one thing, at most one is left hanging."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[Hashable, ThreadedCall[Any]] = {}

    def ask(self, about: Hashable, call: Callable[[], ResultT], within_s: float) -> ResultT:
        """What the call, begun now, returns or raises; HostError(TRANSIENT) when it does not in time.

        An earlier one about the same that still hangs is waited for first; its answer is too old to be used.
        """
        end = time.monotonic() + within_s
        with self._lock:
            earlier = self._asked.get(about)
        if earlier is None or earlier.returned(within_s):
            asked = ThreadedCall(call, name=f"ask-{about}")
            with self._lock:
                self._asked[about] = asked
            if asked.returned(max(0.0, end - time.monotonic())):
                self._forget(about, asked)
                return asked.result()
        raise HostError(ErrorClass.TRANSIENT, f"libvirt did not answer within {within_s:g} s")

    def _forget(self, about: Hashable, asked: ThreadedCall[Any]) -> None:
        with self._lock:
            if self._asked.get(about) is asked:
                del self._asked[about]
