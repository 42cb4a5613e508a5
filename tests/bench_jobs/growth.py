"""What a claim and a settle take with few and with many jobs in the journal."""

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from uuid import UUID, uuid4

from sqlalchemy import text

import migrations
from models.engine import Database
from models.inventory import Registration, register
from models.journal.accepting import accept
from models.journal.claiming import Claimant, Lease, claim
from models.journal.due import claimable
from models.journal.settling import settle
from models.journal.superseding import Terms
from models.records import JobRecord
from models.states import JobClass, JobState
from tasks.submission import read_submission
from tests.bench_jobs.contenders import CATALOGUE
from tests.bench_jobs.noop import STEPS

HOST = "h1"
JOBS_OF_AN_INSTANCE = 10

_INSTANCES = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :instances)
INSERT INTO instances (id, host, state, epoch, created_at, updated_at)
SELECT {uuid}, 'h1', 'running', 10, {now}, {now} FROM n
"""
_JOBS = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :jobs)
INSERT INTO jobs (id, operation, operation_version, job_class, instance, host, sent_to, home, request, payload_digest,
                  state, run, epoch, past_return, hopping, waits, submitted_at, started_at, ended_at)
SELECT 'past-' || i, 'noop', 1, 'power', {uuid}, 'h1', 'h1', 'h1', '{{}}', 'none',
       'succeeded', 1, 1, {false}, {false}, 0, {now}, {now}, {now} FROM n
"""
_WORDS = {
    "postgresql": {
        "uuid": "CAST(lpad(to_hex(i % :instances), 32, '0') AS uuid)",
        "now": "now()",
        "false": "false",
    },
    "sqlite": {
        "uuid": "printf('%032x', i % :instances)",
        "now": "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')",
        "false": "0",
    },
}


class FilledJournal:
    """A journal with so many jobs that ended, ten of each instance."""

    def __init__(self, stack: ExitStack, url: str, jobs: int) -> None:
        self._database = stack.enter_context(closing(Database(url)))
        self._instances = max(1, jobs // JOBS_OF_AN_INSTANCE)
        self._next = 0
        migrations.upgrade(self._database)
        words = _WORDS[self._database.backend]
        with self._database.write() as connection:
            connection.execute(text(_INSTANCES.format(**words)), {"instances": self._instances})
            connection.execute(text(_JOBS.format(**words)), {"jobs": jobs, "instances": self._instances})
        if self._database.backend == "postgresql":
            with self._database.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM (ANALYZE)"))
        else:
            with closing(self._database.engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        worker = uuid4()
        register(self._database, Registration(HOST, "bench", UUID(int=1), "qemu:///bench", worker, 1, "0"))
        self._claimant = Claimant(worker, HOST)

    def claim_and_settle(self) -> float:
        """How long it takes to find a job that can be claimed, to claim and to settle it, in milliseconds."""
        instance = UUID(int=self._next % self._instances)
        self._next += 1
        submission = read_submission(
            CATALOGUE,
            operation="noop",
            host=HOST,
            instance=str(instance),
            request={},
            job_id=str(uuid4()),
            actor="bench",
        )
        accept(self._database, submission, outbox=False)
        began = time.perf_counter()
        found = claimable(self._database, HOST, classes=[JobClass.POWER], in_hand=(), superseding=["destroy"], limit=1)
        lease = claim(self._database, submission.id, self._claimant, _terms, outbox=True)
        if len(found) != 1 or not isinstance(lease, Lease):
            raise RuntimeError(f"job {submission.id} cannot be claimed: {found}, {lease}")
        settle(self._database, lease, JobState.SUCCEEDED, outbox=True)
        return (time.perf_counter() - began) * 1000


def _terms(_job: JobRecord) -> Terms:
    return Terms(version=1, steps=STEPS, supersedes=False, begins_as=None)


def medians(journals: Sequence[FilledJournal], rounds: int) -> list[float]:
    """The median of each journal, in milliseconds; the journals take turns, after a warm-up."""
    took: list[list[float]] = [[] for _ in journals]
    for number in range(rounds + rounds // 10):
        for journal, readings in zip(journals, took, strict=True):
            reading = journal.claim_and_settle()
            if number >= rounds // 10:
                readings.append(reading)
    return [statistics.median(readings) for readings in took]
