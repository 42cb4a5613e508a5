"""The sweeper: finds this host's jobs that could be claimed now, broker or not, and takes them directly."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from models.engine import OUT_OF_REACH, Database
from models.journal.accepting import Accepted
from models.journal.due import claimable_jobs
from models.records import JobRecord
from models.states import JobClass
from models.submission import Submission
from worker.run import Runner

log = logging.getLogger(__name__)

#: How long a job that had to be let go (a defect, no journal) is left alone before it is claimed again, in seconds.
LEFT_ALONE_S = 5.0


@dataclass
class Sweeper:
    """Looks for jobs every ``interval_s`` seconds, and runs each in a thread of its own, as slots allow."""

    database: Database
    runner: Runner
    interval_s: float
    _until: dict[str, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _came_round: float = field(default_factory=time.monotonic)

    def silent_s(self) -> float:
        """How long ago it last began to look, in seconds."""
        return time.monotonic() - self._came_round

    def start(self) -> None:
        """Begin to look, at once."""
        self._thread = threading.Thread(target=self._sweep_for_ever, name="sweeper", daemon=True)
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=deadline_s)

    def take_new(self, submission: Submission, recorded: Callable[[Accepted], None]) -> None:
        """Record and take the job, then whatever waits for the slot that it leaves.

        It fits `worker.celery_app.rings.JobTaker`: what fails after ``recorded`` was called does not reach the caller.
        """
        is_recorded = False

        def record(accepted: Accepted) -> None:
            nonlocal is_recorded
            is_recorded = True
            recorded(accepted)

        try:
            taken = self.runner.take_new(submission, record) is None
        except Exception as error:
            if not is_recorded:
                raise
            self._let_go(submission.id, error)
            return
        if taken:
            self._take_following(submission.job_class)

    def _take_with_following(self, job: JobRecord) -> None:
        if self._take(job):
            self._take_following(job.job_class)

    def _take_following(self, job_class: JobClass) -> None:
        taken = True
        while taken and not self._stop.is_set():
            following = self._claimable({job_class: 1})
            taken = bool(following) and self._take(following[0])

    def _take(self, job: JobRecord) -> bool:
        """Whether the job was claimed and carried out."""
        try:
            return self.runner.take(job) is None
        except Exception as error:  # noqa: BLE001  # it is logged there
            self._let_go(job.id, error)
            return False

    def _let_go(self, job_id: str, error: Exception) -> None:
        """A job that had to be let go is left alone for a while."""
        if isinstance(error, OUT_OF_REACH):
            log.error("the journal is out of reach, job let go: job=%s %s", job_id, error)
        else:
            log.error("a defect, job let go: job=%s", job_id, exc_info=error)
        self._until[job_id] = time.monotonic() + LEFT_ALONE_S

    def _sweep_for_ever(self) -> None:
        out_of_reach = False
        while True:
            self._came_round = time.monotonic()
            try:
                self._sweep()
                out_of_reach = False
            except OUT_OF_REACH as error:
                if not out_of_reach:
                    log.error("the journal is out of reach: %s", error)  # noqa: TRY400  # once, without its stack
                out_of_reach = True
            except Exception:
                log.exception("the sweeper met a defect; it goes on")
            if self._stop.wait(self.interval_s):
                return

    def _sweep(self) -> None:
        for job in self._claimable(self.runner.hands.free_classes()):
            threading.Thread(
                target=self._take_with_following,
                args=(job,),
                name=f"job-{job.id}",
                daemon=True,
            ).start()

    def _claimable(self, free: dict[JobClass, int]) -> list[JobRecord]:
        if not free or self.runner.ledger.held is not None:
            return []
        return claimable_jobs(
            self.database,
            self.runner.claimant.host,
            classes=list(free),
            in_hand=self.runner.hands.held() | self._left_alone(),
            superseding=[operation.name for operation in self.runner.catalogue.values() if operation.supersedes],
            limit=sum(free.values()),
        )

    def _left_alone(self) -> set[str]:
        now = time.monotonic()
        for job, until in list(self._until.items()):
            if until <= now:
                self._until.pop(job, None)
        return set(self._until)
