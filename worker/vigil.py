"""The vigil: asks libvirt every few seconds whether it is there, and tells the journal when that changes."""

import logging
import threading
from collections.abc import Callable
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from models.availability import down, up
from models.engine import Database
from tasks.host import HostError

log = logging.getLogger(__name__)

#: Seconds between two questions. One that libvirt does not answer returns by itself: a connection is opened for 15 s
#: at most, and an open one is given up after 20 s of silence.
INTERVAL_S = 5.0
#: So many questions in a row without an answer: a libvirtd that is restarted is not worth a word.
MISSED = 2


class Vigil(threading.Thread):
    """Disables the host while its libvirt does not answer, and enables it again; an operator's word stands beside it.

    ``require_answer`` asks, and raises HostError.
    """

    def __init__(
        self,
        database: Database,
        worker: UUID,
        host: str,
        require_answer: Callable[[], None],
        interval_s: float = INTERVAL_S,
    ) -> None:
        super().__init__(name="vigil", daemon=True)
        self._database = database
        self._worker = worker
        self._host = host
        self._require_answer = require_answer
        self._interval_s = interval_s
        self._missed = 0
        self._told_down = False
        self._stop_asked = threading.Event()

    @override
    def run(self) -> None:
        """Ask until it is stopped."""
        while not self._stop_asked.wait(self._interval_s):
            try:
                self.ask()
            except SQLAlchemyError as error:
                log.warning("whether libvirt answers is not told: the journal is out of reach: %s", error)

    def ask(self) -> None:
        """Ask once, and tell the journal if there is something to tell; what it does not take is told next time."""
        try:
            self._require_answer()
        except HostError as error:
            self._missed += 1
            if self._missed >= MISSED and not self._told_down:
                if down(self._database, self._host, self._worker, f"libvirt does not answer: {error}"):
                    log.error("libvirt does not answer, %s takes no new guests: %s", self._host, error)  # noqa: TRY400
                self._told_down = True
            return
        self._missed = 0
        if self._told_down:
            if up(self._database, self._host, self._worker):
                log.info("libvirt answers again: %s", self._host)
            self._told_down = False

    def stop(self) -> None:
        """Ask no more."""
        self._stop_asked.set()
