"""What this process has in hand: which jobs its threads run, and how many of each class may be run at once."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from models.states import ErrorClass, JobClass
from tasks.host import HostError


class Hands:
    """The jobs in hand. It fits `tasks.host.EarlierWork`: a destroy waits here for what it superseded."""

    def __init__(self, limits: Mapping[JobClass, int]) -> None:
        self._limits = dict(limits)
        self._changed = threading.Condition()
        self._held: dict[str, tuple[UUID, JobClass]] = {}
        self._closed = False

    @contextmanager
    def grasp(self, job: str, instance: UUID, job_class: JobClass) -> Iterator[bool]:
        """Hold the job while the block runs; False if it is held already, has no slot, or the worker is stopping."""
        with self._changed:
            grasped = not self._closed and job not in self._held and self._free(job_class) > 0
            if grasped:
                self._held[job] = (instance, job_class)
        try:
            yield grasped
        finally:
            if grasped:
                with self._changed:
                    del self._held[job]
                    self._changed.notify_all()

    def _free(self, job_class: JobClass) -> int:
        return self._limits[job_class] - sum(held is job_class for _, held in self._held.values())

    def free_classes(self) -> dict[JobClass, int]:
        """The classes that have a slot free, and how many."""
        with self._changed:
            if self._closed:
                return {}
            return {job_class: free for job_class in self._limits if (free := self._free(job_class)) > 0}

    def held(self) -> frozenset[str]:
        """The ids of the jobs in hand."""
        with self._changed:
            return frozenset(self._held)

    def close(self) -> None:
        """Take no new job; those in hand go on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_empty(self, deadline_s: float) -> bool:
        """Whether all jobs in hand ended within the deadline."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._held, timeout=deadline_s)

    def going_on(self, instance: UUID, job: str) -> tuple[str, ...]:
        """The other jobs of the instance in hand."""
        with self._changed:
            return self._others(instance, job)

    def _others(self, instance: UUID, job: str) -> tuple[str, ...]:
        return tuple(held for held, (of, _) in self._held.items() if of == instance and held != job)

    def wait_ended(self, instance: UUID, job: str, deadline_s: float) -> None:
        """Return once no other job of the instance is in hand; HostError(TRANSIENT) when the deadline passed."""
        until = time.monotonic() + deadline_s
        with self._changed:
            if not self._changed.wait_for(
                lambda: not self._others(instance, job), timeout=max(0.0, until - time.monotonic())
            ):
                others = ", ".join(self._others(instance, job))
                raise HostError(
                    ErrorClass.TRANSIENT, f"a call of job {others} has not returned within {deadline_s:.0f} s"
                )
