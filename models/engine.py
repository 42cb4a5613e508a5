"""Connections to the database: SQLite or PostgreSQL, the same journal on both.

SQLite: WAL, ``synchronous=FULL``, foreign keys, and writers that take the write lock at their first word
(``BEGIN IMMEDIATE``), so that no writer finds out at COMMIT that what it read is old.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, Engine, String, create_engine, event, literal, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator
from typing_extensions import override

from models.prepared import Alone, Speaker, tell

#: How long a SQLite writer waits for another one, in seconds, before it is an error.
SQLITE_BUSY_TIMEOUT_S = 30
#: How long to wait for a PostgreSQL server to take a connection, in seconds.
POSTGRESQL_CONNECT_TIMEOUT_S = 10

#: How a database URL may begin.
DRIVERS = frozenset({"sqlite", "sqlite+pysqlite", "postgresql+psycopg"})
#: The database cannot be reached or does not answer: worth another try. Any other error of it is a defect.
OUT_OF_REACH = (OperationalError, InterfaceError, PoolTimeoutError)

#: For how long a connection that was given back counts as there, in seconds; an older one is asked first.
PROVEN_FOR_S = 1.0

_READ_ONLY = "hostler_read_only"
_GIVEN_BACK = "hostler_given_back"


class DatabaseURLError(ValueError):
    """The database URL cannot be used; the message is one sentence."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, always aware and in UTC; SQLite keeps no zone, so it is given back here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC goes in."""
        return None if value is None else value.astimezone(UTC)

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC comes out."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class now_in_database(FunctionElement[datetime]):  # noqa: N801  # SQL functions are written in lower case
    """The database's own clock, ``delay`` seconds on: the only one that times in the journal are taken from."""

    type = UtcDateTime()
    inherit_cache = True  # the delay is a bound parameter, so statements that differ in it alone share their SQL

    def __init__(self, delay: timedelta | None = None) -> None:
        seconds = 0.0 if delay is None else delay.total_seconds()
        super().__init__(literal(f"{seconds:+f} seconds", String()))


@compiles(now_in_database, "sqlite")
def _sqlite_now(element: now_in_database, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # handed on
    delay = compiler.process(element.clauses, **options)
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', {delay}) || '000')"


@compiles(now_in_database, "postgresql")
def _postgresql_now(
    element: now_in_database,
    compiler: SQLCompiler,
    **options: Any,  # noqa: ANN401  # handed on
) -> str:
    return f"(clock_timestamp() + CAST({compiler.process(element.clauses, **options)} AS interval))"


class Database:
    """The database, as two kinds of transaction.

    ``write()`` commits when its block ends and rolls back when it raises; no transaction stays open across a
    call on a host. ``read()`` never writes and never waits for a writer.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise DatabaseURLError("HOSTLER_DATABASE_URL: not a database URL.") from error
        except ValueError as error:
            raise DatabaseURLError(f"HOSTLER_DATABASE_URL: not a database URL ({error}).") from error
        backend = parsed.get_backend_name()
        if backend not in {"sqlite", "postgresql"}:
            raise DatabaseURLError(f"HOSTLER_DATABASE_URL: {backend} is not supported; use sqlite or postgresql.")
        if parsed.drivername not in DRIVERS:
            raise DatabaseURLError(f"HOSTLER_DATABASE_URL: it must begin with {', '.join(sorted(DRIVERS))}.")
        self.url = parsed
        self.backend = backend
        options: dict[str, Any]
        if backend == "sqlite":
            if parsed.database is None or parsed.database in {"", ":memory:"}:
                raise DatabaseURLError("HOSTLER_DATABASE_URL: SQLite needs a file; memory does not survive anything.")
            options = {"connect_args": {"timeout": SQLITE_BUSY_TIMEOUT_S, "isolation_level": None}}
        else:
            options = {
                "connect_args": {
                    "connect_timeout": POSTGRESQL_CONNECT_TIMEOUT_S,
                    "application_name": "hostler",
                    # a peer that vanished is noticed within about half a minute, not two hours
                    "keepalives_idle": 10,
                    "keepalives_interval": 5,
                    "keepalives_count": 3,
                    "tcp_user_timeout": 30_000,
                },
                "pool_use_lifo": True,  # so that what one thread at a time does takes one connection, not all in turn
            }
        # An error's text goes into logs, and what a statement carried may be somebody's user data.
        self.engine: Engine = create_engine(parsed, pool_size=8, max_overflow=32, hide_parameters=True, **options)
        if backend == "sqlite":
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            self._reader = self.engine.execution_options(**{_READ_ONLY: True})
        else:
            event.listen(self.engine, "checkin", _given_back)
            event.listen(self.engine, "checkout", self._prove_idle)
            # each statement sees what is committed then, in a transaction or not: it is spared its BEGIN and ROLLBACK
            self._reader = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for a server."""
        return Path(self.url.database) if self.backend == "sqlite" and self.url.database else None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that may write."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads, all of it from one moment on SQLite."""
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def one(self) -> Iterator[Speaker]:
        """For one prepared statement, which is a transaction by itself: there is nothing to begin or to commit.

        On SQLite it must be one that reads: a writer there says BEGIN IMMEDIATE first.
        """
        raw = self.engine.raw_connection()
        try:
            driver: Any = raw.driver_connection
            if self.backend == "postgresql":
                driver.autocommit = True
            try:
                yield Alone(self.engine.dialect, raw)
            finally:
                if self.backend == "postgresql" and raw.is_valid and not driver.closed:
                    driver.autocommit = False
        finally:
            raw.close()

    @contextmanager
    def write_one(self) -> Iterator[Speaker]:
        """For one prepared statement that writes."""
        if self.backend == "postgresql":
            with self.one() as alone:
                yield alone
        else:
            with self.write() as connection:
                yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _prove_idle(self, connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:  # noqa: ANN401
        """Ask a server connection that nobody used for a while whether it is there; all are made anew if it is not."""
        given_back: float = record.info.get(_GIVEN_BACK, -math.inf)
        if given_back == -math.inf or time.monotonic() - given_back < PROVEN_FOR_S:
            return
        dialect = self.engine.dialect
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401  # the driver's own object
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    tell(connection, "BEGIN" if read_only else "BEGIN IMMEDIATE")


def _given_back(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_GIVEN_BACK] = time.monotonic()
