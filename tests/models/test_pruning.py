"""Pruning, on both databases: what is left of a job, what is kept whole, and that its id never runs again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, text

from models import outbox
from models.engine import Database, now_in_database
from models.journal.accepting import DifferentPayloadError, accept, note
from models.journal.asking import Answer, Asked, request_cancel, request_force_complete
from models.journal.claiming import NotNow
from models.journal.deciding import resume, retry, settle_by_hand, skip
from models.journal.pruning import BATCH_JOBS, Pruned, count_prunable, prune
from models.journal.settling import quarantine, settle, wait
from models.records import ErrorRecord
from models.states import FINAL, ErrorClass, EventType, JobState
from models.tables import jobs, runs
from models.tables import outbox as letters
from tests.builders import STEPS, Desk, dump, enrolled, submission

pytest_plugins = ["tests.builders"]

TROUBLE = ErrorRecord(ErrorClass.PERMANENT, "it will never work")
AT_ONCE, A_DAY = timedelta(0), timedelta(days=1)
OPS = Asked("ops", "I looked")


def ended(desk: Desk, job_id: str = "a", state: JobState = JobState.SUCCEEDED) -> None:
    """A job with an attempt at each of its steps, ended."""
    lease = desk.begun(job_id)
    desk.done(lease, 0, 1, 2)
    settle(desk.database, lease, state, error=TROUBLE if state is JobState.FAILED else None, outbox=False)


def rows(database: Database) -> dict[str, int]:
    """How many rows each table of jobs has."""
    tables = ("jobs", "runs", "steps", "step_attempts", "job_events", "outbox")
    return {table: len(found) for table, found in dump(database).items() if table in tables and found}


@pytest.mark.parametrize("state", sorted(FINAL), ids=str)
def test_a_tombstone_is_what_the_job_came_to(desk: Desk, state: JobState) -> None:
    """Its id, payload digest, outcome and times stay; its request, canvas, runs, steps and history are gone."""
    ended(desk, "a", state)
    before = desk.job("a")
    digest = desk.scalar("SELECT payload_digest FROM jobs")
    assert prune(desk.database, AT_ONCE) == Pruned(jobs=1, letters=0)
    after = desk.job("a")
    assert (after.state, after.outcome, after.error, after.run, after.epoch, after.ended_at) == (
        state,
        before.outcome,
        before.error,
        before.run,
        before.epoch,
        before.ended_at,
    )
    assert after.pruned_at is not None
    assert (after.request, desk.scalar("SELECT canvas FROM jobs")) == ({}, None)
    assert desk.scalar("SELECT payload_digest FROM jobs") == digest
    assert rows(desk.database) == {"jobs": 1}
    assert prune(desk.database, AT_ONCE) == Pruned(jobs=0, letters=0)


def test_the_id_of_a_tombstone_never_runs_again(desk: Desk) -> None:
    """The same payload is the same job, ended; another payload is refused; nobody can claim it."""
    sent = submission("a", instance=desk.instance)
    accept(desk.database, sent, outbox=False)
    settle(desk.database, desk.claim("a"), JobState.SUCCEEDED, outbox=False)
    prune(desk.database, AT_ONCE)
    before = dump(desk.database)
    again = accept(desk.database, sent, outbox=True)
    assert (again.new, again.job.state) == (False, JobState.SUCCEEDED)
    with pytest.raises(DifferentPayloadError):
        accept(desk.database, submission("a", "destroy", instance=desk.instance), outbox=True)
    assert desk.try_claim("a") == NotNow("it has succeeded")
    assert dump(desk.database) == before


ASKED: dict[str, Callable[[Desk], Answer]] = {
    "cancel": lambda desk: request_cancel(desk.database, "a", OPS, outbox=True),
    "force-complete": lambda desk: request_force_complete(desk.database, "a", OPS),
    "retry": lambda desk: retry(desk.database, "a", OPS, outbox=True, force=True),
    "resume": lambda desk: resume(desk.database, "a", OPS, outbox=True),
    "skip": lambda desk: skip(desk.database, "a", OPS, step=STEPS[1]),
    "settle": lambda desk: settle_by_hand(desk.database, "a", OPS, succeeded=True, outbox=True),
}


@pytest.mark.parametrize("verb", ASKED)
def test_nothing_can_be_asked_of_a_tombstone(desk: Desk, verb: str) -> None:
    """It says what is left and what to do, and has no history that could grow."""
    ended(desk, "a", JobState.FAILED)
    prune(desk.database, AT_ONCE)
    before = dump(desk.database)
    answer = ASKED[verb](desk)
    day = desk.job("a").pruned_at
    assert answer == Answer(
        taken=False,
        sentence=f"job a has failed, and was pruned on {day:%Y-%m-%d}: only what it came to is kept; "
        "ask for it again under a new id.",
    )
    note(desk.database, "a", EventType.RING_REFUSED, actor="celery", data={})
    assert dump(desk.database) == before


def _queued(desk: Desk) -> None:
    desk.submit("b")


def _running(desk: Desk) -> None:
    desk.intend(desk.begun("b"))


def _waiting(desk: Desk) -> None:
    wait(desk.database, desk.begun("b"), A_DAY, TROUBLE)


def _quarantined(desk: Desk) -> None:
    quarantine(desk.database, desk.begun("b"), TROUBLE)


@pytest.mark.parametrize(
    ("arrange", "pruned"),
    [(_queued, 1), (_running, 0), (_waiting, 0), (_quarantined, 0)],
    ids=["queued", "running", "waiting", "quarantined"],
)
def test_what_is_not_settled_stays_whole_and_so_does_what_came_before_it(
    desk: Desk, arrange: Callable[[Desk], None], pruned: int
) -> None:
    """An operator may have to read how the instance came to where it is; another instance's jobs go."""
    ended(desk, "a")
    arrange(desk)
    whole = desk.details("b")
    other = desk.submit("c", instance=uuid4())
    settle(desk.database, desk.claim("c"), JobState.SUCCEEDED, outbox=False)
    assert count_prunable(desk.database, AT_ONCE) == pruned + 1
    assert prune(desk.database, AT_ONCE).jobs == pruned + 1
    assert (desk.job("a").pruned_at is not None, desk.job(other.id).pruned_at is not None) == (pruned == 1, True)
    assert desk.details("b") == whole


