"""Patience: seconds inside a step (tenacity), minutes between claims (the journal's ``not_before``)."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import tenacity

from models.states import ErrorClass
from tasks.host import HostError

ResultT = TypeVar("ResultT")

#: What is worth another look within the same step.
PASSING = frozenset({ErrorClass.TRANSIENT, ErrorClass.UNKNOWN, ErrorClass.RESOURCE})


def insist(
    action: Callable[[], ResultT], *, on: type[Exception] | tuple[type[Exception], ...], for_s: float
) -> ResultT:
    """What ``action`` returns; while it raises ``on`` it is tried again, for that many seconds at most."""
    began = time.monotonic()
    try:
        return action()
    except on as error:
        first = error
    left_s = for_s - (time.monotonic() - began)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(on),
        stop=tenacity.stop_after_delay(max(0.0, left_s)),
        wait=tenacity.wait_exponential_jitter(multiplier=0.2, max=5),
        reraise=True,
    )
    return retrying(_after(first, action))


def _after(first: Exception, action: Callable[[], ResultT]) -> Callable[[], ResultT]:
    """The action, of which the first call was made already and raised that."""
    ahead = [first]

    def act() -> ResultT:
        if ahead:
            raise ahead.pop()
        return action()

    return act


@dataclass(frozen=True)
class Patience:
    """How long a step is tried at a time, and how long a job waits before it is tried again."""

    attempts: int = 5
    first_pause_s: float = 0.2
    longest_pause_s: float = 3.0
    in_all_s: float = 10.0
    first_wait_s: float = 2.0
    longest_wait_s: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def try_step(self, cycle: Callable[[], ResultT]) -> ResultT:
        """What ``cycle`` (look, do, look) returns; it is repeated on errors that pass, then the last one is raised."""
        began = time.monotonic()
        try:
            return cycle()
        except HostError as error:
            if error.error_class not in PASSING:
                raise
            first = error
        left_s = self.in_all_s - (time.monotonic() - began)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, HostError) and error.error_class in PASSING
            ),
            stop=tenacity.stop_after_attempt(self.attempts) | tenacity.stop_after_delay(max(0.0, left_s)),
            wait=tenacity.wait_exponential_jitter(
                multiplier=self.first_pause_s, max=self.longest_pause_s, jitter=self.first_pause_s
            ),
            sleep=self.sleep,
            reraise=True,
        )
        return retrying(_after(first, cycle))

    def wait_after(self, waits: int) -> timedelta:
        """How long a job stays waiting when it has waited ``waits`` times without getting on."""
        doubled = self.first_wait_s * 2.0 ** min(waits, 16)
        jitter = random.uniform(0.9, 1.1)  # noqa: S311  # spreads load, guards nothing
        return timedelta(seconds=min(self.longest_wait_s, doubled) * jitter)
