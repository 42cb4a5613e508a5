"""What requests withhold, on both databases: it is there for as long as the job may need it, and no longer."""

from dataclasses import replace
from datetime import timedelta

import pytest

from models.journal.accepting import DifferentPayloadError, accept
from models.journal.asking import Asked, request_cancel
from models.journal.deciding import retry, settle_by_hand
from models.journal.settling import quarantine, settle, wait
from models.reading import withheld_of
from models.records import WITHHELD, ErrorRecord
from models.states import FINAL, ErrorClass, JobState
from models.submission import Submission
from tests.builders import Desk, dump, submission

pytest_plugins = ["tests.builders"]

PRIVATE = "hunter2"
PARTS = {"user_data": PRIVATE}
TROUBLE = ErrorRecord(ErrorClass.PERMANENT, "it will never work")
OPS = Asked("ops", "I looked")


def private(desk: Desk, mark: str = "0") -> Submission:
    """A submission that withholds something."""
    return replace(submission("a", instance=desk.instance, request={"user_data": {WITHHELD: mark}}), withheld=PARTS)


def shown(desk: Desk) -> str:
    """Every row of every table."""
    return str(dump(desk.database))


@pytest.mark.parametrize("state", sorted(FINAL), ids=str)
def test_what_is_withheld_ends_with_the_job(desk: Desk, state: JobState) -> None:
    """With the write that makes it final, whichever that is; until then only its own table has it."""
    accept(desk.database, private(desk), outbox=True)
    lease = desk.claim("a")
    assert withheld_of(desk.database, "a") == PARTS
    assert shown(desk).count(PRIVATE) == 1
    settle(desk.database, lease, state, error=TROUBLE if state is JobState.FAILED else None, outbox=True)
    assert withheld_of(desk.database, "a") is None
    assert PRIVATE not in shown(desk)


def test_a_job_that_may_go_on_keeps_it(desk: Desk) -> None:
    """While it waits, and while an operator is to decide; settled by hand it is final as well."""
    accept(desk.database, private(desk), outbox=False)
    wait(desk.database, desk.claim("a"), timedelta(0), TROUBLE)
    assert withheld_of(desk.database, "a") == PARTS
    quarantine(desk.database, desk.claim("a"), TROUBLE)
    assert withheld_of(desk.database, "a") == PARTS
    assert settle_by_hand(desk.database, "a", OPS, succeeded=False, outbox=False).taken
    assert withheld_of(desk.database, "a") is None


def test_a_job_cancelled_before_it_began_loses_it(desk: Desk) -> None:
    """Nobody will ever need it."""
    accept(desk.database, private(desk), outbox=False)
    assert request_cancel(desk.database, "a", OPS, outbox=False).taken
    assert PRIVATE not in shown(desk)


def test_a_second_delivery_is_the_same_job_also_once_it_was_dropped(desk: Desk) -> None:
    """It brings nothing back; with other user data it is refused."""
    for _ in range(2):
        accept(desk.database, private(desk), outbox=False)
    settle(desk.database, desk.claim("a"), JobState.SUCCEEDED, outbox=False)
    before = dump(desk.database)
    again = accept(desk.database, private(desk), outbox=False)
    assert (again.new, again.job.state) == (False, JobState.SUCCEEDED)
    with pytest.raises(DifferentPayloadError):
        accept(desk.database, private(desk, mark="1"), outbox=False)
    assert dump(desk.database) == before


def test_a_job_that_lost_it_cannot_be_retried(desk: Desk) -> None:
    """The sentence says what to do."""
    accept(desk.database, private(desk), outbox=False)
    settle(desk.database, desk.claim("a"), JobState.FAILED, error=TROUBLE, outbox=False)
    answer = retry(desk.database, "a", OPS, outbox=False, force=True)
    assert not answer.taken
    assert answer.sentence == "job a lost its user_data when it ended: submit it anew, under a new id."
