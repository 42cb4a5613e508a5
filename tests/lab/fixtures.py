"""The lab, handed to tests: servers start when the first test asks for them and end with the session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import guest_image as images
from tests.lab.hosts import LibvirtHost
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
