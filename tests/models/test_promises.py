"""The database itself refuses what the journal promises never to write, however the schema was reached."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Enum, Table, insert, inspect, literal_column, select, text, update
from sqlalchemy.exc import IntegrityError

import migrations
from models.engine import Database, UtcDateTime
from models.states import FINAL, FINAL_EVENTS, JOB_MOVES, UNSETTLED, JobState
from models.tables import (
    devices,
    drift,
    hosts,
    instance_events,
    instances,
    job_events,
    jobs,
    metadata,
    outbox,
    recoveries,
    runs,
    step_attempts,
    steps,
    withheld_parts,
    workers,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INSTANCE, OTHER_INSTANCE, WORKER = UUID(int=1), UUID(int=2), UUID(int=3)

#: A row of each table that any database takes, parents first.
ROWS: dict[Table, dict[str, Any]] = {
    hosts: {
        "name": "h1",
        "machine_id": "m",
        "libvirt_host_uuid": UUID(int=9),
        "libvirt_uri": "test:///",
        "state": "enabled",
        "sequence": 5,
        "registered_at": NOW,
        "seen_at": NOW,
    },
    workers: {"id": WORKER, "host": "h1", "pid": 1, "version": "0", "started_at": NOW, "heartbeat_at": NOW},
    instances: {"id": INSTANCE, "state": "absent", "epoch": 5, "created_at": NOW, "updated_at": NOW},
    devices: {"instance": INSTANCE, "kind": "disk", "key": "root", "details": {}},
    jobs: {
        "id": "a",
        "operation": "spawn",
        "job_class": "spawn",
        "instance": INSTANCE,
        "host": "h1",
        "sent_to": "h1",
        "request": {},
        "payload_digest": "d",
        "state": "queued",
        "run": 1,
        "epoch": 5,
        "past_return": False,
        "waits": 0,
        "submitted_at": NOW,
    },
    runs: {"job": "a", "number": 1, "state": "queued", "submitted_at": NOW},
    steps: {
        "job": "a",
        "run": 1,
        "direction": "do",
        "position": 0,
        "name": "First",
        "state": "pending",
        "epoch": 5,
        "attempts": 0,
    },
    step_attempts: {
        "job": "a",
        "run": 1,
        "direction": "do",
        "position": 0,
        "number": 1,
        "epoch": 5,
        "worker": WORKER,
        "outcome": "started",
        "started_at": NOW,
    },
    job_events: {"job": "a", "run": 1, "at": NOW, "actor": "test", "type": "submitted", "data": {}},
    outbox: {"job": "a", "run": 1, "kind": "ring", "host": "h1", "created_at": NOW, "tries": 0},
    instance_events: {"instance": INSTANCE, "host": "h1", "at": NOW, "type": "stopped", "data": {}},
    drift: {"host": "h1", "kind": "missing", "subject": "b", "data": {}, "found_at": NOW},
    withheld_parts: {"job": "a", "parts": {"user_data": "#cloud-config"}},
    recoveries: {"host": "h1", "because": "restored", "begun_at": NOW, "ended_at": NOW},
}


def put(connection: Connection, table: Table, **values: object) -> None:
    """Add a row of the table."""
    connection.execute(insert(table).values(**(ROWS[table] | values)))


def put_all(connection: Connection, **values: dict[str, Any]) -> None:
    """Add a row of every table, with some values changed by the table's name."""
    for table in ROWS:
        put(connection, table, **values.get(table.name, {}))


def run(connection: Connection, statement: str) -> None:
    """Execute raw SQL."""
    connection.execute(text(statement))


# --- for each promise: what must be refused once a row of each table is there


def _second_unsettled_job(connection: Connection) -> None:
    run(connection, "UPDATE jobs SET state = 'running'")
    put(connection, jobs, id="b", state="waiting")


def _job_of_the_same_id(connection: Connection) -> None:
    put(connection, jobs, instance=INSTANCE)


def _second_final_event(connection: Connection) -> None:
    put(connection, job_events, type="failed")
    put(connection, job_events, type="cancelled")


def _step_named_twice(connection: Connection) -> None:
    put(connection, steps, position=1)


def _volume_of_two_instances(connection: Connection) -> None:
    put(connection, instances, id=OTHER_INSTANCE)
    for instance in (INSTANCE, OTHER_INSTANCE):
        put(connection, devices, instance=instance, kind="volume", key="v", exclusive="volume:v")


def _place_of_two_volumes(connection: Connection) -> None:
    for key in ("v", "w"):
        put(connection, devices, kind="volume", key=key, exclusive=f"volume:{key}", place="nbd://storage:10809/disk")


