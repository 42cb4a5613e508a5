"""What operators decide, on both databases: every verb in every state of a job."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text, update

from models import outbox
from models.journal.asking import Answer, Asked, request_cancel
from models.journal.deciding import resume, retry, settle_by_hand, skip
from models.journal.due import claimable
from models.journal.holding import Intend, OvertakenError, Seen
from models.journal.settling import quarantine, settle, wait
from models.journal.stepping import advance
from models.journal.undoing import begin_undo
from models.records import ErrorRecord
from models.states import ErrorClass, JobClass, JobState, StepState, Verdict
from models.tables import workers
from tests.builders import STEPS, Desk, dump

pytest_plugins = ["tests.builders"]

TROUBLE = ErrorRecord(ErrorClass.TRANSIENT, "the line is down")
MISTAKE = ErrorRecord(ErrorClass.PERMANENT, "it will never work")
LATER = timedelta(hours=1)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
OPS = Asked("ops", "I looked")


def _queued(desk: Desk) -> None:
    desk.submit("a")


def _running(desk: Desk) -> None:
    desk.intend(desk.begun("a"), 0)


def _waiting(desk: Desk) -> None:
    lease = desk.begun("a")
    desk.done(lease, 0)
    desk.intend(lease, 1)
    wait(desk.database, lease, LATER, TROUBLE)


def _quarantined(desk: Desk) -> None:
    lease = desk.begun("a")
    desk.done(lease, 0)
    desk.intend(lease, 1)
    quarantine(desk.database, lease, MISTAKE)


def _settled(state: JobState) -> Callable[[Desk], None]:
    def arrange(desk: Desk) -> None:
        lease = desk.begun("a")
        settle(desk.database, lease, state, error=MISTAKE if state is JobState.FAILED else None, outbox=False)

    return arrange


ARRANGED: dict[str, Callable[[Desk], None]] = {
    "queued": _queued,
    "running": _running,
    "waiting": _waiting,
    "quarantined": _quarantined,
    "failed": _settled(JobState.FAILED),
    "cancelled": _settled(JobState.CANCELLED),
    "succeeded": _settled(JobState.SUCCEEDED),
}
VERBS: dict[str, Callable[[Desk], Answer]] = {
    "retry": lambda desk: retry(desk.database, "a", OPS, outbox=True),
    "resume": lambda desk: resume(desk.database, "a", OPS, outbox=True),
    "skip": lambda desk: skip(desk.database, "a", OPS, step=STEPS[1]),
    "settle succeeded": lambda desk: settle_by_hand(desk.database, "a", OPS, succeeded=True, outbox=True),
    "settle failed": lambda desk: settle_by_hand(desk.database, "a", OPS, succeeded=False, outbox=True),
}
#: Where a verb is taken, and what the job is then; everywhere else it is refused.
TAKEN = {
    ("retry", "failed"): JobState.QUEUED,
    ("retry", "cancelled"): JobState.QUEUED,
    ("resume", "waiting"): JobState.WAITING,
    ("resume", "quarantined"): JobState.RUNNING,
    ("skip", "waiting"): JobState.WAITING,
    ("skip", "quarantined"): JobState.QUARANTINED,
    ("settle succeeded", "waiting"): JobState.SUCCEEDED,
    ("settle succeeded", "quarantined"): JobState.SUCCEEDED,
    ("settle failed", "waiting"): JobState.FAILED,
    ("settle failed", "quarantined"): JobState.FAILED,
}


def due(desk: Desk) -> list[str]:
    """What the host's sweeper would take now."""
    return claimable(desk.database, "h1", classes=list(JobClass), in_hand=(), superseding=["destroy"], limit=10)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", ARRANGED)
def test_each_verb_is_taken_or_refused_by_the_state_of_the_job(desk: Desk, verb: str, state: str) -> None:
    """What is refused says why, stands in the history, and changes nothing; what is taken is an event of its actor."""
    ARRANGED[state](desk)
    before, row = desk.details("a"), desk.job("a")
    answer = VERBS[verb](desk)
    after = desk.details("a")
    expected = TAKEN.get((verb, state))
    assert answer.taken is (expected is not None), answer.sentence
    news = after.events[len(before.events) :]
    if expected is None:
        assert desk.job("a") == row
        assert after.steps == before.steps
        assert [(event.type, event.actor) for event in news] == [("decision_refused", "ops")]
        assert news[0].data["because"] == answer.sentence
        assert outbox.undelivered(desk.database) == []
    else:
        assert after.job.state is expected
        assert [event.actor for event in news] == ["ops"]
        assert news[0].data["reason"] == "I looked"


