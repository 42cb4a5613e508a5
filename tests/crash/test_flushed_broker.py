"""A broker that forgets everything in the middle of many accepted jobs: they end all the same, and about as soon."""

import signal
import time
from uuid import uuid4

import pytest

from models.journal.accepting import accept
from tasks.submission import read_submission
from tests.crash.effortless_worker import EFFORTLESS
from tests.crash.verdict import Ledger, job_faults
from tests.lab.orchestrator import Orchestrator
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(500)]

WORKER = ("-m", "tests.crash.effortless_worker")
#: How much later all jobs may have ended, in seconds.
LATER_MAX_S = 30.0
ALL_END_WITHIN_S = 200.0
#: The worker's own, with a broker: the site's sweeper is quicker, so that other tests wait less.
SWEEP_INTERVAL_S = "5"


class Crowd:
    """Many accepted jobs, each on an instance of its own, whose rings lie in the broker while their worker stands."""

    def __init__(self, site: Site, ledger: Ledger, orchestrator: Orchestrator, count: int) -> None:
        self._ledger = ledger
        self._sent = [str(uuid4()) for _ in range(count)]
        self._before = self._ended_in_all()
        for job_id in self._sent:
            instance = uuid4()
            submission = read_submission(
                EFFORTLESS,
                operation="effortless",
                host=site.host,
                instance=str(instance),
                request={},
                job_id=job_id,
                actor="test",
            )
            assert accept(site.database, submission, outbox=True).new
            orchestrator.signature("effortless", instance, {}, job_id=job_id).apply_async()

    def __len__(self) -> int:
        return len(self._sent)

    def ended(self) -> int:
        """How many have, by the journal's own word."""
        return self._ended_in_all() - self._before

    def faults(self) -> list[str]:
        """What is wrong with how the journal tells of them."""
        return [fault for job_id in self._sent for fault in job_faults(self._ledger, job_id)]

    def _ended_in_all(self) -> int:
        rows = self._ledger.rows("SELECT count(*) AS ended FROM jobs WHERE state = 'succeeded'")
        return int(rows[0]["ended"])


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.beyond_slice)])
def test_accepted_jobs_end_though_the_broker_forgets_them(
    redis_server: RedisServer, redis_url: str, postgresql_url: str, count: int
) -> None:
    """At most half a minute later than if it had not."""
    orchestrator = Orchestrator(redis_url)
    ledger = Ledger(postgresql_url)
    settings = {"SWEEP_INTERVAL_S": SWEEP_INTERVAL_S}
    took = {}
    with Site(database_url=postgresql_url, broker_url=redis_url, worker_command=WORKER, settings=settings) as site:
        assert site.hostler("db", "upgrade").returncode == 0
        site.start_worker()
        for flushed in (False, True):
            site.worker.signal(signal.SIGSTOP)
            crowd = Crowd(site, ledger, orchestrator, count)
            site.worker.signal(signal.SIGCONT)
            began = time.monotonic()
            if flushed:
                eventually(lambda: crowd.ended() >= count // 4, "a part has ended", ALL_END_WITHIN_S)  # noqa: B023
                assert crowd.ended() < count
                redis_server.flush()
            eventually(lambda: crowd.ended() == len(crowd), "all end", ALL_END_WITHIN_S, poll_s=0.05)  # noqa: B023
            took[flushed] = time.monotonic() - began
            assert crowd.faults() == []
    print(f"{count} jobs: {took[False]:.1f} s, with the broker flushed in their middle {took[True]:.1f} s")
    assert took[True] <= took[False] + LATER_MAX_S
    ledger.close()
    orchestrator.close()
