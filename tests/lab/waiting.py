"""The one place of the tests that sleeps: briefly, below a deadline, with the reason at hand."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

POLL_S = 0.01


class NeverHappenedError(AssertionError):
    """What was waited for did not come true in time."""


def eventually(
    probe: Callable[[], Value],
    what: str,
    within_s: float = 10.0,
    *,
    poll_s: float = POLL_S,
    watch: Callable[[], None] | None = None,
) -> Value:
    """The probe's first true answer. `watch` runs before each look and raises when waiting has become pointless."""
    deadline = time.monotonic() + within_s
    while True:
        if watch:
            watch()
        answer = probe()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise NeverHappenedError(f"not within {within_s:g} s: {what} (last answer: {answer!r})")
        time.sleep(poll_s)
