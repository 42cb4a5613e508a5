"""Calls of libvirt under way, and how long they have been: what hangs is seen from outside, for it tells nothing."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.errors import Call

#: How long a call may take before it is written off, in seconds: looks first, then what has an effect. libvirt itself
#: waits 30 s for a domain's job lock, and up to 80 s for a process that does not die (measured).
LOOK_DEADLINE_S, EFFECT_DEADLINE_S = 60.0, 120.0
#: What takes longer where all is well: huge pages are cleared at a start, storage that is not there is given up after
#: 150 s (measured with RBD). A guest's memory is written, or sent, for as long as that takes.
DEADLINES_S: Mapping[Call, float | None] = MappingProxyType(
    {Call.OPEN: None, Call.LOOK: LOOK_DEADLINE_S, Call.START: 300.0, Call.ATTACH: 180.0, Call.SAVE: None}
    | {Call.MIGRATE: None}
)


@dataclass(eq=False)
class CallUnderWay:
    """A call that has not returned."""

    call: Call
    thread: int = field(default_factory=threading.get_ident)
    begun: float = field(default_factory=time.monotonic)
    leave: Callable[[], None] = lambda: None  #: has later calls not share its connection

    @property
    def lasts_s(self) -> float:
        """How long it has been under way, in seconds."""
        return time.monotonic() - self.begun


class CallsUnderWay:
    """The calls that have not returned, by the threads that they keep."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[CallUnderWay] = set()
        self._written_off: set[int] = set()

    @contextmanager
    def one(self, call: Call) -> Iterator[CallUnderWay]:
        """Count the block as a call. HostError(TRANSIENT) in a thread whose last one was written off.

        Somebody else may have its job in hand by now.
        """
        under_way = CallUnderWay(call)
        with self._lock:
            if under_way.thread in self._written_off:
                raise HostError(ErrorClass.TRANSIENT, f"to {call} is too late: an earlier call was written off")
            self._calls.add(under_way)
        try:
            yield under_way
        finally:
            with self._lock:
                self._calls.discard(under_way)

    def older_than(self, seconds: float) -> int:
        """How many have been under way for longer."""
        with self._lock:
            return sum(each.lasts_s > seconds for each in self._calls)

    def overdue(self) -> tuple[CallUnderWay, ...]:
        """Those that have passed their deadline."""
        with self._lock:
            deadlines = {each: DEADLINES_S.get(each.call, EFFECT_DEADLINE_S) for each in self._calls}
        return tuple(each for each, deadline in deadlines.items() if deadline is not None and each.lasts_s > deadline)

    def write_off(self, call: CallUnderWay) -> bool:
        """Have its thread make no other call, until `reinstate`. False if it has returned meanwhile."""
        with self._lock:
            if call not in self._calls:
                return False
            first = call.thread not in self._written_off
            self._written_off.add(call.thread)
        if first:
            call.leave()
        return True

    def reinstate(self, thread: int) -> None:
        """The thread has let its job go: it may make calls again."""
        with self._lock:
            self._written_off.discard(thread)
