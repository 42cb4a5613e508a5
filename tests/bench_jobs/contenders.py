"""Who is measured: Hostler's worker, a bare Celery worker, and the engines that run in an environment of their own."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from celery import Celery
from sqlalchemy import make_url, text

from models.journal.accepting import accept
from models.outbox import delivered, undelivered
from models.reading import job as job_record
from models.states import FINAL
from tasks.submission import read_submission
from tests.bench_jobs.noop import MARKS, Marks, catalogue_of, noop
from tests.bench_jobs.plain_worker import TASK, application
from tests.lab.hosts import LibvirtHost
from tests.lab.places import CACHE, CHECKOUT, scratch_folder
from tests.lab.postgres import PostgresServer
from tests.lab.processes import Process
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from tests.lab.waiting import eventually
from worker.celery_app.postman import ring

RIVALS_PYTHON = CACHE / "rivals" / "bin" / "python"
DONE_WITHIN_S = 300.0

CATALOGUE = catalogue_of(noop())


class Lab:
    """The servers of one run."""

    def __init__(self, stack: ExitStack) -> None:
        self.host = stack.enter_context(LibvirtHost("bench-jobs"))
        self.redis = stack.enter_context(RedisServer())
        self.postgres = stack.enter_context(PostgresServer())

    def hostler(  # what a worker is started with
        self, stack: ExitStack, name: str, *, postgresql: bool, threads: int, rung: bool = True, marks: bool = False
    ) -> "Hostler":
        """A worker of the product's own, in a journal of its own."""
        url = self.postgres.create_database() if postgresql else None
        broker = self.redis.url if rung else None
        return Hostler(stack, self.host, name, url, broker, threads, marks=marks)

    def plain(self, stack: ExitStack, threads: int) -> "Plain":
        """A bare Celery worker with as many threads."""
        return Plain(stack, self.redis.url, threads)


@contextmanager
def _stopped(process: Process) -> Iterator[None]:
    """While the block runs, the process stands still."""
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


