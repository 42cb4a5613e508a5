"""A database's address and a disk that tests can break, and that are whole again when they say so."""

import errno
import threading
from pathlib import Path

import psycopg
import pytest

from tests.lab.database_proxy import DatabaseProxy, Passing
from tests.lab.places import scratch_folder
from tests.lab.postgres import PostgresServer
from tests.lab.small_disk import small_disk
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real


def test_a_database_behind_a_proxy_is_there_gone_silent_and_there_again(postgres_server: PostgresServer) -> None:
    """What a client whose answer was lost committed, is committed."""
    url = postgres_server.create_database(socket=True)
    with scratch_folder("proxy") as folder, DatabaseProxy(url, folder) as proxy:
        address = proxy.url.replace("postgresql+psycopg", "postgresql")

        def count() -> int:
            with psycopg.connect(address) as asking:
                [row] = asking.execute("SELECT count(*) FROM told").fetchall()
                return int(row[0])

        with psycopg.connect(address) as client:
            client.execute("CREATE TABLE told (word text)")
            client.commit()
            client.execute("INSERT INTO told VALUES ('unheard')")
            proxy.let_pass(Passing.QUESTIONS)
            committing = threading.Thread(target=_commit_unheard, args=(client,))
            committing.start()
            with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as beside:
                eventually(lambda: beside.execute("SELECT 1 FROM told").fetchall(), "it is committed")
            proxy.let_pass(Passing.NOBODY)
            committing.join(10)
            assert not committing.is_alive()
        with pytest.raises(psycopg.OperationalError):
            count()
        proxy.let_pass(Passing.ALL)
        assert count() == 1
        proxy.let_pass(Passing.NOTHING)
        asking = threading.Thread(target=count)
        asking.start()
        asking.join(0.2)
        assert asking.is_alive()
        proxy.let_pass(Passing.ALL)
        asking.join(10)
        assert not asking.is_alive()
    postgres_server.drop_database(url)


def _commit_unheard(client: psycopg.Connection) -> None:
    with pytest.raises(psycopg.OperationalError):
        client.commit()


def test_a_small_disk_is_full_and_has_room_again(tmp_path: Path) -> None:
    """And afterwards nothing is mounted there."""
    with small_disk(tmp_path, 1) as disk:
        assert tmp_path.is_mount()
        disk.fill()
        with pytest.raises(OSError, match="No space") as full:
            (tmp_path / "file").write_bytes(b"x" * 8192)
        assert full.value.errno == errno.ENOSPC
        disk.clear()
        (tmp_path / "file").write_bytes(b"x" * 8192)
    assert not tmp_path.is_mount()
