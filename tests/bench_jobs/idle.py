"""What a fleet of workers that have nothing to do asks of one PostgreSQL."""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

import psycopg
from sqlalchemy import make_url

from tests.bench_jobs.crew import Crew
from tests.lab.hosts import LibvirtHost
from tests.lab.places import CHECKOUT, scratch_folder
from tests.lab.postgres import PostgresServer
from tests.lab.processes import Process
from tests.lab.redis import RedisServer
from tests.lab.waiting import eventually

#: A worker's start costs two processors about a second.
READY_WITHIN_S = 900.0
#: What a start does once is over by then.
CALM_AFTER_S = 20.0
#: So long that everything that a worker does at intervals is in it: comparing host and journal, each minute, too.
WATCHED_FOR_S = 60.0
SAMPLES = 12
MAX_CONNECTIONS = "1700"
SHARED_MEMORY = {"max_connections": MAX_CONNECTIONS, "shared_preload_libraries": "pg_stat_statements"}


@dataclass(frozen=True)
class Idleness:
    """What one worker asks, on average."""

    connections: float  #: the most of all samples
    statements_per_s: float  #: all that the server was sent, BEGIN and COMMIT included


def measure_idle(workers: int, watched_for_s: float = WATCHED_FOR_S) -> Idleness:
    """Start so many workers, each with a name of its own, on one libvirtd, Redis and PostgreSQL; and watch them."""
    with ExitStack() as lab:
        host = lab.enter_context(LibvirtHost("idle"))
        redis = lab.enter_context(RedisServer())
        postgres = lab.enter_context(PostgresServer(settings=SHARED_MEMORY))
        folder = lab.enter_context(scratch_folder("idle"))
        url = postgres.create_database()
        watch = lab.enter_context(psycopg.connect(_plain(postgres.url), autocommit=True))
        watch.execute("CREATE EXTENSION pg_stat_statements")
        name = make_url(url).database
        crew = Crew(workers, folder, url, redis.url, host.uri)
        process = lab.enter_context(
            Process([sys.executable, "-m", "tests.bench_jobs.crew", crew.as_json()], log=folder / "log", cwd=CHECKOUT)
        )
        eventually(
            lambda: crew.ready() == workers or not process.alive,
            f"{workers} workers are ready",
            READY_WITHIN_S,
            poll_s=0.5,
        )
        if not process.alive:
            raise RuntimeError(f"the crew ended:\n{process.log[-2000:]}")
        _pass(CALM_AFTER_S)
        watch.execute("SELECT pg_stat_statements_reset()")
        began = time.monotonic()
        connections = 0
        for _ in range(SAMPLES):
            _pass(watched_for_s / SAMPLES)
            connections = max(
                connections, _number(watch, "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = %s", name)
            )
        asked = _number(
            watch,
            "SELECT COALESCE(SUM(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
            " WHERE d.datname = %s",
            name,
        )
        took = time.monotonic() - began
        return Idleness(connections / workers, asked / took / workers)


def _number(connection: psycopg.Connection, query: str, name: str | None) -> int:
    row = connection.execute(query, (name,)).fetchone()
    assert row is not None
    return int(row[0])


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _pass(seconds: float) -> None:
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= end, "the time passes", seconds + 5.0, poll_s=0.1)
