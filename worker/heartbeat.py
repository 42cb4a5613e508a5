"""The heartbeat: tells the database, in its own time, that this worker is alive."""

import logging
import threading
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from models.engine import Database
from models.inventory import heartbeat

log = logging.getLogger(__name__)

#: Seconds between two beats; a reader may call a worker silent after three of them.
INTERVAL_S = 10.0


class Heartbeat(threading.Thread):
    """Beats until it is stopped. It informs people and other hosts; it is no fence."""

    def __init__(self, database: Database, worker: UUID, host: str) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._database = database
        self._worker = worker
        self._host = host
        self._stop_asked = threading.Event()

    @override
    def run(self) -> None:
        """Beat."""
        while not self._stop_asked.wait(INTERVAL_S):
            try:
                heartbeat(self._database, self._worker, self._host)
            except SQLAlchemyError as error:
                log.warning("no heartbeat: the journal is out of reach: %s", error)

    def stop(self) -> None:
        """Beat no more."""
        self._stop_asked.set()
