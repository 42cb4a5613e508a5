"""How the journal's statements find their rows: by an index, however many jobs there ever were."""

import pytest
from sqlalchemy import text

from models import outbox, reading
from models.engine import Database
from models.journal import accepting, changing, claiming, due, events, holding, settling, stepping, taking
from models.prepared import Prepared

pytest_plugins = ["tests.builders"]

STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": statement
    for module in (accepting, changing, claiming, due, events, holding, settling, stepping, taking, outbox, reading)
    for name, statement in vars(module).items()
    if isinstance(statement, Prepared) and "_IN_ONE" not in name and not name.startswith("_HOLD_")
}
_UNTOLD = ["SCAN outbox USING INDEX ix_outbox_unpublished"]
SCANS = {
    # what the broker has not been told yet is all that this index has
    "outbox._UNDELIVERED_OF_JOBS": _UNTOLD,
    "outbox._DUE": _UNTOLD,
    # planned for references that were there before their job was, and never done: there are none
    "accepting._NEW_JOB_IN_SQLITE": ["SCAN outbox"],
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_of_the_hot_path_reads_a_table_whole(sqlite_journal: Database, name: str) -> None:
    """SQLite, which has no statistics here, plans it so for any number of rows."""
    form = STATEMENTS[name]._form(sqlite_journal.engine.dialect)
    values = dict.fromkeys((given for given, _ in form.inward), None)
    with sqlite_journal.engine.connect() as connection:
        cursor = connection.connection.cursor()
        plan = [row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {form.sql}", values)]
    scans = [
        line for line in plan if line.startswith("SCAN") and not line.startswith(("SCAN json_each", "SCAN CONSTANT"))
    ]
    assert scans == SCANS.get(name, []), plan


def test_there_are_statements_to_look_at() -> None:
    """The table above finds them."""
    assert {
        "due._CLAIMABLE",
        "claiming._JOB",
        "claiming._BEFORE",
        "holding._HOLD",
        "settling._NEXT_OF_INSTANCE",
    } <= set(STATEMENTS)


@pytest.mark.real
def test_a_plan_that_was_made_for_an_empty_journal_finds_steps_by_their_key(postgresql_journal: Database) -> None:
    """Plans are kept for as long as a connection is, and its first jobs come when nothing is there."""
    form = holding._HOLD_RECORD_AND_INTEND._form(postgresql_journal.engine.dialect)
    with postgresql_journal.write() as connection:
        connection.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        values = dict.fromkeys((given for given, _ in form.inward), None)
        cursor = connection.connection.cursor()
        cursor.execute(f"EXPLAIN {form.sql}", values, prepare=True)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Seq Scan" not in plan, plan
