"""Sites for the tests of whole paths: real worker processes, real libvirt, real brokers."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

import migrations
from tests.lab.host_pair import HostPair
from tests.lab.hosts import LibvirtHost
from tests.lab.orchestrator import Orchestrator
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from tests.lab.site_pair import SitePair, site_pair


@pytest.fixture
def instance() -> UUID:
    """An instance that nobody has seen yet."""
    return uuid4()


@pytest.fixture
def small_guest() -> dict[str, Any]:
    """A guest without an operating system: QEMU's firmware idles in 40 MiB."""
    return {"name": "small", "memory_mib": 40, "disk_gib": 1}


@pytest.fixture
def orchestrator(redis_url: str) -> Iterator[Orchestrator]:
    """A plain Celery client on the shared Redis."""
    client = Orchestrator(redis_url)
    yield client
    client.close()


@pytest.fixture
def site(libvirt_host: LibvirtHost, postgresql_url: str, redis_url: str) -> Iterator[Site]:
    """A host with PostgreSQL, Redis and a libvirtd, its worker not started."""
    with Site(libvirt=libvirt_host, database_url=postgresql_url, broker_url=redis_url) as served:
        migrations.upgrade(served.database)
        yield served


@pytest.fixture
def embedded_site() -> Iterator[Site]:
    """A host as it is by default: SQLite, no broker, libvirt's driver inside the worker."""
    with Site() as served:
        yield served


@pytest.fixture
def sites(host_pair: HostPair, postgres_server: PostgresServer, redis_server: RedisServer) -> Iterator[SitePair]:
    """Two hosts with one PostgreSQL and one Redis, their workers ready."""
    redis_server.flush()
    journal = postgres_server.create_database(socket=True)
    with site_pair(host_pair, database_url=journal, broker_url=redis_server.socket_url) as pair:
        migrations.upgrade(pair.first.database)
        pair.start_workers()
        yield pair
    postgres_server.drop_database(journal)


@pytest.fixture
def outsider(redis_server: RedisServer) -> Iterator[Orchestrator]:
    """A plain Celery client of both sites, which reaches their Redis from outside of their network."""
    client = Orchestrator(redis_server.url)
    yield client
    client.close()
