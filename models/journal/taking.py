"""Taking: what a claim writes once nothing stands in its way: sequence, epoch, job and steps."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Integer,
    String,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.dml import UpdateBase

from models.engine import now_in_database
from models.journal.events import APPENDED
from models.prepared import Listed, Prepared, Values
from models.records import JobRecord
from models.states import Direction, HostState, JobState, StepState
from models.tables import hosts, instances, job_events, jobs, steps

_RAISE_EPOCH = (
    update(instances)
    .where(instances.c.id == bindparam("of"))
    .values(epoch=bindparam("new_epoch"), updated_at=now_in_database())
)
_RAISE_SEQUENCE = (
    update(hosts)
    .where(
        hosts.c.name == bindparam("here"),
        hosts.c.worker == bindparam("claimant"),
        hosts.c.sequence >= bindparam("seen"),
        hosts.c.recovering_because.is_(None),
    )
    .values(sequence=hosts.c.sequence + 1)
    .returning(hosts.c.sequence)
)
_RAISE_SEQUENCE_TO_BEGIN = _RAISE_SEQUENCE.where(hosts.c.state != HostState.DRAINING)
_TAKEN: dict[str, Any] = {
    "state": JobState.RUNNING,
    "epoch": bindparam("new_epoch"),
    "owner": bindparam("claimant"),
    "not_before": None,
    "hopping": False,
}
_TAKE_AGAIN = update(jobs).where(jobs.c.id == bindparam("wanted")).values(_TAKEN).returning(jobs)
_TAKE_FIRST = (
    update(jobs)
    .where(jobs.c.id == bindparam("wanted"))
    .values(
        _TAKEN
        | {
            "started_at": now_in_database(),
            "operation_version": bindparam("new_version"),
            "home": bindparam("here"),
            "peer": bindparam("other_host"),
            "past_return": bindparam("only_forward"),
        }
    )
    .returning(jobs)
)
_STEPS_AGAIN = (
    update(steps)
    .where(steps.c.job == bindparam("wanted"), steps.c.run == bindparam("of_run"))
    .values(epoch=bindparam("new_epoch"))
)
_STEP_BEGUN = Prepared(
    insert(steps).values(state=StepState.PENDING, attempts=0, direction=Direction.DO),
    *("job", "run", "position", "name", "epoch"),
)


def _take_in_one(raise_sequence: UpdateBase, take: UpdateBase, also: UpdateBase) -> Prepared:
    """For PostgreSQL: the host's sequence, the instance's epoch, the job and what else is to be written, in one.

    Where the host may claim nothing there is no sequence, and the caller undoes what was written.
    """
    sequence = raise_sequence.cte("sequence")
    taken = take.cte("taken")
    event = (
        insert(job_events)
        .from_select(
            ["job", "run", "actor", "type", "data", "at"],
            select(
                taken.c.id,
                taken.c.run,
                bindparam("event_actor", type_=String),
                bindparam("event_type", type_=String),
                bindparam("event_data", type_=JSONB).op("||")(
                    func.jsonb_build_object(literal_column("'host_sequence'"), sequence.c.sequence)
                ),
                now_in_database(),
            ),
        )
        .cte("event")
    )
    number = select(sequence.c.sequence).scalar_subquery().label("host_sequence")
    shown = select(*(taken.c[each.key] for each in jobs.c), number)
    return Prepared(shown.add_cte(_RAISE_EPOCH.cte("raised"), also.cte("its_steps"), event))


def _steps_begun_in_one() -> UpdateBase:
    named = (
        func.unnest(
            cast(bindparam("positions", type_=Listed()), ARRAY(Integer)),
            cast(bindparam("names", type_=Listed()), ARRAY(String)),
        )
        .table_valued(column("at", Integer), column("name", String), name="named")
        .render_derived()
    )
    return insert(steps).from_select(
        ["job", "run", "direction", "position", "name", "state", "epoch", "attempts"],
        select(
            bindparam("wanted", type_=String),
            bindparam("of_run", type_=Integer),
            literal(Direction.DO.value),
            named.c.at,
            named.c.name,
            literal(StepState.PENDING.value),
            bindparam("new_epoch", type_=BigInteger),
            literal(0),
        ),
    )


_TAKE_FIRST_IN_ONE = _take_in_one(_RAISE_SEQUENCE_TO_BEGIN, _TAKE_FIRST, _steps_begun_in_one())
_TAKE_AGAIN_IN_ONE = _take_in_one(_RAISE_SEQUENCE, _TAKE_AGAIN, _STEPS_AGAIN)
_EPOCH_RAISED = Prepared(_RAISE_EPOCH)
_STEPS_TAKEN_AGAIN = Prepared(_STEPS_AGAIN)
#: For SQLite: the host's sequence and the job, at its first claim and at a later one.
_SEQUENCE_RAISED = {True: Prepared(_RAISE_SEQUENCE_TO_BEGIN), False: Prepared(_RAISE_SEQUENCE)}
_TAKEN_NOW = {True: Prepared(_TAKE_FIRST), False: Prepared(_TAKE_AGAIN)}


def take(connection: Connection, job: JobRecord, names: Sequence[str], values: Values) -> tuple[Any, int | None]:
    """Write the claim's own rows and its event; the job's row, and the host's sequence.

    There is no sequence where the host may claim nothing: then what was written must not stay. The event's data are
    among the values, but for the sequence.
    """
    first = job.state is JobState.QUEUED
    if connection.dialect.name == "postgresql":
        statement = _TAKE_FIRST_IN_ONE if first else _TAKE_AGAIN_IN_ONE
        named = {"positions": list(range(len(names))), "names": list(names)} if first else {}
        row = statement.row(connection, {**values, **named})
        return row, row.host_sequence
    raised = _SEQUENCE_RAISED[first].row(connection, values)
    if raised is None:
        return None, None
    _EPOCH_RAISED.run(connection, values)
    row = _TAKEN_NOW[first].row(connection, values)
    told = {**values["event_data"], "host_sequence": raised.sequence}
    APPENDED.run(connection, {**values, "event_data": told})
    if not first:
        _STEPS_TAKEN_AGAIN.run(connection, values)
    elif names:
        begun = {"job": job.id, "run": job.run, "epoch": values["new_epoch"]}
        _STEP_BEGUN.run_each(connection, [{**begun, "position": at, "name": name} for at, name in enumerate(names)])
    return row, raised.sequence