def _same_drift_twice(connection: Connection) -> None:
    for _ in range(2):
        put(connection, drift, kind="missing", subject="a")


def _two_recoveries_at_once(connection: Connection) -> None:
    for _ in range(2):
        put(connection, recoveries, ended_at=None)


def _settled_job_written(connection: Connection) -> None:
    run(connection, "UPDATE jobs SET state = 'cancelled'")
    run(connection, "UPDATE jobs SET waits = 1")


def _run_skipped(connection: Connection) -> None:
    run(connection, "UPDATE jobs SET state = 'cancelled'")
    run(connection, "UPDATE jobs SET run = 3, state = 'queued'")


def _begun_never_claimed(connection: Connection) -> None:
    run(connection, "UPDATE jobs SET state = 'waiting'")


def _job_became_another(connection: Connection) -> None:
    run(connection, "UPDATE jobs SET payload_digest = 'another'")


def _settled_run_written(connection: Connection) -> None:
    run(connection, "UPDATE runs SET state = 'failed'")
    run(connection, "UPDATE runs SET outcome = '{}'")


def _retried_tombstone(connection: Connection) -> None:
    run(connection, "UPDATE jobs SET state = 'cancelled'")
    run(connection, "UPDATE jobs SET pruned_at = '2026-01-01', request = '{}'")
    run(connection, "UPDATE jobs SET run = 2, state = 'queued'")


def _forgotten_job(connection: Connection) -> None:
    run(connection, "UPDATE jobs SET state = 'cancelled'")
    run(connection, "DELETE FROM job_events")
    run(connection, "DELETE FROM jobs")


def _sql(statement: str) -> Callable[[Connection], None]:
    return lambda connection: run(connection, statement)


#: By the name of an index or trigger: what only it refuses.
REFUSED: dict[str, Callable[[Connection], None]] = {
    "uq_jobs_one_unsettled_per_instance": _second_unsettled_job,
    "uq_jobs_id": _job_of_the_same_id,
    "uq_job_events_one_final_per_run": _second_final_event,
    "uq_steps_name_once_per_run": _step_named_twice,
    "uq_devices_exclusive": _volume_of_two_instances,
    "uq_devices_place": _place_of_two_volumes,
    "uq_drift_once_while_open": _same_drift_twice,
    "uq_recoveries_one_open_per_host": _two_recoveries_at_once,
    "jobs_final_is_final": _settled_job_written,
    "jobs_new_run_from_final": _run_skipped,
    "jobs_states_move_as_named": _begun_never_claimed,
    "jobs_epoch_only_grows": _sql("UPDATE jobs SET epoch = 4"),
    "jobs_stay_what_they_are": _job_became_another,
    "jobs_tombstones_stay": _retried_tombstone,
    "jobs_pruned_once_settled": _sql("UPDATE jobs SET pruned_at = '2026-01-01'"),
    "jobs_are_never_forgotten": _forgotten_job,
    "instances_epoch_only_grows": _sql("UPDATE instances SET epoch = 4"),
    "hosts_sequence_only_grows": _sql("UPDATE hosts SET sequence = 4"),
    "steps_epoch_only_grows": _sql("UPDATE steps SET epoch = 4"),
    "runs_final_is_final": _settled_run_written,
    "job_events_never_change": _sql("UPDATE job_events SET actor = 'somebody else'"),
    "job_events_stay_while_open": _sql("DELETE FROM job_events"),
}
#: Indexes that make something quick and promise nothing.
#: It refuses nothing: it drops what a final job's request withholds.
DROPS = "withheld_parts_end_with_their_job"
FOR_SPEED = {
    "ix_instances_host",
    "ix_jobs_instance_number",
    "ix_jobs_open_by_host",
    "ix_jobs_prunable",
    "ix_workers_host",
    "ix_job_events_job",
    "ix_outbox_unpublished",
    "ix_instance_events_instance",
}
#: What SQLite says of a unique index; it never names it.
SQLITE_SAYS = {
    "uq_jobs_one_unsettled_per_instance": "UNIQUE constraint failed: jobs.instance",
    "uq_jobs_id": "UNIQUE constraint failed: jobs.id",
    "uq_job_events_one_final_per_run": "UNIQUE constraint failed: job_events.job, job_events.run",
    "uq_steps_name_once_per_run": "UNIQUE constraint failed: steps.job, steps.run, steps.direction, steps.name",
    "uq_devices_exclusive": "UNIQUE constraint failed: devices.exclusive",
    "uq_devices_place": "UNIQUE constraint failed: devices.place",
    "uq_recoveries_one_open_per_host": "UNIQUE constraint failed: recoveries.host",
    "uq_drift_once_while_open": "UNIQUE constraint failed: drift.host, drift.kind, drift.subject",
}


