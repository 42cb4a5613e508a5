"""The watchdog: tells a supervisor such as systemd that the worker is well, and ends one that is not.

The supervisor's protocol is sd_notify(3): datagrams to the socket that it named. Without one, only the second is done.
"""

import faulthandler
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

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


class Watchdog(threading.Thread):
    """Says READY as it starts, then looks every few seconds.

    ``stuck_calls`` counts the calls of libvirt under way for longer than it is given, ``silent_s`` tells how long ago
    the sweeper came round, ``leave`` ends the process without waiting for its threads.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        stuck_calls: Callable[[float], int],
        silent_s: Callable[[], float],
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._notifier = Notifier(supervisor.notify_socket)
        self._pings = supervisor.watchdog_s is not None
        self._interval_s = min(INTERVAL_S, (supervisor.watchdog_s or INTERVAL_S) / 3)
        self._stuck_calls = stuck_calls
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
        """End the process if too many of its threads are stuck, else say that it is well, if it is."""
        stuck = self._stuck_calls(STUCK_AFTER_S)
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

    def stopping(self) -> None:
        """Say that the worker ends in good order; it goes on saying that it is well until then."""
        self._notifier.send("STOPPING=1")

    def end(self) -> None:
        """Look no more; for tests, for a worker looks until its process ends."""
        self._ended.set()