@pytest.mark.parametrize("verb", VERBS)
def test_a_job_that_nobody_knows(desk: Desk, verb: str) -> None:
    """Nothing is written."""
    before = dump(desk.database)
    assert VERBS[verb](desk) == Answer(taken=False, sentence="there is no job a.")
    assert dump(desk.database) == before


# --- retry


def test_a_retried_job_begins_anew_behind_its_instances_other_jobs(desk: Desk) -> None:
    """Its id, payload and history stay; its run, place in the line and steps are new."""
    _settled(JobState.FAILED)(desk)
    desk.submit("b", "attach_volume")
    assert retry(desk.database, "a", OPS, outbox=False).taken
    job = desk.job("a")
    assert (job.state, job.run, job.error, job.outcome, job.started_at, job.verdict) == (
        JobState.QUEUED,
        2,
        None,
        None,
        None,
        None,
    )
    assert job.number > desk.job("b").number
    assert due(desk) == ["b"]
    settle(desk.database, desk.claim("b"), JobState.FAILED, error=MISTAKE, outbox=False)
    lease = desk.claim("a")
    assert [step.state for step in lease.steps] == [StepState.PENDING] * len(STEPS)
    settle(desk.database, lease, JobState.SUCCEEDED, outbox=False)
    assert [event for event in desk.events("a") if event in {"failed", "retried", "succeeded"}] == [
        "failed",
        "retried",
        "succeeded",
    ]
    desk.submit("c")
    assert desk.job("c").number > desk.job("a").number


def test_a_retry_over_a_later_success_needs_force_and_a_reason(desk: Desk) -> None:
    """An attach that failed before a destroy succeeded is not done behind its back."""
    _settled(JobState.FAILED)(desk)
    settle(desk.database, desk.begun("b", "destroy"), JobState.SUCCEEDED, outbox=False)
    refused = retry(desk.database, "a", OPS, outbox=False)
    assert refused.sentence.startswith("job b (destroy) of the same instance has succeeded since; ")
    assert not retry(desk.database, "a", Asked("ops"), outbox=False, force=True).taken
    assert retry(desk.database, "a", OPS, outbox=False, force=True).taken


def test_a_success_is_retried_by_force_and_links_nobody_again(desk: Desk) -> None:
    """Its callbacks were sent; a chord was counted."""
    _settled(JobState.SUCCEEDED)(desk)
    with desk.database.write() as connection:
        connection.execute(
            text("DROP TRIGGER jobs_final_is_final" + (" ON jobs" if desk.database.backend == "postgresql" else ""))
        )
        connection.execute(text("""UPDATE jobs SET canvas = '{"callbacks": ["link"]}'"""))
    assert retry(desk.database, "a", OPS, outbox=False, force=True).taken
    assert desk.scalar("SELECT canvas FROM jobs") is None


def test_celery_forgets_a_retried_job_before_its_host_is_rung(desk: Desk) -> None:
    """The old result would answer whoever asks for the new one."""
    _settled(JobState.FAILED)(desk)
    retry(desk.database, "a", OPS, outbox=True)
    assert [letter.kind.value for letter in outbox.undelivered(desk.database)] == ["forget", "ring"]


# --- resume and skip


def test_a_resumed_job_goes_on_with_what_it_made(desk: Desk) -> None:
    """It is as one whose worker died: the sweeper takes it, and its intents are known."""
    _quarantined(desk)
    assert due(desk) == []
    assert resume(desk.database, "a", OPS, outbox=False).taken
    assert due(desk) == ["a"]
    lease = desk.claim("a")
    assert [step.state for step in lease.steps] == [StepState.DONE, StepState.INTENDED, StepState.PENDING]


def test_a_waiting_job_is_resumed_at_once(desk: Desk) -> None:
    """Whoever mended the host need not wait for the job's own time."""
    _waiting(desk)
    assert due(desk) == []
    resume(desk.database, "a", OPS, outbox=False)
    assert due(desk) == ["a"]


def test_resuming_from_a_step_takes_those_before_as_they_are(desk: Desk) -> None:
    """None of them is looked at again; the one that did not end is skipped, by name."""
    _quarantined(desk)
    assert resume(desk.database, "a", OPS, outbox=False, from_step=STEPS[2]).taken
    seen = [(step.state, step.skipped_by) for step in desk.details("a").steps]
    assert seen == [(StepState.DONE, "ops"), (StepState.SKIPPED, "ops"), (StepState.PENDING, None)]
    assert desk.details("a").events[-1].data == {"reason": "I looked", "from": STEPS[2], "skipped": [STEPS[1]]}


