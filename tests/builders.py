"""What tests build: migrated journals, submissions, leases, and runners on a fake host.

A test module asks for the fixtures with ``pytest_plugins = ["tests.builders"]``; that it has imported the builders
before that is why this module says PYTEST_DONT_REWRITE.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, event, select, text
from typing_extensions import override

import migrations
from models.engine import Database
from models.inventory import Registration, register
from models.journal.accepting import accept
from models.journal.claiming import Claimant, Lease, NotNow, claim
from models.journal.holding import Intend, Seen
from models.journal.recovering import claims_of
from models.journal.stepping import advance
from models.journal.superseding import Terms
from models.reading import JobDetails, job_details
from models.reading import job as job_record
from models.records import Change, Device, DeviceAdded, JobRecord, Json, Progress
from models.states import DeviceKind, InstanceState, JobClass, StepState
from models.submission import Submission
from models.tables import metadata
from tasks.host import (
    ConfigDrives,
    Devices,
    Disks,
    Domains,
    EarlierWork,
    Host,
    Images,
    Interfaces,
    Migrations,
    Power,
    Volumes,
)
from tasks.operation import Absent, Operation, Reserving, Sight, Step, There, Work
from tasks.requests import Request
from tests.fake_host import FakeHost
from tests.lab.postgres import PostgresServer
from worker.hands import Hands
from worker.ledger.entries import Entry
from worker.ledger.file import LedgerFile
from worker.ledger.writing import Ledger
from worker.retrying import Patience
from worker.run import Runner

HOST = "h1"
STEPS = ("First", "Second", "Third")
SPAWN_TERMS = Terms(version=1, steps=STEPS, supersedes=False, begins_as=InstanceState.BUILDING, name="vm")
DESTROY_TERMS = Terms(version=1, steps=STEPS, supersedes=True, begins_as=None)
SPAWN_REQUEST: Json = {"name": "vm", "memory_mib": 64, "disk_gib": 1}


# --- journals


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite journal, reached by upgrade; tests copy it."""
    path = tmp_path_factory.mktemp("migrated") / "journal.db"
    with closing(Database(f"sqlite:///{path}")) as database:
        migrations.upgrade(database)
    return path


@pytest.fixture
def sqlite_journal(migrated_file: Path, tmp_path: Path) -> Iterator[Database]:
    """A journal of the test's own, in SQLite."""
    path = tmp_path / "journal.db"
    shutil.copy(migrated_file, path)
    with closing(Database(f"sqlite:///{path}")) as database:
        event.listen(database.engine, "connect", _not_durable)
        yield database


def _not_durable(connection: sqlite3.Connection, _record: object) -> None:
    """No test here cuts the power."""
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="session")
def migrated_postgresql(postgres_server: PostgresServer) -> Iterator[Database]:
    """A PostgreSQL journal, reached by upgrade; tests take turns with it."""
    with closing(Database(postgres_server.create_database())) as database:
        migrations.upgrade(database)
        yield database


@pytest.fixture
def postgresql_journal(migrated_postgresql: Database) -> Database:
    """An empty journal in PostgreSQL."""
    with migrated_postgresql.write() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # no trigger keeps a test's rows
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    return migrated_postgresql


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def journal(request: pytest.FixtureRequest) -> Database:
    """A journal of the test's own, on each of the databases it may live in."""
    database: Database = request.getfixturevalue(f"{request.param}_journal")
    return database


def dump(database: Database) -> dict[str, list[str]]:
    """Every row of every table, to be compared with another dump."""
    with database.read() as connection:
        return {
            table.name: sorted(str(tuple(row)) for row in connection.execute(select(table)))
            for table in metadata.sorted_tables
        }


def time_passes(database: Database, job_id: str) -> None:
    """Make a waiting job's ``not_before`` lie in the past."""
    with database.write() as connection:
        connection.execute(
            text("UPDATE jobs SET not_before = '2000-01-01 00:00:00.000000' WHERE id = :job"), {"job": job_id}
        )


# --- jobs and leases


def submission(  # the fields of one submission
    job_id: str = "job-1",
    operation: str = "spawn",
    *,
    instance: UUID | None = None,
    host: str = HOST,
    request: Json | None = None,
    canvas: Json | None = None,
) -> Submission:
    """A submission with everything in it."""
    return Submission(
        id=job_id,
        operation=operation,
        job_class={"destroy": JobClass.DESTROY, "migrate": JobClass.MIGRATE}.get(operation, JobClass.SPAWN),
        instance=instance or uuid4(),
        host=host,
        request=(SPAWN_REQUEST if operation == "spawn" else {}) if request is None else request,
        actor="test",
        canvas=canvas,
    )