@pytest.fixture(scope="module", params=["upgraded", "upgraded-downgraded-upgraded"])
def way(request: pytest.FixtureRequest) -> str:
    """How the schema was reached; never by create_all."""
    return str(request.param)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def promised(request: pytest.FixtureRequest, way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database at the head revision, empty; what a test writes there is rolled back."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('promised') / 'journal.db'}"
    else:
        url = request.getfixturevalue("postgres_server").create_database()
    database = Database(url)
    migrations.upgrade(database)
    if way == "upgraded-downgraded-upgraded":
        migrations.downgrade(database, "base")
        migrations.upgrade(database)
    yield database
    database.close()


@contextmanager
def trial(database: Database) -> Iterator[Connection]:
    """A transaction that never comes to anything."""
    with database.engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


@contextmanager
def refused(database: Database, name: str) -> Iterator[None]:
    """The database refuses what is done inside, and names the index or trigger."""
    said = SQLITE_SAYS.get(name, name) if database.backend == "sqlite" else name
    with pytest.raises(IntegrityError) as error:
        yield
    assert said in str(error.value.orig)


def _triggers(database: Database) -> dict[str, str]:
    query = (
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'"
        if database.backend == "sqlite"
        else "SELECT tgname, relname FROM pg_trigger JOIN pg_class ON tgrelid = pg_class.oid WHERE NOT tgisinternal"
    )
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(text(query))}


def _indexes(database: Database) -> set[str]:
    inspector = inspect(database.engine)
    named = [
        one["name"]
        for table in inspector.get_table_names()
        for one in (*inspector.get_indexes(table), *inspector.get_unique_constraints(table))
    ]
    return {name for name in named if name is not None}


def _take_away(connection: Connection, database: Database, name: str) -> None:
    table = _triggers(database).get(name)
    if table is None:
        run(connection, f"DROP INDEX {name}")
    else:
        run(connection, f"DROP TRIGGER {name}" + (f" ON {table}" if database.backend == "postgresql" else ""))


def test_every_trigger_and_index_in_the_database_is_tried_here(promised: Database) -> None:
    """A trigger or an index that nobody tries to violate would be a promise on paper."""
    assert set(_triggers(promised)) | _indexes(promised) == set(REFUSED) | FOR_SPEED | {DROPS}


@pytest.mark.parametrize("state", sorted(FINAL | {JobState.WAITING, JobState.QUARANTINED}))
def test_what_a_request_withholds_is_dropped_by_the_database(promised: Database, state: JobState) -> None:
    """Whoever makes the job final, with whichever statement; and by that trigger alone."""
    job = ROWS[jobs]["id"]
    for taken_away in (False, True):
        with trial(promised) as connection:
            put_all(connection, jobs={"state": JobState.RUNNING})
            if taken_away:
                _take_away(connection, promised, DROPS)
            connection.execute(update(jobs).where(jobs.c.id == job).values(state=state))
            left = connection.execute(select(withheld_parts.c.job)).all()
            assert bool(left) == (taken_away or state not in FINAL)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_the_database_refuses_what_breaks_a_promise(promised: Database, name: str) -> None:
    """Raw SQL that breaks the promise is refused by the index or trigger of that name."""
    with trial(promised) as connection:
        put_all(connection)
        with refused(promised, name):
            REFUSED[name](connection)


@pytest.mark.parametrize("name", sorted(set(REFUSED) - {"uq_jobs_id"}))
def test_nothing_else_refuses_it(promised: Database, name: str) -> None:
    """With the index or trigger taken away the same statements pass, so it is that one which keeps the promise."""
    with trial(promised) as connection:
        put_all(connection)
        _take_away(connection, promised, name)
        REFUSED[name](connection)


@pytest.mark.parametrize(
    ("one", "other"), list(product(sorted(UNSETTLED), repeat=2)), ids=lambda state: str(state.value)
)
def test_an_instance_has_one_unsettled_job(promised: Database, one: JobState, other: JobState) -> None:
    """Running, waiting and quarantined jobs each keep every other such job of their instance out."""
    with trial(promised) as connection:
        put_all(connection, jobs={"state": one})
        with refused(promised, "uq_jobs_one_unsettled_per_instance"):
            put(connection, jobs, id="b", state=other)


