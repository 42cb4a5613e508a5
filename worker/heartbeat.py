"""The heartbeat: tells the database, in its own time, that this worker is alive, and hears what it has of the host."""

import logging
import threading
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from models.engine import Database
from models.inventory import heartbeat
from worker.ledger.writing import Ledger

log = logging.getLogger(__name__)

#: Seconds between two beats; a reader may call a worker silent after three of them.
INTERVAL_S = 10.0


class Heartbeat(threading.Thread):
    """Beats until it is stopped. It informs people and other hosts; it is no fence.

    A database that went back in time is noticed by what it answers, also where nothing is claimed.
    """

    def __init__(self, database: Database, worker: UUID, host: str, ledger: Ledger) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._database = database
        self._worker = worker
        self._host = host
        self._ledger = ledger
        self._stop_asked = threading.Event()

    @override
    def run(self) -> None:
        """Beat."""
        while not self._stop_asked.wait(INTERVAL_S):
            try:
                self.beat()
            except SQLAlchemyError as error:
                log.warning("no heartbeat: the journal is out of reach: %s", error)

    def beat(self) -> None:
        """Beat once."""
        seen = self._ledger.last
        there = heartbeat(self._database, self._worker, self._host)
        if there is None:
            self._ledger.suspect(f"the database does not know {self._host} any more")
        elif there.sequence < seen:
            self._ledger.suspect(
                f"the database is at claim {there.sequence} of {self._host}, and claim {seen} was seen"
            )
        elif there.worker != self._worker:
            self._ledger.suspect(f"the database has another worker for {self._host}, whose lock is this one's")

    def stop(self) -> None:
        """Beat no more."""
        self._stop_asked.set()