def enrolled(database: Database, host: str = HOST) -> Claimant:
    """A worker that has registered the host, or a newer one of the same host; the fake world's way to reach it."""
    worker = uuid4()
    reached = {"peer_libvirt_uri": f"fake://{host}", "migration_address": f"{host}.example"}
    register(database, Registration(host, f"machine-of-{host}", UUID(int=1), "qemu:///test", worker, 1, "0", **reached))
    return Claimant(worker, host)


def terms_of(job: JobRecord) -> Terms:
    """Terms of a three-step operation; a destroy supersedes."""
    return DESTROY_TERMS if job.operation == "destroy" else SPAWN_TERMS


@dataclass
class Desk:
    """One host's journal, with the short forms of what tests do there."""

    database: Database
    claimant: Claimant
    instance: UUID = field(default_factory=uuid4)

    def submit(
        self, job_id: str, operation: str = "spawn", *, instance: UUID | None = None, host: str = HOST
    ) -> JobRecord:
        """Accept a job of this desk's instance, or of another one."""
        asked = submission(job_id, operation, instance=instance or self.instance, host=host)
        return accept(self.database, asked, outbox=False).job

    def try_claim(self, job_id: str, claimant: Claimant | None = None, *, outbox: bool = False) -> Lease | NotNow:
        """Claim it, or hear why not."""
        return claim(self.database, job_id, claimant or self.claimant, terms_of, outbox=outbox)

    def claim(self, job_id: str, claimant: Claimant | None = None, *, outbox: bool = False) -> Lease:
        """Claim it, which must be possible."""
        claimed = self.try_claim(job_id, claimant, outbox=outbox)
        assert isinstance(claimed, Lease), claimed
        return claimed

    def begun(self, job_id: str, operation: str = "spawn") -> Lease:
        """Accept a job and claim it."""
        self.submit(job_id, operation)
        return self.claim(job_id)

    def intend(self, lease: Lease, position: int = 0, seen: Sequence[Seen] = ()) -> int:
        """Journal an intent; the number of the attempt."""
        return advance(self.database, lease, seen, Intend(position, {"at": position})).attempt

    def done(self, lease: Lease, *positions: int) -> None:
        """Intend these steps and journal each as done."""
        for position in positions:
            self.intend(lease, position)
            advance(self.database, lease, [Seen(position, StepState.DONE)], None)

    def job(self, job_id: str) -> JobRecord:
        """The job's row."""
        found = job_record(self.database, job_id)
        assert found is not None
        return found

    def details(self, job_id: str) -> JobDetails:
        """The job with its steps and events."""
        found = job_details(self.database, job_id)
        assert found is not None
        return found

    def events(self, job_id: str) -> list[str]:
        """The types of the job's events, in order."""
        return [event.type for event in self.details(job_id).events]

    def scalar(self, query: str, **values: object) -> Any:  # whatever is in that column
        """One value, as the database itself has it."""
        with self.database.read() as connection:
            return connection.execute(text(query), values).scalar_one()


@pytest.fixture
def desk(journal: Database) -> Desk:
    """A host whose worker has registered, on each of the databases."""
    return Desk(journal, enrolled(journal))


# --- runners


@dataclass
class Rooms:
    """A fake host whose earlier work is what a worker has in hand, as in a real worker."""

    domains: Domains
    devices: Devices
    power: Power
    images: Images
    disks: Disks
    config_drives: ConfigDrives
    volumes: Volumes
    interfaces: Interfaces
    migrations: Migrations
    earlier_work: EarlierWork


@dataclass
class Silence:
    """Nobody is told of anything; who would have been told is kept."""

    told: list[str] = field(default_factory=list)

    def claimed(self, job: JobRecord, *, rung: bool) -> None:
        """The job was claimed."""

    def progressed(self, job: JobRecord, progress: Progress) -> None:
        """The job's call has come so far."""

    def left_in_outbox(self, job_id: str) -> None:
        """Something of the job may be in the outbox."""
        self.told.append(job_id)


def hurried(**options: Any) -> Patience:  # handed on
    """Patience that never sleeps."""
    return Patience(sleep=lambda _seconds: None, **options)


