"""Calls in threads of their own: libvirt's may last as long as a migration, or for ever."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from uuid import UUID

from models.states import ErrorClass
from tasks.host import HostError

ResultT = TypeVar("ResultT")


class ThreadedCall(Generic[ResultT]):
    """A call that has begun; it can be waited for with a deadline, walked away from, and asked for again."""

    def __init__(self, call: Callable[[], ResultT], name: str) -> None:
        self._call = call
        self._returned = threading.Event()
        self._results: list[ResultT] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def returned(self, within_s: float = 0.0) -> bool:
        """Whether it has returned, or raised, by then."""
        return self._returned.wait(within_s)

    def result(self) -> ResultT:
        """What the call returned or raised, once it has."""
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised where the call is waited for
            self._error = error
        finally:
            self._returned.set()


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
