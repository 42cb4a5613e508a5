"""`hostler hosts recover`, as it is typed, while a worker is in the middle of it, or is not there."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from models.engine import Database
from models.states import JobState
from tests.fake_host import FakeHost
from tests.worker.recovery.inn import Inn, Worker
from worker.cli import hostler
from worker.doctor.journal import journal
from worker.settings import Settings

pytest_plugins = ["tests.builders"]


@pytest.fixture
def inn(sqlite_journal: Database, fake: FakeHost, tmp_path: Path) -> Inn:
    """A host before its first worker."""
    return Inn(sqlite_journal, fake, tmp_path)


def typed(inn: Inn, *arguments: str) -> Result:
    """Run the command in this process; its status is the command's answer."""
    environment = {"HOSTLER_DATABASE_URL": inn.database.url.render_as_string(hide_password=False)}
    return CliRunner().invoke(hostler, ["hosts", *arguments], env=environment, standalone_mode=False)


@contextmanager
def looking(worker: Worker) -> Iterator[None]:
    """The keeper runs meanwhile, as in its worker."""
    keeper = threading.Thread(target=worker.keeper.run, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        worker.keeper._stopped.set()
        worker.ledger.suspected.set()
        keeper.join(timeout=30)
    assert not keeper.is_alive()


def gone_back(inn: Inn) -> Worker:
    """A worker whose database has forgotten a spawn, and knows one that is queued."""
    worker, of = inn.start(), uuid4()
    inn.submit("first", "spawn", of)
    inn.back_up()
    inn.run(worker, "first", "spawn", of)
    inn.run(worker, "forgotten", "spawn", uuid4())
    inn.restore(inn.folder / "backup")
    inn.submit("later", "stop", of)
    return inn.start()


def test_shown_and_then_applied_by_one_command(inn: Inn) -> None:
    """To people and to programs; what is not to be changed is not, and the doctor knows of it."""
    worker = gone_back(inn)
    with looking(worker):
        shown = typed(inn, "recover", "h1")
        assert (shown.return_value, inn.jobs()["first"]) == (0, JobState.QUEUED), shown.stderr
        for line in (
            "h1 is in recovery since ",
            "forgotten  spawn of ",
            "unknown -> running on h1, by job forgotten; the host shows a domain, running",
            "Jobs that go on afterwards (cancel now what must not):",
            "Nothing was changed; do it with --apply.",
        ):
            assert line in shown.stdout
        assert "in recovery: the database has never heard" in typed(inn, "list").stdout
        told = Settings(host="h1", database_url=inn.database.url.render_as_string(hide_password=False))
        assert any("hostler hosts recover h1" in finding.line for finding in journal(told))

        applied = typed(inn, "recover", "h1", "--apply", "--because", "the disk died", "--json")

    document = json.loads(applied.stdout)
    assert (applied.return_value, document["recovering"], document["not_done"]) == (0, False, [])
    assert inn.jobs() == {"first": JobState.SUCCEEDED, "forgotten": JobState.SUCCEEDED, "later": JobState.QUEUED}
    assert inn.take(worker, "later") is None
    again = typed(inn, "recover", "h1")
    assert again.stdout == "h1 is not in recovery: there is nothing to do.\n"


def test_a_worker_that_does_not_tell_is_waited_for_no_longer_than_said(inn: Inn) -> None:
    """Exit status 3, and a sentence."""
    gone_back(inn)

    answer = typed(inn, "recover", "h1", "--timeout", "0")

    assert answer.return_value == 3
    assert "the worker of h1 has not told yet; see its log" in answer.stderr


def test_a_stopped_worker_finds_nothing_out(inn: Inn) -> None:
    """That nothing is known to be amiss is no proof then, and said so."""
    inn.start()
    with inn.database.write() as connection:
        connection.execute(text("UPDATE workers SET heartbeat_at = '2000-01-01 00:00:00.000000'"))

    answer = typed(inn, "recover", "h1")

    assert answer.return_value == 0
    assert "only a running worker finds out that the database went back" in answer.stdout


def test_a_host_that_there_is_not(inn: Inn) -> None:
    """One sentence, exit status 2."""
    answer = typed(inn, "recover", "h9")
    assert "there is no host h9." in answer.stderr
