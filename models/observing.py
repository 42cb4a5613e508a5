"""Observing: what a host was seen to show of its instances, beside what jobs made there.

An observation is written only where no job of the instance is begun, and under the epoch that it was made under: what
was seen before a job changed something never overwrites what the job made.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, exists, insert, or_, select, update

from models.engine import Database, now_in_database
from models.reading import devices_of_all
from models.records import Device, Json
from models.states import UNSETTLED, DriftKind, InstanceState, Observed
from models.tables import drift, instance_events, instances, jobs

#: An instance in such a state has no domain that it should have.
NOT_THERE = frozenset({InstanceState.ABSENT, InstanceState.DELETED})


@dataclass(frozen=True)
class Standing:
    """An instance as the journal has it, and whether a job has it in hand, or has set it aside."""

    id: UUID
    host: str | None
    state: InstanceState
    epoch: int
    busy: bool
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class Drift:
    """Something that host and journal tell differently; ``subject``: a domain's UUID, or ``UUID/alias`` of a device."""

    kind: DriftKind
    subject: str
    data: Json = field(default_factory=dict)


@dataclass(frozen=True)
class DriftRecord:
    """A row of drift: found at one moment, and gone at another, or still there."""

    host: str
    kind: DriftKind
    subject: str
    data: Json
    found_at: datetime


def standing(database: Database, *, host: str | None = None, ids: Iterable[UUID] = ()) -> Mapping[UUID, Standing]:
    """The instances that live on the host, and these wherever they live."""
    busy = exists().where(jobs.c.instance == instances.c.id, jobs.c.state.in_(UNSETTLED))
    wanted: ColumnElement[bool] = instances.c.id.in_(list(ids))
    if host is not None:
        wanted = or_(wanted, and_(instances.c.host == host, instances.c.state.not_in(NOT_THERE)))
    with database.read() as connection:
        rows = connection.execute(select(instances, busy.label("busy")).where(wanted)).all()
        theirs = devices_of_all(connection, [row.id for row in rows])
    return {row.id: Standing(row.id, row.host, row.state, row.epoch, row.busy, theirs.get(row.id, ())) for row in rows}


def power_changed(database: Database, seen: Standing, state: InstanceState, data: Json) -> bool:
    """Record that the instance came to that state by itself; False if a job has it, or had it since it was read."""
    busy = exists().where(jobs.c.instance == seen.id, jobs.c.state.in_(UNSETTLED))
    with database.write() as connection:
        written = connection.execute(
            update(instances)
            .where(instances.c.id == seen.id, instances.c.epoch == seen.epoch, instances.c.host == seen.host, ~busy)
            .values(state=state, updated_at=now_in_database())
        )
        if written.rowcount != 1:
            return False
        _event(connection, seen, Observed(state.value), {"from": seen.state.value, **data})
        return True


def happened(database: Database, seen: Standing, what: Observed, data: Json) -> None:
    """Record what happened to the instance without changing its state."""
    with database.write() as connection:
        _event(connection, seen, what, data)


def drifted(database: Database, host: str, found: Iterable[Drift]) -> tuple[list[Drift], list[DriftRecord]]:
    """Have the host's open drift be this: what is new of it, and what is gone."""
    wanted = {(each.kind, each.subject): each for each in found}
    with database.write() as connection:
        rows = connection.execute(
            select(drift).where(drift.c.host == host, drift.c.gone_at.is_(None)).with_for_update()
        ).all()
        known = {(row.kind, row.subject): row for row in rows}
        gone = [row for key, row in known.items() if key not in wanted]
        new = [each for key, each in wanted.items() if key not in known]
        if gone:
            numbers = [row.number for row in gone]
            connection.execute(update(drift).where(drift.c.number.in_(numbers)).values(gone_at=now_in_database()))
        for each in new:
            connection.execute(
                insert(drift).values(
                    host=host, kind=each.kind, subject=each.subject, data=dict(each.data), found_at=now_in_database()
                )
            )
        return new, [_record(row) for row in gone]


def list_drift(database: Database, *, host: str | None = None) -> list[DriftRecord]:
    """What host and journal tell differently now, oldest first."""
    query = select(drift).where(drift.c.gone_at.is_(None)).order_by(drift.c.number)
    if host is not None:
        query = query.where(drift.c.host == host)
    with database.read() as connection:
        return [_record(row) for row in connection.execute(query)]


@dataclass(frozen=True)
class InstanceEvent:
    """One line of what happened to an instance by itself."""

    at: datetime
    host: str
    type: Observed
    data: Json


def events_of(database: Database, instance: UUID, limit: int = 50) -> list[InstanceEvent]:
    """What happened to the instance by itself, the newest ``limit``, oldest first."""
    query = (
        select(instance_events)
        .where(instance_events.c.instance == instance)
        .order_by(instance_events.c.number.desc())
        .limit(limit)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [InstanceEvent(row.at, row.host, row.type, row.data) for row in reversed(rows)]


def _event(connection: Connection, seen: Standing, what: Observed, data: Json) -> None:
    connection.execute(
        insert(instance_events).values(
            instance=seen.id, host=seen.host, type=what, data=dict(data), at=now_in_database()
        )
    )


def _record(row: Any) -> DriftRecord:  # noqa: ANN401  # a row of drift
    return DriftRecord(row.host, row.kind, row.subject, row.data, row.found_at)
