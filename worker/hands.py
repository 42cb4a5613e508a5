"""What this process has in hand: which jobs its threads run, and how many of each class may be run at once."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from models.states import ErrorClass, JobClass
from tasks.host import HostError

#: Gives a job back to the journal, with the sentence why, while its thread hangs.
GiveUp = Callable[[str], None]


@dataclass(eq=False)
class _Hold:
    job: str
    instance: UUID
    job_class: JobClass
    thread: int = field(default_factory=threading.get_ident)
    give_up: GiveUp | None = None  #: once the job is claimed


class Hands:
    """The jobs in hand. It fits `tasks.host.EarlierWork`: a destroy waits here for what it superseded.

    A job whose call hangs can be written off: it is not in hand any more, and its slot is free; but its instance is
    remembered until the call has returned. ``on_let_go`` is told of each thread that has let a job go.
    """

    def __init__(self, limits: Mapping[JobClass, int], on_let_go: Callable[[int], None] = lambda _thread: None) -> None:
        self._limits = dict(limits)
        self._on_let_go = on_let_go
        self._changed = threading.Condition()
        self._held: dict[str, _Hold] = {}
        self._written_off: list[_Hold] = []
        self._closed = False

    @contextmanager
    def grasp(self, job: str, instance: UUID, job_class: JobClass) -> Iterator[bool]:
        """Hold the job while the block runs; False if it is held already, has no slot, or the worker is stopping."""
        with self._changed:
            grasped = not self._closed and job not in self._held and self._free(job_class) > 0
            hold = _Hold(job, instance, job_class)
            if grasped:
                self._held[job] = hold
        try:
            yield grasped
        finally:
            if grasped:
                self._let_go(hold)

    def _let_go(self, hold: _Hold) -> None:
        with self._changed:
            if self._held.get(hold.job) is hold:
                del self._held[hold.job]
            else:
                self._written_off.remove(hold)
            self._changed.notify_all()
        self._on_let_go(hold.thread)

    def entrust(self, job: str, give_up: GiveUp) -> None:
        """The job in hand was claimed: from now on it can be given up while its thread hangs."""
        with self._changed:
            self._held[job].give_up = give_up

    def write_off(self, thread: int, why: str) -> bool:
        """Give up the job of a thread that hangs in a call, and let it be taken again; False if the thread has none.

        Raises what the journal raises; the job is in hand then, as before.
        """
        with self._changed:
            hold = next((each for each in self._held.values() if each.thread == thread), None)
        if hold is None or hold.give_up is None:
            return False
        hold.give_up(why)
        with self._changed:
            if self._held.get(hold.job) is hold:  # it may have come back meanwhile
                del self._held[hold.job]
                self._written_off.append(hold)
                self._changed.notify_all()
        return True

    def has_job(self, thread: int) -> bool:
        """Whether the thread has a job in hand that can be given up."""
        with self._changed:
            return any(each.thread == thread and each.give_up is not None for each in self._held.values())

    def written_off(self, instance: UUID) -> tuple[str, ...]:
        """The jobs of which a call on the instance was written off, and has not returned."""
        with self._changed:
            return tuple(each.job for each in self._written_off if each.instance == instance)

    def _free(self, job_class: JobClass) -> int:
        return self._limits[job_class] - sum(each.job_class is job_class for each in self._held.values())

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
        """The other jobs of the instance in hand, or written off."""
        with self._changed:
            return self._others(instance, job)

    def _others(self, instance: UUID, job: str) -> tuple[str, ...]:
        holds = (*self._held.values(), *self._written_off)
        return tuple(each.job for each in holds if each.instance == instance and each.job != job)

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