def test_jobs_that_are_not_begun_or_settled_do_not_hold_their_instance(promised: Database) -> None:
    """Beside an unsettled job any number of queued and settled ones may stand, and other instances have their own."""
    with trial(promised) as connection:
        put_all(connection, jobs={"state": "running"})
        for number, state in enumerate([JobState.QUEUED, JobState.QUEUED, *sorted(FINAL), *sorted(FINAL)]):
            put(connection, jobs, id=f"b{number}", state=state)
        put(connection, instances, id=OTHER_INSTANCE)
        put(connection, jobs, id="c", instance=OTHER_INSTANCE, state="running")


def test_a_job_moves_only_as_the_vocabulary_says(promised: Database) -> None:
    """Of all pairs of states exactly those in JOB_MOVES follow each other; no settled state is left."""
    passed = set()
    for before, after in product(JobState, repeat=2):
        with trial(promised) as connection:
            put_all(connection, jobs={"state": before})
            try:
                connection.execute(text("UPDATE jobs SET state = :after"), {"after": after.value})
            except IntegrityError as error:
                assert "jobs_states_move_as_named" in str(error) or "jobs_final_is_final" in str(error)  # noqa: PT017
            else:
                passed.add((before, after))
    moves = {(before, after) for before, afters in JOB_MOVES.items() for after in afters}
    staying = {(state, state) for state in set(JobState) - FINAL}
    assert passed == moves | staying


@pytest.mark.parametrize("column", ["id", "number", "instance", "operation", "payload_digest"])
def test_a_job_stays_what_it_is(promised: Database, column: str) -> None:
    """Neither the id nor the number, instance, operation or payload of a job can be changed."""
    other = {"number": "number + 1", "instance": f"'{OTHER_INSTANCE.hex}'"}.get(column, "'other'")
    with trial(promised) as connection:
        put(connection, instances)
        put(connection, instances, id=OTHER_INSTANCE)
        put(connection, jobs)
        with refused(promised, "jobs_stay_what_they_are"):
            connection.execute(update(jobs).values({column: literal_column(other)}))


def test_a_job_has_another_place_in_the_line_only_with_a_new_run_and_only_further_back(promised: Database) -> None:
    """It never gets before a job that was submitted earlier."""
    with trial(promised) as connection:
        put_all(connection, jobs={"state": JobState.FAILED})
        run(connection, "UPDATE jobs SET run = run + 1, state = 'queued', number = number + 1")
        run(connection, "UPDATE jobs SET state = 'cancelled'")
        with refused(promised, "jobs_stay_what_they_are"):
            run(connection, "UPDATE jobs SET run = run + 1, state = 'queued', number = number - 1")


@pytest.mark.parametrize("state", sorted(FINAL), ids=str)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET error = '{}'",
        "UPDATE jobs SET host = 'h2'",
        "UPDATE jobs SET state = 'running'",
        "UPDATE jobs SET state = 'queued'",
    ],
)
def test_final_is_final(promised: Database, state: JobState, statement: str) -> None:
    """A settled job's row is not written again, not even into the state of another try."""
    with trial(promised) as connection:
        put_all(connection, jobs={"state": state})
        with pytest.raises(IntegrityError, match=r"jobs_final_is_final|jobs_states_move_as_named"):
            run(connection, statement)


@pytest.mark.parametrize("state", sorted(FINAL), ids=str)
def test_a_new_run_may_begin_from_a_settled_job(promised: Database, state: JobState) -> None:
    """The one way out of a settled state: queued, in the next run."""
    with trial(promised) as connection:
        put_all(connection, jobs={"state": state})
        run(connection, "UPDATE jobs SET run = 2, state = 'queued'")


@pytest.mark.parametrize(
    ("before", "statement"),
    [
        ("failed", "UPDATE jobs SET run = 2, state = 'running'"),
        ("failed", "UPDATE jobs SET run = 0, state = 'queued'"),
        ("running", "UPDATE jobs SET run = 2, state = 'queued'"),
        ("quarantined", "UPDATE jobs SET run = 2, state = 'queued'"),
    ],
)
def test_a_new_run_begins_queued_and_after_a_settled_one(promised: Database, before: str, statement: str) -> None:
    """A run cannot be skipped, taken back, begun running, or begun while another one is open."""
    with trial(promised) as connection:
        put_all(connection, jobs={"state": before})
        with refused(promised, "jobs_new_run_from_final"):
            run(connection, statement)


