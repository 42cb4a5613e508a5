"""RabbitMQ as the doorbell: clients that are not configured, queues of either type, its limits met."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from kombu import Connection, Queue
from sqlalchemy.exc import OperationalError

from models.engine import Database
from models.journal.accepting import Accepted
from models.submission import Submission
from tasks.catalogue import OPERATIONS
from tests.lab.hosts import LibvirtHost
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.rabbitmq import DELIVERY_LIMIT, LIMITED, PLAIN, QUORUM, RabbitmqServer
from tests.lab.site import Site
from tests.lab.waiting import eventually
from worker.celery_app.app import build_app, queue_name
from worker.celery_app.process import worker_name
from worker.celery_app.revoking import EarlyRevokes
from worker.celery_app.rings import Rings
from worker.settings import Settings

pytestmark = pytest.mark.real

CONSUMER_TIMEOUT_S = 3.0
#: A worker in a thread gets no signal: it must look up from its broker to see that it is to end.
LOOKS_UP_EVERY_S = 0.1
#: Longer than RabbitMQ waits for an acknowledgement, and than it takes it to look.
LONG_S = 5


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitmqServer]:
    """One for all tests here: it takes seconds to start."""
    with RabbitmqServer(consumer_timeout_s=CONSUMER_TIMEOUT_S) as server:
        yield server


@pytest.fixture
def host() -> str:
    """A host whose queue nobody has declared yet."""
    return f"h-{uuid4().hex[:8]}"


class Taker:
    """Takes jobs as the sweeper would; the first ``failures`` times the journal is out of reach."""

    def __init__(self, failures: int = 0) -> None:
        self.taken: list[str] = []
        self.deliveries = 0
        self._failures = failures

    def take_new(self, submission: Submission, recorded: Callable[[Accepted], None]) -> None:
        """Note the job."""
        self.deliveries += 1
        if self.deliveries <= self._failures:
            raise OperationalError("accept", {}, ConnectionRefusedError("no database"))
        self.taken.append(submission.id)


@contextmanager
def logging_left_alone() -> Iterator[None]:
    """Keep Celery's set-up of logging and of the environment from the other tests of this process."""

    def left_alone(**_fields: object) -> None:
        pass

    before = set(os.environ)
    setup_logging.connect(left_alone, weak=False)
    try:
        yield
    finally:
        setup_logging.disconnect(left_alone)
        logging.captureWarnings(capture=False)
        for name in set(os.environ) - before:
            del os.environ[name]


@contextmanager
def worker(url: str, host: str, taker: Taker, tmp_path: Path) -> Iterator[Celery]:
    """A Celery worker as ours is, in a thread of this process."""
    app = build_app(Settings(host=host, broker_url=url, state_dir=tmp_path))
    database = Database(f"sqlite:///{tmp_path / 'journal.db'}")  # asked nothing: the taker is all that records
    Rings(database, host, OPERATIONS, taker, EarlyRevokes()).register(app)
    options = {"hostname": worker_name(host), "optimization": "fair", "queues": [queue_name(host)]}
    try:
        with (
            logging_left_alone(),
            start_worker(app, concurrency=4, pool="threads", perform_ping_check=False, **options) as started,
        ):
            hub = started.consumer.hub
            hub.call_soon(hub.call_repeatedly, LOOKS_UP_EVERY_S, lambda: None)
            yield app
    finally:
        app.close()
        database.close()


def plain_client(url: str) -> Celery:
    """As README shows it: nothing is configured but the address."""
    return Celery("plain", broker=url, set_as_current=False)


def send_spawn(client: Celery, host: str) -> str:
    """Send what a worker takes for a spawn; the job's id."""
    payload = {"instance": str(uuid4()), "request": {"name": "x", "memory_mib": 64, "disk_gib": 1}, "host": host}
    return str(client.send_task("compute.spawn", kwargs=payload, queue=queue_name(host)).id)