class NoFile(LedgerFile):
    """A ledger that remembers nothing, for those that nobody asks."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"), HOST)

    @override
    def append(self, entry: Entry, *, last_claim: int) -> int:
        return 0

    @override
    def sync(self, written: int) -> None:
        pass


def runner(
    database: Database,
    host: Host,
    *operations: Operation[Any],
    claimant: Claimant | None = None,
    hands: Hands | None = None,
    ledger: Ledger | None = None,
) -> Runner:
    """A worker that has just started: its UUID is new, and its hands are empty."""
    hands = hands or Hands(dict.fromkeys(JobClass, 4))
    claimant = claimant or enrolled(database)
    if ledger is None:
        ledger = Ledger(NoFile())
        known = claims_of(database, claimant.host)
        ledger.begin_at(0 if known is None else known.sequence)
    return Runner(
        database=database,
        host=Rooms(
            domains=host.domains,
            devices=host.devices,
            power=host.power,
            images=host.images,
            disks=host.disks,
            config_drives=host.config_drives,
            volumes=host.volumes,
            interfaces=host.interfaces,
            migrations=host.migrations,
            earlier_work=hands,
        ),
        claimant=claimant,
        catalogue={operation.name: operation for operation in operations},
        hands=hands,
        ledger=ledger,
        patience=hurried(),
        announcer=Silence(),
        outbox=False,
    )


# --- steps


class Watched(Step[Any]):
    """A step that tells of each moment before and after it is called; the listener may raise there.

    Moments: ``look``, ``do`` (intended, not begun), ``did`` (made, not journaled), ``undo``, ``undid``.
    """

    def __init__(self, inner: Step[Any], tell: Callable[[str, str], None]) -> None:
        self._inner = inner
        self._tell = tell

    @property
    @override
    def name(self) -> str:
        return self._inner.name

    @override
    def plan(self, work: Work[Any], host: Host) -> Json:
        return self._inner.plan(work, host)

    @override
    def look(self, work: Work[Any], host: Host) -> Sight:
        self._tell("look", self.name)
        return self._inner.look(work, host)

    @override
    def do(self, work: Work[Any], host: Host) -> None:
        self._tell("do", self.name)
        self._inner.do(work, host)
        self._tell("did", self.name)

    @override
    def undo(self, work: Work[Any], host: Host) -> None:
        self._tell("undo", self.name)
        self._inner.undo(work, host)
        self._tell("undid", self.name)

    @override
    def changes(self, work: Work[Any]) -> tuple[Change, ...]:
        return self._inner.changes(work)

    def __getattr__(self, name: str) -> Any:
        """What only some steps have, where this one has it."""
        return getattr(self._inner, name)

    def reserves(self, work: Work[Any]) -> tuple[Change, ...]:
        """As the step does, if it does."""
        return self._inner.reserves(work) if isinstance(self._inner, Reserving) else ()


class DiskThere:
    """A disk of that name is published in the instance's folder; whoever made it, it will do."""

    def __init__(self, disk: str) -> None:
        self.disk = disk
        self.name = f"DiskThere:{disk}"

    def plan(self, work: Work[Request], host: Host) -> Json:
        """Where it will be."""
        return {"path": host.disks.path_for(work.instance, self.disk, "qcow2")}

    def look(self, work: Work[Request], host: Host) -> Sight:
        """There or not."""
        path = host.disks.path_for(work.instance, self.disk, "qcow2")
        return Absent() if host.disks.find(work.instance, path) is None else There()

    def do(self, work: Work[Request], host: Host) -> None:
        """Makes a small empty one."""
        host.disks.create(work.instance, work.intent["path"], size_bytes=1024**2, backing=None, epoch=work.epoch)

    def undo(self, work: Work[Request], host: Host) -> None:
        """Removes it."""
        host.disks.remove(work.instance, host.disks.path_for(work.instance, self.disk, "qcow2"))

    def changes(self, work: Work[Request]) -> tuple[Change, ...]:
        """The instance has the disk."""
        return (DeviceAdded(Device(DeviceKind.DISK, self.disk, work.intent)),)


class NoSuchFileRead:
    """A file that no host has was read: it never was."""

    name = "NoSuchFileRead"

    def plan(self, work: Work[Request], host: Host) -> Json:
        """Nothing is made."""
        return {}

    def look(self, work: Work[Request], host: Host) -> Sight:
        """Never true."""
        return Absent()

    def do(self, work: Work[Request], host: Host) -> None:
        """Every host refuses it for good."""
        host.images.require_file("/nonexistent/kernel")

    def undo(self, work: Work[Request], host: Host) -> None:
        """Nothing was made."""

    def changes(self, work: Work[Request]) -> tuple[Change, ...]:
        """Nothing is learnt."""
        return ()


#: Finds its first fact where a test prepared it, makes the second, and fails for good at the third. It asks of its
#: host only what the port has, so that it runs on the fake and on real hosts alike.
find_make_fail: Operation[Request] = Operation(
    "find_make_fail",
    Request,
    steps=(DiskThere("found"), DiskThere("made"), NoSuchFileRead()),
    job_class=JobClass.SPAWN,
)


def watched(operation: Operation[Any], tell: Callable[[str, str], None]) -> Operation[Any]:
    """The operation, with a listener at each of its steps."""
    steps = tuple(Watched(step, tell) for step in operation.steps)
    return Operation(**(vars(operation) | {"steps": steps}))


@pytest.fixture
def fake() -> FakeHost:
    """A new host in memory."""
    return FakeHost()
