"""Recovering: holding a host whose database went back in time, until an operator has the journal told again.

``begin`` holds it, ``publish`` writes what its worker would change, ``ask`` is an operator's word for just that, and
`models.journal.repairing` does it and lets the host go. Meanwhile requests are accepted, and no job of the host is
claimed; runs that were begun are fenced off, for what they would write belongs to another history.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, insert, select, update

from models.engine import Database, now_in_database
from models.journal.asking import Answer, Asked
from models.records import Json
from models.states import JobState
from models.tables import hosts, instances, jobs, recoveries


@dataclass(frozen=True)
class Recovery:
    """A host's recovery: why, what would be changed, and what an operator said to that."""

    number: int
    host: str
    because: str
    begun_at: datetime
    plan: Json | None  #: None while the worker is still looking
    digest: str | None
    planned_at: datetime | None
    wanted: str | None  #: the digest of the plan that an operator wants applied
    wanted_by: str | None
    wanted_because: str | None
    refusal: str | None
    ended_at: datetime | None


def begin(database: Database, host: str, because: str) -> None:
    """Hold the host, and fence off what runs there; one that is held already stays so, for its first reason."""
    with database.write() as connection:
        running = select(jobs.c.instance).where(jobs.c.host == host, jobs.c.state == JobState.RUNNING)
        # In the order of every claim: instances, their jobs, the host.
        connection.execute(
            select(instances.c.id).where(instances.c.id.in_(running)).order_by(instances.c.id).with_for_update()
        )
        connection.execute(update(jobs).where(jobs.c.host == host, jobs.c.state == JobState.RUNNING).values(owner=None))
        connection.execute(
            update(hosts)
            .where(hosts.c.name == host, hosts.c.recovering_because.is_(None))
            .values(recovering_because=because, recovering_since=now_in_database())
        )
        if _open(connection, host) is None:
            connection.execute(insert(recoveries).values(host=host, because=because, begun_at=now_in_database()))


@dataclass(frozen=True)
class HostClaims:
    """How far the database knows of a host's claims."""

    sequence: int
    worker: UUID | None
    recovering_because: str | None


def claims_of(database: Database, host: str) -> HostClaims | None:
    """What the database has of the host now; None if it does not know it."""
    query = select(hosts.c.sequence, hosts.c.worker, hosts.c.recovering_because).where(hosts.c.name == host)
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
        return None if row is None else HostClaims(*row)


def open_recovery(database: Database, host: str) -> Recovery | None:
    """The host's recovery under way."""
    with database.read() as connection:
        return _open(connection, host)


def recovery(database: Database, number: int) -> Recovery | None:
    """The recovery, ended or not."""
    with database.read() as connection:
        row = connection.execute(select(recoveries).where(recoveries.c.number == number)).one_or_none()
        return None if row is None else Recovery(**row._mapping)  # noqa: SLF001  # SQLAlchemy's name for it


def publish(database: Database, number: int, plan: Json, digest: str) -> None:
    """Write what the worker would change."""
    with database.write() as connection:
        connection.execute(
            update(recoveries)
            .where(recoveries.c.number == number, recoveries.c.ended_at.is_(None))
            .values(plan=dict(plan), digest=digest, planned_at=now_in_database())
        )


def ask(database: Database, host: str, digest: str, asked: Asked) -> Answer:
    """An operator's word that the plan of this digest is to be applied."""
    with database.write() as connection:
        found = _open(connection, host)
        if found is None:
            return Answer(taken=False, sentence=f"host {host} is not in recovery.")
        if found.digest != digest:
            return Answer(taken=False, sentence="what is to be changed is not what was shown: look again.")
        connection.execute(
            update(recoveries)
            .where(recoveries.c.number == found.number)
            .values(wanted=digest, wanted_by=asked.actor, wanted_because=asked.reason, refusal=None)
        )
        return Answer(taken=True, sentence=f"the worker of {host} applies it.")


def refuse(database: Database, number: int, why: str) -> None:
    """Say why what an operator wanted was not done."""
    with database.write() as connection:
        connection.execute(update(recoveries).where(recoveries.c.number == number).values(wanted=None, refusal=why))


def _open(connection: Connection, host: str) -> Recovery | None:
    row = connection.execute(
        select(recoveries).where(recoveries.c.host == host, recoveries.c.ended_at.is_(None))
    ).one_or_none()
    return None if row is None else Recovery(**row._mapping)  # noqa: SLF001  # SQLAlchemy's name for it