def is_quorum(url: str, host: str) -> bool:
    """Whether the host's queue is a quorum queue: only then it may be declared as one."""
    with Connection(url) as connection:
        declared = Queue(queue_name(host), queue_arguments={"x-queue-type": "quorum"})
        try:
            declared(connection.channel()).queue_declare()
        except connection.channel_errors:
            return False
        return True


@pytest.mark.parametrize("virtual_host", [PLAIN, QUORUM])
@pytest.mark.parametrize("first", ["client", "worker"])
def test_a_plain_client_and_the_worker_may_come_in_either_order(
    rabbitmq: RabbitmqServer, host: str, tmp_path: Path, virtual_host: str, first: str
) -> None:
    """Neither is refused what it declares; the virtual host says which type the queue has."""
    url = rabbitmq.url(virtual_host)
    taker = Taker()
    with plain_client(url) as client:
        sent = [send_spawn(client, host)] if first == "client" else []
        with worker(url, host, taker, tmp_path):
            eventually(lambda: taker.taken == sent, "what was sent before is taken")
            sent.append(send_spawn(client, host))
            eventually(lambda: taker.taken == sent, "what was sent afterwards is taken")
    assert is_quorum(url, host) is (virtual_host == QUORUM)


def test_a_queue_that_its_operator_declared_otherwise_is_used_as_it_is(
    rabbitmq: RabbitmqServer, host: str, tmp_path: Path
) -> None:
    """A worker takes from it, and rings there, too."""
    url = rabbitmq.url(PLAIN)
    with Connection(url) as connection:
        arguments = {"x-queue-type": "quorum", "x-max-length": 1000}
        Queue(queue_name(host), queue_arguments=arguments)(connection.channel()).queue_declare()
    taker = Taker()
    with worker(url, host, taker, tmp_path) as app:
        sent = send_spawn(app, host)
        eventually(lambda: taker.taken == [sent], "it is taken")


def test_a_message_that_comes_back_more_often_than_the_broker_allows_is_not_lost(
    rabbitmq: RabbitmqServer, host: str, tmp_path: Path
) -> None:
    """While the journal is out of reach nothing is recorded, and everything given back, however long that lasts."""
    url = rabbitmq.url(LIMITED)
    taker = Taker(failures=2 * DELIVERY_LIMIT + 5)
    with plain_client(url) as client, pytest.MonkeyPatch.context() as patience:
        patience.setattr("worker.celery_app.rings.RECORDING_DEADLINE_S", 0.0)
        sent = send_spawn(client, host)
        with worker(url, host, taker, tmp_path):
            eventually(lambda: taker.taken == [sent], "it is recorded in the end", 20)
    assert taker.deliveries == 2 * DELIVERY_LIMIT + 6


def test_jobs_of_a_plain_client_on_quorum_queues_from_first_to_last(
    rabbitmq: RabbitmqServer, libvirt_host: LibvirtHost, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """Results come back by the broker, and a job may take longer than an acknowledgement; each is run once."""
    url = rabbitmq.url(QUORUM)
    client = Orchestrator(url, "rpc://")
    try:
        with Site(libvirt=libvirt_host, broker_url=url) as site:
            spawned = client.send("spawn", instance, small_guest)
            site.start_worker()
            assert spawned.get(timeout=RESULT_WITHIN_S)["state"] == "succeeded"
            stopped = client.send("stop", instance, {"timeout_s": LONG_S}).get(timeout=RESULT_WITHIN_S)
            assert stopped["state"] == "succeeded"
            submitted = site.submit("destroy", instance, {})
            assert submitted.returncode == 0, submitted.stderr
            destroyed = site.settled(submitted.stdout.strip())
            assert destroyed["state"] == "succeeded"
            assert site.files() == []
    finally:
        client.app.backend.result_consumer.stop()
        client.close()
    assert "delivery acknowledgement" not in rabbitmq.log
