"""Prepared statements do what the connection's own execution does, and less besides."""

from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import bindparam, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError

from models.engine import Database
from models.prepared import InOne, Prepared, among, tell
from models.states import InstanceState, Observed
from models.tables import instance_events, instances

pytest_plugins = ["tests.builders"]

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
COLUMNS = ("id", "name", "state", "epoch", "spec", "created_at", "updated_at")

_NEW = Prepared(insert(instances), *COLUMNS)
_OF = Prepared(select(instances).where(instances.c.id == bindparam("wanted")))
_RUNNING = Prepared(
    select(instances.c.name).where(instances.c.state.in_([InstanceState.RUNNING, InstanceState.PAUSED]))
)
_NAMED = Prepared(select(instances.c.name).where(among(instances.c.name, "names")).order_by(instances.c.name))
_RAISED = Prepared(update(instances).where(instances.c.epoch < bindparam("below")).values(epoch=7, wanted=None))


def values(name: str, **more: Any) -> dict[str, Any]:
    """An instance's."""
    new = {"id": uuid4(), "name": name, "state": InstanceState.RUNNING, "epoch": 1, "spec": {"ü": [1, None]}}
    return new | {"created_at": WHEN, "updated_at": WHEN} | more


def test_values_go_in_and_come_out_as_sqlalchemy_has_them(journal: Database) -> None:
    """UUIDs, enums, JSON, moments with their zone, and nothing at all."""
    new = values("a")
    with journal.write() as connection:
        assert _NEW.run(connection, new) == 1
        row = _OF.row(connection, {"wanted": new["id"]})
        by_sqlalchemy = connection.execute(select(instances)).one()
    assert row == tuple(by_sqlalchemy)
    assert (row.id, row.name, row.state, row.spec) == (new["id"], "a", InstanceState.RUNNING, {"ü": [1, None]})
    assert isinstance(row.id, UUID)
    assert isinstance(row.state, InstanceState)
    assert row.created_at == WHEN
    assert row.created_at.tzinfo is not None
    assert row.made_by is None


def test_a_statement_has_values_of_its_own(journal: Database) -> None:
    """Also several, as those of an IN."""
    with journal.write() as connection:
        written = [values("r"), values("p", state=InstanceState.PAUSED), values("s", state=InstanceState.STOPPED)]
        assert _NEW.run_each(connection, written) == 3
        assert {row.name for row in _RUNNING.rows(connection)} == {"r", "p"}
        assert _RAISED.run(connection, {"below": 2}) == 3
        assert _RAISED.run(connection, {"below": 2}) == 0


@pytest.mark.parametrize("names", [[], ["a"], ["a", "c", "it's; --"]])
def test_any_number_of_texts_is_one_value(journal: Database, names: list[str]) -> None:
    """And so it is one statement."""
    with journal.write() as connection:
        _NEW.run_each(connection, [values(name) for name in ("a", "b", "c")])
        assert [row.name for row in _NAMED.rows(connection, {"names": names})] == [name for name in names if name < "d"]


def test_what_is_written_goes_with_its_transaction(journal: Database) -> None:
    """It is the connection's."""

    def write_and_raise() -> None:
        with journal.write() as connection:
            _NEW.run(connection, values("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_raise()
    with journal.read() as connection:
        assert connection.execute(select(instances)).all() == []


def test_errors_are_those_of_sqlalchemy(journal: Database) -> None:
    """Whoever catches them catches these."""
    new = values("a")
    with pytest.raises(IntegrityError), journal.write() as connection:
        _NEW.run_each(connection, [new, new])
    with pytest.raises(StatementError), journal.write() as connection:
        _NEW.run(connection, new | {"created_at": "yesterday"})
    with pytest.raises(StatementError, match="wanted"), journal.write() as connection:
        _OF.row(connection)


def test_one_row_at_most_is_asked_for(journal: Database) -> None:
    """Two are a mistake of the statement's."""
    with journal.write() as connection:
        _NEW.run_each(connection, [values("a"), values("b")])
        with pytest.raises(LookupError, match="2 rows"):
            _RUNNING.row(connection)


def test_several_statements_are_written_in_one(journal: Database) -> None:
    """On PostgreSQL they are, and it makes no difference."""
    new = values("a")
    of_it = insert(instance_events).values(
        instance=bindparam("of"), host="h1", at=bindparam("then"), type=Observed.STOPPED, data=bindparam("why")
    )
    stopped = update(instances).where(instances.c.id == bindparam("of")).values(state=InstanceState.STOPPED)
    with journal.write() as connection:
        _NEW.run(connection, new)
        InOne(stopped, of_it).run(connection, {"of": new["id"], "then": WHEN, "why": {"reason": "itself"}})
        assert _OF.row(connection, {"wanted": new["id"]}).state is InstanceState.STOPPED
        assert connection.execute(select(instance_events.c.data)).scalar_one() == {"reason": "itself"}


def test_a_statement_that_depends_on_its_values_is_refused(journal: Database) -> None:
    """It would be another one each time."""
    depends = Prepared(select(instances.c.id).where(instances.c.name.in_(bindparam("names", expanding=True))))
    with journal.write() as connection, pytest.raises(TypeError, match="cannot be prepared"):
        depends.rows(connection, {"names": ["a"]})


@pytest.mark.real
def test_a_connection_that_was_lost_is_replaced(postgresql_journal: Database) -> None:
    """The transaction that meets it ends; the next one has another, however short the time between."""
    with closing(Database(postgresql_journal.url.render_as_string(hide_password=False))) as database:

        def lose_it() -> None:
            with database.write() as connection, postgresql_journal.write() as other:
                mine = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": mine})
                _RUNNING.rows(connection)

        with pytest.raises(OperationalError):
            lose_it()
        with database.read() as connection:
            assert _RUNNING.rows(connection) == []


@pytest.mark.real
def test_a_connection_that_lay_idle_is_proven_first(
    postgresql_journal: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was started anew in the meantime costs nobody a transaction."""
    monkeypatch.setattr("models.engine.PROVEN_FOR_S", 0.0)
    with closing(Database(postgresql_journal.url.render_as_string(hide_password=False))) as database:
        with database.read() as connection:
            mine = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with postgresql_journal.write() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": mine})
        with database.write() as connection:
            assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != mine


def test_a_word_to_the_driver_fails_as_sqlalchemy_does(sqlite_journal: Database) -> None:
    """A transaction that cannot begin is out of reach, not a defect."""
    with sqlite_journal.write() as connection, pytest.raises(OperationalError):
        tell(connection, "BEGIN IMMEDIATE")
