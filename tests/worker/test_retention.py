"""Pruning, by the worker's thread and by hand."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy.exc import OperationalError

from models.engine import Database
from models.journal.pruning import Pruned
from models.journal.settling import settle
from models.states import JobState
from tests.builders import Desk, enrolled
from tests.lab.waiting import eventually
from worker.cli import hostler
from worker.retention import Retention
from worker.settings import ConfigurationError

pytest_plugins = ["tests.builders"]

LONG_AGO = timedelta(days=3)


@pytest.fixture
def old(sqlite_journal: Database, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A journal with a job that has ended, and which is the command line's."""
    monkeypatch.setenv("HOSTLER_DATABASE_URL", str(sqlite_journal.url))
    desk = Desk(sqlite_journal, enrolled(sqlite_journal))
    settle(desk.database, desk.begun("old"), JobState.SUCCEEDED, outbox=False)
    return desk


def told(*arguments: str) -> str:
    """What the command prints; it must succeed."""
    result = CliRunner().invoke(hostler, arguments, standalone_mode=False, catch_exceptions=False)
    assert result.return_value == 0
    return result.output


def test_an_operator_prunes_by_hand(old: Desk) -> None:
    """Counted first, then pruned; what is shown of the job afterwards says what it is."""
    assert told("db", "prune", "--older-than-days", "1") == "0 jobs were pruned.\n"
    assert told("db", "prune", "--older-than-days", "0", "--dry-run") == "1 jobs would be pruned.\n"
    assert old.job("old").pruned_at is None
    assert told("db", "prune", "--older-than-days", "0") == "1 jobs were pruned.\n"
    shown = told("jobs", "show", "old")
    assert "its request, steps and history are gone; what it came to stays, and its id never runs again" in shown
    assert "STEP" not in shown
    document = told("jobs", "show", "old", "--json")
    assert '"request": null' in document
    assert '"state": "succeeded"' in document


def test_how_old_must_be_said_somewhere(old: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the setting or on the line; else nothing is pruned, and a sentence says what to say."""
    with pytest.raises(ConfigurationError, match=r"^HOSTLER_RETENTION_DAYS: it is not set, so say --older-than-days"):
        told("db", "prune")
    monkeypatch.setenv("HOSTLER_RETENTION_DAYS", "1")
    assert told("db", "prune") == "0 jobs were pruned.\n"
    assert old.job("old").pruned_at is None


@pytest.mark.parametrize("days", ["-1", "nan", "a day", "36501"])
def test_nonsense_is_refused(old: Desk, days: str) -> None:
    """And nothing is pruned."""
    result = CliRunner().invoke(hostler, ["db", "prune", "--older-than-days", days])
    assert (result.exit_code, "older-than-days" in result.output) == (2, True)
    assert old.job("old").pruned_at is None


def running(retention: Retention, wait: Callable[[], None]) -> None:
    """Started, waited for, and stopped."""
    retention.start()
    try:
        wait()
    finally:
        retention.stop(10)
    assert not retention.is_alive()


def test_the_worker_prunes_by_itself(old: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """What is older than it was told, in as many batches as it takes."""
    caplog.set_level(logging.INFO, "worker.retention")
    retention = Retention(old.database, timedelta(0), first_after_s=0)
    running(retention, lambda: eventually(lambda: bool(caplog.messages), "it says what it did", 10))
    assert old.job("old").pruned_at is not None
    assert caplog.messages == ["jobs pruned, each ended more than 0 days ago: 1"]


def test_without_an_age_nothing_is_ever_pruned(old: Desk) -> None:
    """Unasked, the journal forgets nothing."""
    retention = Retention(old.database, None, first_after_s=0)
    retention.start()
    retention.join(10)
    assert not retention.is_alive()
    assert old.job("old").pruned_at is None


@pytest.mark.parametrize("error", [OperationalError("", None, Exception("gone")), RuntimeError("a defect")], ids=type)
def test_it_outlives_what_it_meets(
    old: Desk, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be pruned now is pruned at the next round."""
    met: list[Any] = []

    def fail_once(_database: Database, older_than: timedelta) -> Pruned:
        met.append(older_than)
        if len(met) == 1:
            raise error
        return Pruned(jobs=0, letters=0)

    monkeypatch.setattr("worker.retention.prune", fail_once)
    monkeypatch.setattr("worker.retention.ROUND_EVERY_S", 0)
    retention = Retention(old.database, LONG_AGO, first_after_s=0)
    running(retention, lambda: eventually(lambda: len(met) > 1, "it goes on", 10))
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert set(met) == {LONG_AGO}