def test_a_job_is_kept_for_as_long_as_was_said(desk: Desk) -> None:
    """Its age is counted from its end, and of its last run."""
    ended(desk)
    assert prune(desk.database, A_DAY) == Pruned(jobs=0, letters=0)
    assert count_prunable(desk.database, A_DAY) == 0
    assert desk.job("a").pruned_at is None
    retry(desk.database, "a", OPS, outbox=False, force=True)
    assert prune(desk.database, AT_ONCE) == Pruned(jobs=0, letters=0)


def test_what_celery_was_not_told_yet_is_kept(desk: Desk) -> None:
    """Its outcome and links are told first; then the job goes, and the letters with it."""
    desk.submit("a")
    settle(desk.database, desk.claim("a", outbox=True), JobState.SUCCEEDED, outbox=True)
    assert prune(desk.database, AT_ONCE) == Pruned(jobs=0, letters=0)
    for letter in outbox.undelivered(desk.database):
        outbox.delivered(desk.database, letter)
    assert prune(desk.database, A_DAY) == Pruned(jobs=0, letters=0)
    assert prune(desk.database, AT_ONCE) == Pruned(jobs=1, letters=1)
    assert rows(desk.database) == {"jobs": 1}


def many(desk: Desk, count: int) -> None:
    """That many ended jobs, the first the oldest."""
    row = {
        "operation": "spawn",
        "job_class": "spawn",
        "instance": desk.submit("first").instance,
        "host": "h1",
        "sent_to": "h1",
        "request": {},
        "payload_digest": "d",
        "state": JobState.SUCCEEDED,
        "run": 1,
        "epoch": 1,
        "past_return": False,
        "waits": 0,
        "submitted_at": now_in_database(),
    }
    with desk.database.write() as connection:
        for number in range(count):
            age = timedelta(minutes=2 * count - number)
            connection.execute(insert(jobs).values(row | {"id": f"j{number:04}", "ended_at": now_in_database(-age)}))
            connection.execute(insert(runs).values(job=f"j{number:04}", number=1, submitted_at=now_in_database()))


def test_it_goes_in_batches_the_oldest_first(desk: Desk) -> None:
    """So that no transaction is long, whatever has gathered."""
    many(desk, BATCH_JOBS + 3)
    assert prune(desk.database, AT_ONCE).jobs == BATCH_JOBS
    with desk.database.read() as connection:
        left = list(
            connection.execute(select(jobs.c.id).where(jobs.c.pruned_at.is_(None)).order_by(jobs.c.id)).scalars()
        )
    assert left == ["first", *(f"j{number:04}" for number in range(BATCH_JOBS, BATCH_JOBS + 3))]
    assert prune(desk.database, AT_ONCE).jobs == 3
    assert not prune(desk.database, AT_ONCE)


@contextmanager
def held(database: Database, job_id: str) -> Iterator[None]:
    """Somebody decides on the job right now, and has not committed yet."""
    with database.write() as connection:
        connection.execute(select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())
        yield


@pytest.mark.real
def test_a_job_that_somebody_holds_is_left_to_the_next_round(postgresql_journal: Database) -> None:
    """Neither waits for the other: two workers prune at once, and an operator's retry comes first."""
    desk = Desk(postgresql_journal, enrolled(postgresql_journal))
    many(desk, 2)
    with held(postgresql_journal, "j0000"):
        assert prune(postgresql_journal, AT_ONCE).jobs == 1
    assert desk.job("j0000").pruned_at is None
    assert prune(postgresql_journal, AT_ONCE).jobs == 1


def test_letters_that_were_delivered_long_ago_go_too(desk: Desk) -> None:
    """Also those of a job that is kept, which has no more use for them."""
    desk.submit("a")
    lease = desk.claim("a")
    with desk.database.write() as connection:
        connection.execute(text("DELETE FROM outbox"))
        for published in (now_in_database(-A_DAY), None):
            connection.execute(
                insert(letters).values(
                    job="a",
                    run=1,
                    kind="ring",
                    host="h1",
                    created_at=now_in_database(),
                    published_at=published,
                    tries=0,
                )
            )
    assert prune(desk.database, AT_ONCE) == Pruned(jobs=0, letters=1)
    assert len(outbox.undelivered(desk.database)) == 1
    quarantine(desk.database, lease, TROUBLE)


def test_a_pruning_that_is_cut_off_leaves_its_batch_whole(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is one transaction: no job is left with half of its history."""
    ended(desk)
    before = dump(desk.database)

    def cut_off(*_arguments: object) -> int:
        raise ConnectionAbortedError

    monkeypatch.setattr("models.journal.pruning._drop_letters", cut_off)
    with pytest.raises(ConnectionAbortedError):
        prune(desk.database, AT_ONCE)
    assert dump(desk.database) == before
