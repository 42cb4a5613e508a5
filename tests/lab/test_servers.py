"""The brokers and databases of the lab behave as tests of crashes need them to."""

import subprocess

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import create_engine, text

from tests.lab.nbd import NbdServer
from tests.lab.places import program
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer

pytestmark = pytest.mark.real


def test_a_restarted_redis_has_forgotten_everything() -> None:
    """Under the same address, so that its clients come back by themselves."""
    with RedisServer() as server, redis.Redis.from_url(server.url) as client:
        client.set("ring", 1)
        server.restart()
        assert client.get("ring") is None


def test_a_persistent_redis_keeps_what_it_acknowledged() -> None:
    """Even when it was killed."""
    with RedisServer(persistent=True) as server, redis.Redis.from_url(server.url) as client:
        client.set("ring", 1)
        server.restart()
        assert client.get("ring") == b"1"


def test_redis_serves_only_who_knows_its_url(redis_server: RedisServer) -> None:
    """Other users of the machine reach the port, too."""
    with (
        redis.Redis(port=redis_server.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        stranger.ping()


def test_flush_empties_redis(redis_server: RedisServer, redis_url: str) -> None:
    """While its clients stay connected."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("ring", 1)
        redis_server.flush()
        assert client.get("ring") is None


def test_a_killed_postgresql_recovers_what_was_committed() -> None:
    """Under the same address."""
    with PostgresServer() as server:
        url = server.create_database().replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE journal AS SELECT 1 AS written")
        server.kill()
        server.start()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT written FROM journal").fetchall() == [(1,)]


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_has_a_database_of_its_own(database_url: str, attempt: int) -> None:
    """Fresh, on each of the databases that the journal may live in."""
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE journal (attempt_{attempt} integer)"))
    engine.dispose()


@pytest.mark.parametrize("on_socket", [False, True])
def test_a_killed_nbd_server_has_what_was_written_to_it(*, on_socket: bool) -> None:
    """Under the same address; its data can be looked at from outside, too."""
    with NbdServer(export="volume", on_socket=on_socket) as server:

        def client(command: str) -> None:
            subprocess.run([program("qemu-io"), "-f", "raw", "-c", command, server.url], check=True, timeout=30)

        client("write -P 7 0 4096")
        server.kill()
        server.start()
        client("read -P 7 0 4096")
        with server.file.open("rb") as data:
            assert data.read(4097) == b"\7" * 4096 + b"\0"
