"""Revokes: they become our cancel, and nothing of them is kept that could swallow a later message."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from celery.worker import state as celery_state
from celery.worker.control import Panel

from models.journal.asking import Answer
from worker.celery_app.revoking import EARLY_REVOKE_KEPT_S, EARLY_REVOKES_MAX, EarlyRevokes, install
from worker.celery_app.rings import KeepingRequest


@contextmanager
def celerys_own() -> Iterator[None]:
    """Celery's commands and what it has revoked are as they were, afterwards."""
    commands, revoked = dict(Panel.data), set(celery_state.revoked)
    try:
        yield
    finally:
        Panel.data.clear()
        Panel.data.update(commands)
        for job in set(celery_state.revoked) - revoked:
            celery_state.revoked.discard(job)


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    with celerys_own():
        yield


def test_a_revoke_of_a_known_job_is_a_cancel_and_is_not_kept() -> None:
    """A ring or a retry under the same id, later, is not swallowed: neither by Celery nor by us."""
    asked: list[str] = []
    revokes = EarlyRevokes()

    def cancel(job: str, _reason: str) -> Answer:
        asked.append(job)
        return Answer(taken=True, sentence="it stops.")

    install(cancel, revokes)
    for command in ("revoke", "terminate"):
        more = {"signal": "SIGTERM"} if command == "terminate" else {}
        assert Panel.data[command](None, task_id=["a", "b"], **more) == {"ok": "it stops. it stops."}
    assert asked == ["a", "b", "a", "b"]
    assert not revokes.has("a")
    assert "a" not in celery_state.revoked


def test_no_message_is_revoked_by_celery() -> None:
    """Even if an id came into its set: whether a job is cancelled stands in the journal."""
    request = object.__new__(KeepingRequest)
    assert not request.revoked()


def test_a_revoke_before_its_message_waits_for_it_once_and_briefly() -> None:
    """The first message under the id meets it; the next one does not, nor does one that comes late."""
    now = 0.0
    revokes = EarlyRevokes(clock=lambda: now)
    install(lambda _job, _reason: None, revokes)
    Panel.data["revoke"](None, task_id="a")
    assert revokes.has("a")
    assert revokes.withdraw("a")
    assert not revokes.withdraw("a")
    Panel.data["revoke"](None, task_id="a")
    now = EARLY_REVOKE_KEPT_S
    assert (revokes.has("a"), revokes.withdraw("a")) == (False, False)


def test_only_so_many_wait() -> None:
    """The oldest are forgotten first."""
    revokes = EarlyRevokes(clock=lambda: 0.0)
    for number in range(EARLY_REVOKES_MAX + 1):
        revokes.keep(str(number))
    assert not revokes.has("0")
    assert revokes.has(str(EARLY_REVOKES_MAX))