@pytest.mark.parametrize(
    ("decide", "sentence"),
    [
        (lambda desk: resume(desk.database, "a", OPS, outbox=False, from_step="Nonsense"), "has no step 'Nonsense'"),
        (lambda desk: skip(desk.database, "a", OPS, step="Nonsense"), "has no step 'Nonsense'"),
        (lambda desk: skip(desk.database, "a", OPS, step=STEPS[0]), "is done already"),
        (lambda desk: skip(desk.database, "a", Asked("ops", " "), step=STEPS[1]), "--because: a reason is needed"),
        (
            lambda desk: settle_by_hand(desk.database, "a", Asked("ops"), succeeded=True, outbox=False),
            "--because: a reason is needed",
        ),
    ],
    ids=["resume from nowhere", "skip nothing", "skip what is done", "skip without a reason", "settle without one"],
)
def test_nonsense_is_refused_with_a_sentence(desk: Desk, decide: Callable[[Desk], Answer], sentence: str) -> None:
    """And neither the job nor its steps change."""
    _quarantined(desk)
    before, row = desk.details("a").steps, desk.job("a")
    answer = decide(desk)
    assert not answer.taken
    assert sentence in answer.sentence
    assert (desk.details("a").steps, desk.job("a")) == (before, row)


def _undoing(desk: Desk) -> None:
    lease = desk.begun("a")
    desk.done(lease, 0, 1)
    begin_undo(desk.database, lease, Verdict.CANCELLED, None, ())
    quarantine(desk.database, replace(lease, job=desk.job("a")), MISTAKE)


def test_what_is_skipped_while_a_job_is_undone_is_the_undoing(desk: Desk) -> None:
    """What the step made is left where it is, by the operator's word."""
    _undoing(desk)
    assert skip(desk.database, "a", OPS, step=STEPS[1]).taken
    rows = {(step.name, step.direction.value): step.state for step in desk.details("a").steps}
    assert rows[STEPS[1], "do"] is StepState.DONE
    assert rows[STEPS[1], "undo"] is StepState.SKIPPED
    assert rows[STEPS[0], "undo"] is StepState.PENDING
    assert "in reverse" in resume(desk.database, "a", OPS, outbox=False, from_step=STEPS[0]).sentence
    assert resume(desk.database, "a", OPS, outbox=False).sentence == "job a is undone further on host h1."


# --- settle


def test_settling_frees_the_instance_and_tells_celery(desk: Desk) -> None:
    """The next job may be claimed; the outcome and whose word it was stand in the history."""
    _quarantined(desk)
    desk.submit("b", "attach_volume")
    assert due(desk) == []
    answer = settle_by_hand(desk.database, "a", OPS, succeeded=False, outbox=True)
    assert answer.sentence == f"job a has failed, by your word; its instance {desk.instance} is free for the next job."
    job = desk.job("a")
    assert job.error is not None
    assert job.error.message == "settled as failed by ops: I looked. It had met: it will never work"
    assert [letter.kind.value for letter in outbox.undelivered(desk.database)] == ["outcome", "ring"]
    assert due(desk) == ["b"]


def test_a_job_that_is_being_undone_has_not_succeeded(desk: Desk) -> None:
    """It may be settled as failed, and nothing is undone any more."""
    _undoing(desk)
    assert not settle_by_hand(desk.database, "a", OPS, succeeded=True, outbox=False).taken
    assert settle_by_hand(desk.database, "a", OPS, succeeded=False, outbox=False).taken


def test_a_success_by_hand_has_all_its_steps_skipped_by_name(desk: Desk) -> None:
    """A succeeded run's steps are all done, found or skipped."""
    _quarantined(desk)
    settle_by_hand(desk.database, "a", OPS, succeeded=True, outbox=False)
    assert [step.state for step in desk.details("a").steps] == [StepState.DONE, StepState.SKIPPED, StepState.SKIPPED]


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "silent"])
def test_a_running_job_is_settled_once_its_worker_is_gone(desk: Desk, *, stopped: bool) -> None:
    """And a worker that comes back after all writes nothing."""
    lease = desk.begun("a")
    desk.intend(lease, 0)
    gone = {"stopped_at": workers.c.heartbeat_at} if stopped else {"heartbeat_at": LONG_AGO}
    with desk.database.write() as connection:
        connection.execute(update(workers).values(gone))
    assert settle_by_hand(desk.database, "a", OPS, succeeded=False, outbox=False).taken
    with pytest.raises(OvertakenError):
        advance(desk.database, lease, [Seen(0, StepState.DONE)], Intend(1, {}))


# --- cancel


def test_a_quarantined_job_that_is_cancelled_is_undone(desk: Desk) -> None:
    """It leaves its quarantine as one whose worker died, and finds the cancel."""
    _quarantined(desk)
    answer = request_cancel(desk.database, "a", OPS, outbox=False)
    assert answer == Answer(taken=True, sentence="job a is taken out of quarantine, and is undone.")
    assert due(desk) == ["a"]
    assert desk.claim("a").job.cancel_requested
