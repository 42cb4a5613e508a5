"""A PostgreSQL of our own, on a free port of the loopback interface and a UNIX socket, run without privileges."""

import os
import pwd
import secrets
import signal
import subprocess
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url
from typing_extensions import override

from tests.lab.opening import Server
from tests.lab.places import LabIncompleteError, program, scratch_folder
from tests.lab.processes import free_port

SUPERUSER = "lab"


class PostgresServer(Server):
    """A private cluster, gone when its context ends. `durable=False` is quicker and survives `kill`, not power loss."""

    called = "PostgreSQL"
    ready_within_s = 30.0

    def __init__(self, *, durable: bool = True, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.port = free_port()
        self._settings = dict(settings or {})
        self._durable = durable
        self._password = secrets.token_hex(8)
        self._numbers = count(1)

    @override
    def _open(self) -> None:
        self._folder = self._cleanups.enter_context(scratch_folder("postgres"))
        self._cleanups.callback(self.stop)
        self._initialise()
        self.start()

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the database that always exists."""
        return self._url_of("postgres")

    def create_database(self, *, socket: bool = False) -> str:
        """SQLAlchemy's address of a new, empty database; by UNIX socket for who is in another network."""
        name = f"hostler_{next(self._numbers)}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self._socket_url_of(name) if socket else self._url_of(name)

    def drop_database(self, url: str) -> None:
        """Remove a database that `create_database` made, whoever is still connected to it."""
        name = make_url(url).database or ""
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def back_up(self, url: str) -> str:
        """A copy of the database as it is now, whoever is connected to it; its address."""
        return self._copied(make_url(url).database or "", f"hostler_{next(self._numbers)}")

    def put_back(self, url: str, backup: str) -> None:
        """Put a copy in the database's place, under those who are connected to it."""
        name = make_url(url).database or ""
        self._disconnect(name)
        self.drop_database(url)
        self._copied(make_url(backup).database or "", name)

    def _copied(self, name: str, to: str) -> str:
        self._disconnect(name)
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            names = {"of": sql.Identifier(name), "to": sql.Identifier(to)}
            connection.execute(sql.SQL("CREATE DATABASE {to} TEMPLATE {of}").format(**names))
            connection.execute(sql.SQL("ALTER DATABASE {of} ALLOW_CONNECTIONS true").format(**names))
        return self._url_of(to)

    def _disconnect(self, name: str) -> None:
        """Let nobody in, and end those who are."""
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            closed = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false")
            connection.execute(closed.format(sql.Identifier(name)))
            ended = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(ended, (name,))

    def start(self) -> None:
        """Start it on the same port as before, and return when it answers."""
        self._refuse_running()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "dynamic_shared_memory_type": "mmap",
            "shared_buffers": "32MB",
            "jit": "off",
            "fsync": "on" if self._durable else "off",
            **self._settings,
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        command = [*self._as_owner(), _server_program("postgres"), "-D", str(self._data), *options]
        self._run(command, log=self._folder / "log", cwd=self._folder)

    def stop(self) -> None:
        """End it in order, its clients disconnected."""
        if self._process is not None:
            process, self._process = self._process, None
            try:
                if process.alive:
                    process.signal(signal.SIGINT)
                    process.wait(self.ready_within_s)
            finally:
                process.end()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _address(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def _url_of(self, database: str) -> str:
        return self._address(database).replace("postgresql:", "postgresql+psycopg:", 1)

    def _socket_url_of(self, database: str) -> str:
        credentials = f"{SUPERUSER}:{self._password}"
        return f"postgresql+psycopg://{credentials}@/{database}?host={self._folder}&port={self.port}"

    @override
    def _answers(self) -> bool:
        try:
            psycopg.connect(self._address("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        owner = _owner()
        password_file = self._folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        for path in (self._folder, password_file):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        options = ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C.UTF-8"]
        made = subprocess.run(
            [
                *self._as_owner(),
                _server_program("initdb"),
                *(f"--username={SUPERUSER}", "--no-sync", *options, "-D", str(self._data)),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=self._folder,
            timeout=120,
        )
        if made.returncode:
            raise LabIncompleteError(f"initdb failed:\n{made.stdout}{made.stderr}")

    def _as_owner(self) -> list[str]:
        """PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return []
        owner = _owner()
        return [program("setpriv"), f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", "--"]


def _owner() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _server_program(name: str) -> str:
    """Debian keeps the server's programs of each version in a folder of its own, outside PATH."""
    versions = [path for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}") if os.access(path, os.X_OK)]
    newest = max(versions, key=lambda path: int(path.parts[4]), default=None)
    return str(newest) if newest else program(name)
