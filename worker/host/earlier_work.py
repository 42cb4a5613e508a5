"""Calls under way in this process, by instance and job: a thread that was written off is still at work."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from models.states import ErrorClass
from tasks.host import HostError


class CallsUnderWay:
    """The port's `EarlierWork`: whoever runs a step on a host says so with `under_way`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: Counter[tuple[UUID, str]] = Counter()

    @contextmanager
    def under_way(self, instance: UUID, job: str) -> Iterator[None]:
        """Until it is left, by return or by error, the job has a call under way for the instance."""
        with self._changed:
            self._calls[instance, job] += 1
        try:
            yield
        finally:
            with self._changed:
                self._calls[instance, job] -= 1
                if not self._calls[instance, job]:
                    del self._calls[instance, job]
                self._changed.notify_all()

    def going_on(self, instance: UUID, job: str) -> tuple[str, ...]:
        """The other jobs with a call under way, in order of their ids."""
        with self._changed:
            return self._others(instance, job)

    def wait_ended(self, instance: UUID, job: str, deadline_s: float) -> None:
        """Wait for the last of them to return."""
        with self._changed:
            if self._changed.wait_for(lambda: not self._others(instance, job), max(deadline_s, 0.0)):
                return
            others = ", ".join(self._others(instance, job))
        message = f"calls of {others} for the instance {instance} have not returned within {deadline_s:g} s"
        raise HostError(ErrorClass.TRANSIENT, message)

    def _others(self, instance: UUID, job: str) -> tuple[str, ...]:
        return tuple(sorted(other for each, other in self._calls if each == instance and other != job))
