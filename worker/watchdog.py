"""The watchdog: writes off calls that hang, tells a supervisor that the worker is well, and ends one that is not.

A supervisor is systemd or its like: sd_notify(3), datagrams to the socket that it named. Without one nobody is told.
"""

import faulthandler
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from worker.settings import Supervisor

log = logging.getLogger(__name__)

#: A call of libvirt that has not returned for so long is counted as stuck, in seconds. A daemon that is silent ends its
#: calls after 20 s by keepalive; a guest's memory of some hundred GiB is saved in minutes. Migrations are not counted.
STUCK_AFTER_S = 600.0
#: More stuck calls than this, and the worker ends: each keeps a thread and a slot. The next one takes its jobs up.
STUCK_LIMIT = 8
#: The sweeper comes round every few seconds, and after half a minute where the database does not answer.
SILENT_AFTER_S = 120.0
#: How often the worker looks at itself, in seconds; more often if the supervisor wants to hear more often.
INTERVAL_S = 5.0
#: The exit status of a worker that ends because of stuck calls.
EXIT_STUCK = 7


class HungCall(Protocol):
    """A call of libvirt that has passed its deadline."""

    @property
    def call(self) -> str: ...  # noqa: D102  # what was asked of libvirt
    @property
    def thread(self) -> int: ...  # noqa: D102  # that it keeps
    @property
    def lasts_s(self) -> float: ...  # noqa: D102


HungCallT = TypeVar("HungCallT", bound=HungCall)


class CallsUnderWay(Protocol[HungCallT]):
    """Who knows the calls of libvirt that have not returned."""

    def older_than(self, seconds: float) -> int:
        """How many have been under way for longer."""
        ...

    def overdue(self) -> Collection[HungCallT]:
        """Those that have passed their deadline."""
        ...

    def write_off(self, call: HungCallT) -> bool:
        """Have its thread make no other call before it has let its job go. False if it has returned meanwhile."""
        ...


class JobsInHand(Protocol):
    """Who knows which thread has which job in hand."""

    def has_job(self, thread: int) -> bool:
        """Whether the thread has a job in hand that can be given up."""
        ...

    def write_off(self, thread: int, why: str) -> bool:
        """Give up the thread's job; raises what the journal raises."""
        ...


@dataclass(frozen=True)
class Notifier:
    """Sends a supervisor what it wants to know; without a supervisor, nothing."""

    address: str | None

    def send(self, state: str) -> None:
        """Send an assignment of sd_notify(3). A supervisor that cannot be told is logged, and changes nothing."""
        if self.address is None:
            return
        # a name that begins with @ is in the abstract name space; see unix(7)
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1.0)
                sender.sendto(state.encode(), address)
        except OSError as error:
            log.warning("the supervisor cannot be told %s at %s: %s", state, self.address, error)


class Watchdog(threading.Thread, Generic[HungCallT]):
    """Says READY as it starts, then looks every few seconds.

    ``silent_s`` tells how long ago the sweeper came round, ``leave`` ends the process without waiting for its threads.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        calls: CallsUnderWay[HungCallT],
        jobs: JobsInHand,
        silent_s: Callable[[], float],
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._notifier = Notifier(supervisor.notify_socket)
        self._pings = supervisor.watchdog_s is not None
        self._interval_s = min(INTERVAL_S, (supervisor.watchdog_s or INTERVAL_S) / 3)
        self._calls = calls
        self._jobs = jobs
        self._silent_s = silent_s
        self._leave = leave
        self._ended = threading.Event()

    @override
    def run(self) -> None:
        """Look until the process ends."""
        self._notifier.send("READY=1")
        self.look()
        while not self._ended.wait(self._interval_s):
            self.look()

    def look(self) -> None:
        """Write off calls that hang; end the process if too many are stuck, else say that it is well, if it is."""
        self._write_off_overdue_calls()
        stuck = self._calls.older_than(STUCK_AFTER_S)
        if stuck > STUCK_LIMIT:
            log.critical(
                "%d calls of libvirt have not returned for %.0f s: the worker ends, the next one takes its jobs up",
                *(stuck, STUCK_AFTER_S),
            )
            faulthandler.dump_traceback(all_threads=True)
            self._leave(EXIT_STUCK)
            return
        silent_s = self._silent_s()
        if silent_s > SILENT_AFTER_S:
            log.error("the sweeper has not come round for %.0f s: no sign of life is given", silent_s)
        elif self._pings:
            self._notifier.send("WATCHDOG=1")

    def _write_off_overdue_calls(self) -> None:
        """A job whose call hangs waits in the journal, and its slot is free: the next look is another thread's."""
        for hung in self._calls.overdue():
            if not (self._jobs.has_job(hung.thread) and self._calls.write_off(hung)):
                continue
            try:
                self._jobs.write_off(
                    hung.thread, f"libvirt was asked to {hung.call}, {hung.lasts_s:.0f} s ago: no answer"
                )
            except SQLAlchemyError as error:
                log.warning("a job whose call hangs is not given up yet: the journal is out of reach: %s", error)

    def stopping(self) -> None:
        """Say that the worker ends in good order; it goes on saying that it is well until then."""
        self._notifier.send("STOPPING=1")

    def end(self) -> None:
        """Look no more; for tests, for a worker looks until its process ends."""
        self._ended.set()
