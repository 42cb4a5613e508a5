"""The fence, where two transactions meet: what only a server with many writers can get wrong."""

import threading

import pytest
from sqlalchemy import text

from models.engine import Database
from models.journal.claiming import claim_within
from models.journal.holding import OvertakenError, Seen
from models.journal.stepping import advance
from models.states import StepState
from tests.builders import Desk, enrolled, terms_of
from tests.lab.waiting import eventually

pytest_plugins = ["tests.builders"]

WITHIN_S = 20.0


@pytest.mark.real
def test_a_write_that_waits_for_a_take_over_lands_nowhere(postgresql_journal: Database) -> None:
    """It was begun while its epoch still counted, and meets a row of the next one when it comes to write."""
    desk = Desk(postgresql_journal, enrolled(postgresql_journal))
    lease = desk.begun("a")
    desk.intend(lease, 0)
    successor = enrolled(postgresql_journal)
    came_to: list[object] = []

    def write_late() -> None:
        try:
            came_to.append(advance(postgresql_journal, lease, [Seen(0, StepState.DONE)], None))
        except OvertakenError as overtaken:
            came_to.append(overtaken)

    late = threading.Thread(target=write_late, daemon=True)
    with postgresql_journal.write() as taking_over:
        claim_within(taking_over, "a", successor, terms_of, outbox=False)
        late.start()
        eventually(lambda: _waits_for_a_lock(postgresql_journal), "the late write waits", WITHIN_S)
    late.join(WITHIN_S)
    assert [type(each) for each in came_to] == [OvertakenError]
    assert [step.state for step in desk.details("a").steps] == [
        StepState.INTENDED,
        StepState.PENDING,
        StepState.PENDING,
    ]


def _waits_for_a_lock(database: Database) -> bool:
    with database.read() as connection:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(connection.execute(text(waiting)).scalar_one())