@pytest.mark.parametrize("column", [column.name for column in jobs.columns if column.name != "pruned_at"])
def test_a_pruning_changes_nothing_but_the_request_and_the_canvas(promised: Database, column: str) -> None:
    """Not even in the statement that makes a tombstone of the job."""
    other: dict[str, Any] = {
        **dict.fromkeys(("instance", "owner"), OTHER_INSTANCE),
        **dict.fromkeys(("hopping", "past_return"), True),
        **dict.fromkeys(("number", "operation_version", "run", "epoch", "waits"), 77),
        **{key: {"something": "else"} for key in ("request", "canvas", "error", "outcome", "progress")},
        "verdict": "failed",
        "state": "failed",
    }
    kind = jobs.c[column].type
    value = other.get(column, NOW.replace(year=2030) if isinstance(kind, UtcDateTime) else "other")
    with trial(promised) as connection:
        put_all(connection, jobs={"state": "succeeded"})
        put(connection, instances, id=OTHER_INSTANCE)
        pruning = update(jobs).values({"pruned_at": NOW, column: value})
        if column in {"request", "canvas"}:
            connection.execute(pruning)
        else:
            with pytest.raises(IntegrityError):
                connection.execute(pruning)


def test_epochs_and_sequences_may_grow(promised: Database) -> None:
    """The triggers stand in the way of going back alone."""
    with trial(promised) as connection:
        put_all(connection)
        for statement in (
            "UPDATE jobs SET epoch = 6",
            "UPDATE jobs SET epoch = 6, waits = 1",
            "UPDATE instances SET epoch = 7",
            "UPDATE hosts SET sequence = 6",
            "UPDATE steps SET epoch = 6",
        ):
            run(connection, statement)


@pytest.mark.parametrize(("one", "other"), list(product(sorted(FINAL_EVENTS), repeat=2)), ids=str)
def test_a_run_has_one_final_event(promised: Database, one: str, other: str) -> None:
    """Whatever settled a run, nothing settles it again; another run has a final event of its own."""
    with trial(promised) as connection:
        put_all(connection)
        put(connection, job_events, type=one)
        put(connection, job_events, type=other, run=2)
        with refused(promised, "uq_job_events_one_final_per_run"):
            put(connection, job_events, type=other)


def test_a_step_has_one_row_in_each_direction(promised: Database) -> None:
    """The same name may stand once in each direction and in each run."""
    with trial(promised) as connection:
        put_all(connection)
        put(connection, steps, direction="undo")
        put(connection, runs, number=2)
        put(connection, steps, run=2)
        with refused(promised, "uq_steps_name_once_per_run"):
            put(connection, steps, direction="undo", position=1)


@pytest.mark.parametrize("state", list(JobState), ids=str)
def test_history_is_kept_until_the_job_is_settled(promised: Database, state: JobState) -> None:
    """Events of a settled job may be archived; those of any other job stay."""
    with trial(promised) as connection:
        put_all(connection, jobs={"state": state})
        if state in FINAL:
            run(connection, "DELETE FROM job_events")
        else:
            with refused(promised, "job_events_stay_while_open"):
                run(connection, "DELETE FROM job_events")


def _words() -> list[Any]:
    return [
        pytest.param(table, column.name, column.type, id=f"{table.name}.{column.name}")
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, Enum)
    ]


def _tables_with(table: Table, column: str) -> tuple[str, ...]:
    """The table; a direction is part of a foreign key, so that it stands in two."""
    return ("steps", "step_attempts") if column == "direction" else (table.name,)


@pytest.mark.parametrize(("table", "column", "kind"), [*_words()])
def test_what_is_stored_is_the_value_of_a_word(promised: Database, table: Table, column: str, kind: Enum) -> None:
    """Not the name of the enum's member: indexes and triggers are written in values."""
    assert kind.enum_class is not None
    for member in kind.enum_class:
        with trial(promised) as connection:
            put_all(connection, **{name: {column: member} for name in _tables_with(table, column)})
            stored: str = connection.execute(select(literal_column(column)).select_from(table)).scalar_one()
            assert stored == member.value


@pytest.mark.parametrize(("table", "column", "kind"), [word for word in _words() if word.values[2].create_constraint])
def test_a_closed_vocabulary_is_closed(promised: Database, table: Table, column: str, kind: Enum) -> None:
    """The database takes no other word for a state, a verdict or a direction, and no member's name."""
    with trial(promised) as connection, refused(promised, f"ck_{table.name}_{kind.name}"):
        put_all(connection, **{table.name: {column: literal_column("'RUNNING'")}})
