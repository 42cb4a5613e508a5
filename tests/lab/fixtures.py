"""The lab, handed to tests: servers start when the first test asks for them and end with the session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import guest_image as images
from tests.lab import host_pair as pairs
from tests.lab.host_pair import HostPair
from tests.lab.hosts import LibvirtHost
from tests.lab.nbd import NbdServer
from tests.lab.network import Network
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis that tests share; a test that kills or flushes it leaves it running."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of the shared Redis, empty."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that tests share, each with databases of its own."""
    with PostgresServer(durable=False) as server:
        yield server


@pytest.fixture
def postgresql_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of a new, empty PostgreSQL database."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The address of an SQLite database that is not there yet."""
    return f"sqlite:///{tmp_path / 'journal.sqlite'}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The address of a fresh database, on each of the databases that the journal may live in."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def guest_image() -> images.GuestImage:
    """What guests boot from."""
    return images.guest_image()


@pytest.fixture(scope="session")
def libvirt_host() -> Iterator[LibvirtHost]:
    """A host that tests share; a test leaves no guest on it, and its libvirtd running."""
    with LibvirtHost("lab-shared") as host:
        yield host


@pytest.fixture
def own_libvirt_host() -> Iterator[LibvirtHost]:
    """A host of the test's own, whose libvirtd it may kill: others keep connections to the shared one."""
    with LibvirtHost("lab-own") as host:
        yield host


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """The network of the two hosts that tests of migration share."""
    with pairs.pair_network() as network:
        yield network


@pytest.fixture(scope="session")
def lasting_host_pair(network: Network) -> Iterator[HostPair]:
    """What `host_pair` lends to each test."""
    with pairs.host_pair(network) as pair:
        yield pair


@pytest.fixture
def host_pair(lasting_host_pair: HostPair) -> Iterator[HostPair]:
    """Two hosts that tests share, their links whole; a test leaves no guest on them, and their libvirtds running."""
    yield lasting_host_pair
    lasting_host_pair.heal()


@pytest.fixture
def nbd_server(network: Network) -> Iterator[NbdServer]:
    """An empty disk of 16 MiB that both hosts of the pair reach, and that no broken link of theirs takes away."""
    with NbdServer(export="volume", address=network.switch_address, network_namespace=network.switch) as server:
        yield server
