"""Keeps the host's console logs within bounds while guests write them."""

import logging
import threading
from collections.abc import Callable

from typing_extensions import override

from tasks.host import HostError

log = logging.getLogger(__name__)

#: How often the logs are looked at, in seconds. A serial port of KVM's writes less than a MiB in that time.
INTERVAL_S = 2.0


class ConsoleKeeper(threading.Thread):
    """Looks until it is stopped; while no worker runs, logs grow."""

    def __init__(self, keep: Callable[[], tuple[HostError, ...]]) -> None:
        super().__init__(name="consoles", daemon=True)
        self._keep = keep
        self._told: frozenset[str] = frozenset()
        self._stop_asked = threading.Event()

    @override
    def run(self) -> None:
        """Look."""
        while not self._stop_asked.wait(INTERVAL_S):
            try:
                errors = frozenset(str(error) for error in self._keep())
            except HostError as error:
                errors = frozenset({str(error)})
            except Exception:
                log.exception("the keeper of console logs met a defect; it goes on")
                continue
            for each in sorted(errors - self._told):
                log.warning("%s", each)
            self._told = errors

    def stop(self, deadline_s: float) -> None:
        """Look no more."""
        self._stop_asked.set()
        self.join(timeout=deadline_s)
