"""A worker's part in its database's time, on a fake host: what tests of recoveries do there, and see."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from models.engine import Database
from models.inventory import Registration
from models.journal.asking import Asked
from models.journal.claiming import Claimant, NotNow
from models.journal.recovering import Recovery, ask, open_recovery, recovery
from models.reading import list_instances, list_jobs
from models.records import Json
from models.states import InstanceState, JobClass, JobState
from tasks.catalogue import OPERATIONS
from tests.builders import HOST, runner
from tests.fake_host import FakeHost
from tests.worker.world import World
from worker.hands import Hands
from worker.heartbeat import Heartbeat
from worker.ledger.file import LedgerFile
from worker.ledger.writing import Ledger
from worker.recovery.keeper import RecoveryKeeper
from worker.run import Runner

ASKED = Asked("cli:ann", "the disk of the database died")


@dataclass
class Worker:
    """What of a worker has to do with its database's time."""

    keeper: RecoveryKeeper
    runner: Runner
    ledger: Ledger
    beat: Heartbeat


@dataclass
class Inn:
    """A SQLite journal that can be put back, a fake host, and a ledger beside them."""

    database: Database
    fake: FakeHost
    folder: Path
    host: str = HOST
    marks: dict[UUID, int] = field(default_factory=dict)
    served: list[str] = field(default_factory=list)
    answer: Callable[[], None] | None = None  #: what happens as the host is served

    @property
    def file(self) -> Path:
        """The journal's."""
        assert self.database.file is not None
        return self.database.file

    def start(self) -> Worker:
        """A worker that has just started."""
        worker = uuid4()
        ledger, hands = Ledger(LedgerFile(self.folder / "ledger", self.host)), Hands(dict.fromkeys(JobClass, 4))
        registration = Registration(
            self.host,
            f"machine-of-{self.host}",
            UUID(int=1),
            "qemu:///test",
            worker,
            1,
            "0",
            peer_libvirt_uri=f"fake://{self.host}",
            migration_address=f"{self.host}.example",
        )
        keeper = RecoveryKeeper(
            self.database,
            registration,
            ledger,
            hands=hands,
            domains=self.fake.domains,
            marks=lambda: self.marks,
            served=self._serve,
        )
        keeper.enlist()
        claimant = Claimant(worker, self.host)
        run = runner(self.database, self.fake, *OPERATIONS.values(), claimant=claimant, hands=hands, ledger=ledger)
        return Worker(keeper, run, ledger, Heartbeat(self.database, worker, self.host, ledger))

    def _serve(self) -> None:
        if self.answer is not None:
            self.answer()
        self.served.append("served")

    def back_up(self, name: str = "backup") -> Path:
        """A copy of the journal as it is now."""
        self.database.close()
        copy = self.folder / name
        shutil.copy(self.file, copy)
        return copy

    def restore(self, copy: Path) -> None:
        """Put the copy in the journal's place."""
        self.database.close()
        for suffix in ("-wal", "-shm"):
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        shutil.copy(copy, self.file)

    def run(self, worker: Worker, job_id: str, operation: str, of: UUID, request: Json | None = None) -> None:
        """Accept a job and have it taken, which must be possible."""
        self.submit(job_id, operation, of, request)
        assert self.take(worker, job_id) is None

    def submit(self, job_id: str, operation: str, of: UUID, request: Json | None = None) -> None:
        """Accept a job."""
        World(self.database, self.fake, of, self.host).submit(job_id, operation, request)

    def take(self, worker: Worker, job_id: str) -> NotNow | None:
        """Have the worker take it."""
        return World(self.database, self.fake).take(job_id, worker.runner)

    @property
    def recovery(self) -> Recovery:
        """The host's recovery under way."""
        found = open_recovery(self.database, self.host)
        assert found is not None
        return found

    def recover(self, worker: Worker) -> Recovery:
        """Have the plan that the worker tells applied, by an operator's word."""
        worker.keeper.look()
        found = self.recovery
        assert found.digest is not None
        assert ask(self.database, self.host, found.digest, ASKED).taken
        worker.keeper.look()
        ended = recovery(self.database, found.number)
        assert ended is not None
        return ended

    def jobs(self) -> dict[str, JobState]:
        """The states of all jobs."""
        return {job.id: job.state for job in list_jobs(self.database, limit=1000)}

    def instances(self) -> dict[UUID, InstanceState]:
        """The states of all instances."""
        return {each.id: each.state for each in list_instances(self.database, limit=1000)}
