"""The sweeper: finds this host's jobs that could be claimed now, broker or not, and takes them directly."""

import logging
import threading
import time
from dataclasses import dataclass, field

from models import reading
from models.engine import OUT_OF_REACH, Database
from models.journal.due import claimable
from models.records import JobRecord
from models.states import JobClass
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
    _let_go: dict[str, float] = field(default_factory=dict)
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
        self._take_with_following(job, rung=True)

    def _take_with_following(self, job: JobRecord, *, rung: bool) -> None:
        taken = self._take(job, rung=rung)
        while taken and not self._stop.is_set():
            following = self._claimable({job.job_class: 1})
            taken = bool(following) and self._take(following[0], rung=False)

    def _take(self, job: JobRecord, *, rung: bool) -> bool:
        """Whether the job was claimed and carried out; one that had to be let go is left alone for a while."""
        try:
            return self.runner.take(job, rung=rung) is None
        except OUT_OF_REACH as error:
            log.error("the journal is out of reach, job let go: job=%s %s", job.id, error)  # noqa: TRY400
        except Exception:
            log.exception("a defect, job let go: job=%s", job.id)
        self._let_go[job.id] = time.monotonic() + LEFT_ALONE_S
        return False

    def _sweep_for_ever(self) -> None:
        out_of_reach = False
        while True:
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
                kwargs={"rung": False},
                name=f"job-{job.id}",
                daemon=True,
            ).start()

    def _claimable(self, free: dict[JobClass, int]) -> list[JobRecord]:
        if not free:
            return []
        ids = claimable(
            self.database,
            self.runner.claimant.host,
            classes=list(free),
            in_hand=self.runner.hands.held() | self._left_alone(),
            superseding=[operation.name for operation in self.runner.catalogue.values() if operation.supersedes],
            limit=sum(free.values()),
        )
        return [job for job_id in ids if (job := reading.job(self.database, job_id)) is not None]

    def _left_alone(self) -> set[str]:
        now = time.monotonic()
        for job, until in list(self._let_go.items()):
            if until <= now:
                self._let_go.pop(job, None)
        return set(self._let_go)