class Hostler:
    """A worker that serves the no-op operation, and its journal."""

    def __init__(  # what a site is made of
        self,
        stack: ExitStack,
        host: LibvirtHost,
        name: str,
        database_url: str | None,
        broker_url: str | None,
        threads: int,
        *,
        marks: bool,
    ) -> None:
        folder = stack.enter_context(scratch_folder("marks"))
        self.marks = Marks(folder)
        self.name = name
        self.database_url = database_url
        self.commits_per_job = 0.0  #: in the last `rate`, where the journal is PostgreSQL
        settings = {"POWER_LIMIT": str(threads)}
        if broker_url is not None:
            settings["SWEEP_INTERVAL_S"] = "5"  # as it is by default, with a broker
        else:
            settings["SWEEP_INTERVAL_S"] = "0.5"  # as it is by default, without one
        self.site = stack.enter_context(
            Site(
                libvirt=host,
                host=name,
                database_url=database_url,
                broker_url=broker_url,
                settings=settings,
                surroundings={MARKS: str(folder)} if marks else {},
                worker_command=("-m", "tests.bench_jobs.noop_worker"),
            )
        )
        if database_url is not None:
            upgraded = self.site.hostler("db", "upgrade")
            if upgraded.returncode:
                raise RuntimeError(upgraded.stderr)
        self.site.start_worker()
        self._app: Celery | None = None
        if broker_url is not None:
            self._app = Celery("submitter", broker=broker_url, backend=broker_url, set_as_current=False)
            stack.callback(self._app.close)

    def submit(self) -> str:
        """Accept a job and ring, as `hostler submit` does."""
        submission = read_submission(
            CATALOGUE,
            operation="noop",
            host=self.name,
            instance=str(uuid4()),
            request={},
            job_id=str(uuid4()),
            actor="bench",
        )
        accept(self.site.database, submission, outbox=self._app is not None)
        if self._app is not None:
            for letter in undelivered(self.site.database, job=submission.id):
                ring(self._app, letter.job, letter.host)
                delivered(self.site.database, letter)
        return submission.id

    def send(self) -> str:
        """Send a job's message and do nothing else, as any Celery client does."""
        if self._app is None:
            raise RuntimeError("there is no broker")
        job_id = str(uuid4())
        self._app.send_task(
            "compute.noop",
            kwargs={"instance": str(uuid4()), "request": {}, "host": self.name},
            task_id=job_id,
            queue=f"host.{self.name}",
        )
        return job_id

    def wait_settled(self, job_id: str) -> None:
        """Return once the job has ended."""

        def ended() -> bool:
            job = job_record(self.site.database, job_id)
            return job is not None and job.state in FINAL

        eventually(ended, f"job {job_id} ends", DONE_WITHIN_S)

    def rate(self, jobs: int) -> float:
        """Jobs a second: from the first's claim until Celery was told of the last, all submitted beforehand."""
        with _stopped(self.site.worker):
            ids = [self.submit() for _ in range(jobs)]
            before = self._commits()
        eventually(lambda: self._left() == 0, "all jobs end, and Celery is told", DONE_WITHIN_S, poll_s=0.25)
        began = self._scalar(
            "SELECT MIN(started_at) FROM jobs WHERE number >= (SELECT number FROM jobs WHERE id = :of)", of=ids[0]
        )
        ended = self._scalar("SELECT MAX(published_at) FROM outbox WHERE kind = 'outcome'")
        self.commits_per_job = (self._commits() - before) / jobs
        return jobs / (_moment(ended) - _moment(began)).total_seconds()

    def _commits(self) -> int:
        """How many transactions have written anything in its PostgreSQL, by the numbers that it gave them."""
        if self.database_url is None:
            return 0
        return int(self._scalar("SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)"))

    def _left(self) -> int:
        open_jobs = self._scalar("SELECT COUNT(*) FROM jobs WHERE ended_at IS NULL")
        letters = self._scalar("SELECT COUNT(*) FROM outbox WHERE published_at IS NULL")
        return int(open_jobs) + int(letters)

    def _scalar(self, query: str, **of: object) -> Any:
        with self.site.database.read() as connection:
            return connection.execute(text(query), of).scalar_one()


class Plain:
    """A bare Celery worker."""

    def __init__(self, stack: ExitStack, url: str, threads: int) -> None:
        self._queue = f"plain{threads}"
        self._app = application(url)
        stack.callback(self._app.close)
        folder = stack.enter_context(scratch_folder("plain"))
        self._process = stack.enter_context(
            Process(
                [sys.executable, "-m", "tests.bench_jobs.plain_worker", url, self._queue, str(threads)],
                log=folder / "log",
                cwd=CHECKOUT,
            )
        )
        self._send().get(timeout=DONE_WITHIN_S)

    def rate(self, tasks: int) -> float:
        """Tasks a second: from the first's result to the last's, all sent beforehand."""
        with _stopped(self._process):
            sent = [self._send() for _ in range(tasks)]
        client = self._app.backend.client
        keys = [self._app.backend.get_key_for_task(result.id) for result in sent]
        eventually(lambda: client.exists(*keys) == tasks, "all tasks end", DONE_WITHIN_S, poll_s=0.25)
        done = sorted(_moment(result.date_done) for result in sent)
        return tasks / (done[-1] - done[0]).total_seconds()

    def _send(self) -> Any:
        return self._app.send_task(TASK, queue=self._queue)


def rival(program: str, database_url: str, threads: int, flows: int) -> float:
    """What one of the engines does a second; raises RuntimeError with what it said if it did not."""
    url = make_url(database_url).render_as_string(hide_password=False)
    command = [str(RIVALS_PYTHON), str(CHECKOUT / "tests/bench_jobs/rivals" / f"{program}.py")]
    ended = subprocess.run(
        [*command, url, str(threads), str(flows)], capture_output=True, text=True, timeout=DONE_WITHIN_S, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{program} failed:\n{ended.stdout}{ended.stderr}")
    return float(ended.stdout.split()[-1])


def _moment(value: object) -> datetime:
    """A moment as databases and Celery tell it; SQLite and Celery leave out that it is UTC."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
