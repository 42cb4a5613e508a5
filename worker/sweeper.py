"""The sweeper: finds this host's jobs that could be claimed now, broker or not, and takes them directly."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from models import reading
from models.engine import Database
from models.journal.claiming import claimable
from models.records import JobRecord
from models.states import JobClass
from worker.run import Runner

log = logging.getLogger(__name__)


@dataclass
class Sweeper:
    """Looks for jobs every ``interval_s`` seconds, and runs each in a thread of its own, as slots allow."""

    database: Database
    runner: Runner
    interval_s: float
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look, at once."""
        self._thread = threading.Thread(target=self._sweep_for_ever, name="sweeper", daemon=True)
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=deadline_s)

    def take_rung(self, job: JobRecord) -> None:
        """Take the job, then whatever waits for the slot that it leaves. It fits `worker.celery_app.rings.JobTaker`."""
        if self.runner.take(job) is None:
            self._take_following(job.job_class)

    def _take_following(self, job_class: JobClass) -> None:
        while not self._stop.is_set():
            following = self._claimable({job_class: 1})
            if not following or self.runner.take(following[0]) is not None:
                return

    def _sweep_for_ever(self) -> None:
        out_of_reach = False
        while True:
            try:
                self._sweep()
                out_of_reach = False
            except SQLAlchemyError as error:
                if not out_of_reach:
                    log.error("the journal is out of reach: %s", error)  # noqa: TRY400  # once, without its stack
                out_of_reach = True
            except Exception:
                log.exception("the sweeper met a defect; it goes on")
            if self._stop.wait(self.interval_s):
                return

    def _sweep(self) -> None:
        for job in self._claimable(self.runner.hands.free_classes()):
            _in_thread(job, self.take_rung)

    def _claimable(self, free: dict[JobClass, int]) -> list[JobRecord]:
        if not free:
            return []
        ids = claimable(
            self.database,
            self.runner.claimant.host,
            classes=list(free),
            in_hand=self.runner.hands.held(),
            superseding=[operation.name for operation in self.runner.catalogue.values() if operation.supersedes],
            limit=sum(free.values()),
        )
        return [job for job_id in ids if (job := reading.job(self.database, job_id)) is not None]


def _in_thread(job: JobRecord, take: Callable[[JobRecord], None]) -> None:
    def body() -> None:
        try:
            take(job)
        except SQLAlchemyError as error:
            log.error("the journal is out of reach, job let go: job=%s %s", job.id, error)  # noqa: TRY400
        except Exception:
            log.exception("a defect, job let go: job=%s", job.id)

    threading.Thread(target=body, name=f"job-{job.id}", daemon=True).start()
