"""A call in a thread of its own: libvirt's may last as long as a migration, or, on a QEMU that hangs, for ever."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

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
