"""Retention: prunes, at its leisure, the jobs that ended longer ago than they are kept."""

import logging
import threading
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from models.engine import Database
from models.journal.pruning import prune

log = logging.getLogger(__name__)

#: A worker that has just started has better things to do first. In seconds.
FIRST_ROUND_AFTER_S = 60.0
#: How often there is something to prune, in seconds.
ROUND_EVERY_S = 3600.0
#: How long others have the journal between two batches, in seconds.
GIVE_WAY_S = 0.2


class Retention(threading.Thread):
    """Prunes until it is stopped, any job of any host; nothing where there is no age at which jobs are pruned."""

    def __init__(
        self, database: Database, older_than: timedelta | None, *, first_after_s: float = FIRST_ROUND_AFTER_S
    ) -> None:
        super().__init__(name="retention", daemon=True)
        self._database = database
        self._older_than = older_than
        self._first_after_s = first_after_s
        self._stop_asked = threading.Event()

    @override
    def run(self) -> None:
        """Prune, every hour."""
        if self._older_than is None:
            return
        wait_s = self._first_after_s
        while not self._stop_asked.wait(wait_s):
            wait_s = ROUND_EVERY_S
            try:
                self._prune_all(self._older_than)
            except SQLAlchemyError as error:
                log.warning("not pruned: the journal is out of reach: %s", error)
            except Exception:
                log.exception("the retention met a defect; it goes on")

    def stop(self, deadline_s: float) -> None:
        """Prune no more; a batch under way is ended first."""
        self._stop_asked.set()
        self.join(timeout=deadline_s)

    def _prune_all(self, older_than: timedelta) -> None:
        pruned = 0
        while batch := prune(self._database, older_than):
            pruned += batch.jobs
            if self._stop_asked.wait(GIVE_WAY_S):
                break
        if pruned:
            log.info("jobs pruned, each ended more than %d days ago: %d", older_than.days, pruned)
