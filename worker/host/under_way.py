"""Calls of libvirt under way, and how long they have been: what hangs is seen from outside, for it tells nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class CallsUnderWay:
    """When each call that has not returned was begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[object, float] = {}

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count the block as a call."""
        call = object()
        with self._lock:
            self._begun[call] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._begun[call]

    def older_than(self, seconds: float) -> int:
        """How many have been under way for longer."""
        before = time.monotonic() - seconds
        with self._lock:
            return sum(begun < before for begun in self._begun.values())
