"""Repairing: telling the journal again what it has forgotten, in one commit, and letting the host go.

Told again are runs that ended and what instances were left as, by the word of the host's ledger. Epochs are raised
above all that were seen, and so is the host sequence: what was begun under any of them writes nothing more.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from models.engine import Database, now_in_database
from models.journal.asking import Asked
from models.journal.deciding import NEW_RUN
from models.journal.events import record_event
from models.journal.settling import end
from models.reading import devices_of_all, instance_from_row, job_from_row
from models.records import Ending, ErrorRecord, InstanceRecord
from models.states import FINAL, UNSETTLED, ErrorClass, EventType, InstanceState, JobState, StepState
from models.tables import devices, hosts, instances, jobs, recoveries, runs, steps

#: So many keys in one query: SQLite takes 32,766 values, PostgreSQL 65,535.
_AT_ONCE: Final = 500
_NOT_THERE: Final = (InstanceState.ABSENT, InstanceState.DELETED)


@dataclass(frozen=True)
class KnownJob:
    """What the journal has of a job."""

    id: str
    operation: str
    instance: UUID
    state: JobState
    run: int
    epoch: int
    payload_digest: str


@dataclass(frozen=True)
class Known:
    """What the journal has of a host, and of the jobs and instances that were asked for."""

    jobs: Mapping[str, KnownJob]
    instances: Mapping[UUID, InstanceRecord]
    open_jobs: tuple[KnownJob, ...]  #: of the host: not ended
    living: frozenset[UUID]  #: instances that live on the host
    sequence: int


@dataclass(frozen=True)
class Repairs:
    """What is to be told again."""

    endings: tuple[Ending, ...] = ()  #: in the order that the runs ended
    instances: tuple[InstanceRecord, ...] = ()
    epochs: Mapping[UUID, int] = field(default_factory=dict)  #: the highest that was seen of each
    sequence: int = 0  #: the highest that was seen


def known(database: Database, host: str, ids: Collection[str], of: Collection[UUID]) -> Known:
    """Read it, all at one moment on SQLite."""
    with database.read() as connection:
        unended = select(jobs).where(jobs.c.host == host, jobs.c.state.not_in(FINAL)).order_by(jobs.c.number)
        lives = select(instances.c.id).where(instances.c.host == host, instances.c.state.not_in(_NOT_THERE))
        living = frozenset(connection.execute(lives).scalars())
        open_jobs = tuple(map(_known_job, connection.execute(unended)))
        found = {
            row.id: _known_job(row)
            for some in _some(sorted(ids))
            for row in connection.execute(select(jobs).where(jobs.c.id.in_(some)))
        }
        sequence = connection.execute(select(hosts.c.sequence).where(hosts.c.name == host)).scalar_one()
        records = {}
        for some in _some(sorted(living | set(of) | {job.instance for job in open_jobs})):
            theirs = devices_of_all(connection, some)
            for row in connection.execute(select(instances).where(instances.c.id.in_(some))).all():
                records[row.id] = instance_from_row(row, theirs.get(row.id, ()))
        return Known(found, records, open_jobs, living, sequence)


def repair(database: Database, number: int, host: str, repairs: Repairs, asked: Asked) -> tuple[int, list[str]]:
    """Tell the journal again, and end the host's recovery of that number, in one commit.

    Returned is the host sequence from here on, and a sentence for each thing that could not be told.
    """
    with database.write() as connection:
        left: list[str] = []
        epochs = _raise_epochs(connection, repairs)
        left += _tell_instances(connection, repairs.instances)
        newest = {ending.job: ending for ending in repairs.endings}
        for ending in repairs.endings:
            row = connection.execute(select(jobs).where(jobs.c.id == ending.job).with_for_update()).one_or_none()
            if row is not None:
                left += _tell_ending(connection, row, ending, epochs[ending.instance_id], asked)
            elif ending is newest[ending.job]:
                _leave_tombstone(connection, ending)
        sequence = connection.execute(select(hosts.c.sequence).where(hosts.c.name == host).with_for_update())
        raised = max(sequence.scalar_one(), repairs.sequence) + 1
        connection.execute(
            update(hosts)
            .where(hosts.c.name == host)
            .values(sequence=raised, recovering_because=None, recovering_since=None)
        )
        connection.execute(
            update(recoveries)
            .where(recoveries.c.number == number)
            .values(ended_at=now_in_database(), refusal="\n".join(left) or None)
        )
        return raised, left


def _raise_epochs(connection: Connection, repairs: Repairs) -> dict[UUID, int]:
    """Have each instance's epoch above all that were seen of it; those that are not there yet are made."""
    seen = dict(repairs.epochs)
    for record in repairs.instances:
        seen[record.id] = max(record.epoch, seen.get(record.id, 0))
    for ending in repairs.endings:
        seen[ending.instance_id] = max(ending.epoch, seen.get(ending.instance_id, 0))
    there: dict[UUID, int] = {}
    for some in _some(sorted(seen)):
        query = select(instances.c.id, instances.c.epoch).where(instances.c.id.in_(some)).order_by(instances.c.id)
        there |= {row.id: row.epoch for row in connection.execute(query.with_for_update())}
    epochs = {}
    for instance, mark in sorted(seen.items()):
        epochs[instance] = max(mark, there.get(instance, 0)) + 1
        now = {"epoch": epochs[instance], "updated_at": now_in_database()}
        if instance in there:
            connection.execute(update(instances).where(instances.c.id == instance).values(now))
        else:
            new = {"id": instance, "state": InstanceState.ABSENT, "created_at": now_in_database()}
            connection.execute(insert(instances).values(now | new))
    return epochs


def _tell_instances(connection: Connection, records: Sequence[InstanceRecord]) -> list[str]:
    """Have the instances be that; what another one has of what a device may only have once is left out, and said."""
    left = []
    for some in _some([record.id for record in records]):
        connection.execute(delete(devices).where(devices.c.instance.in_(some)))
    for record in records:
        connection.execute(
            update(instances)
            .where(instances.c.id == record.id)
            .values(
                name=record.name,
                host=record.host,
                state=record.state,
                wanted=record.wanted,
                spec=None if record.spec is None else dict(record.spec),
                made_by=record.made_by,
            )
        )
        for device in record.devices:
            values = vars(device) | {"instance": record.id, "details": dict(device.details)}
            try:
                with connection.begin_nested():
                    connection.execute(insert(devices).values(values))
            except IntegrityError:
                left.append(
                    f"the {device.kind} {device.key} of instance {record.id} is another instance's in the journal; "
                    "once that one's host has recovered, `hostler drift` tells of it"
                )
    return left


def _tell_ending(connection: Connection, row: Row[Any], ending: Ending, epoch: int, asked: Asked) -> list[str]:
    """Have a job that the journal knows be ended as it was; one that it knows better is left as it is."""
    if row.pruned_at is not None or row.run > ending.run or (row.run == ending.run and row.state in FINAL):
        return []
    if row.payload_digest != ending.payload_digest:
        return _end_stranger(connection, row, ending, asked)
    if row.run != ending.run:
        if row.state not in FINAL or row.run + 1 != ending.run:
            return [f"job {row.id} had ended its run {ending.run}, and the journal has run {row.run}: look at it"]
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(NEW_RUN | {"run": ending.run}))
        connection.execute(insert(runs).values(job=row.id, number=ending.run, submitted_at=now_in_database()))
    other = connection.execute(
        select(jobs.c.id).where(jobs.c.instance == row.instance, jobs.c.id != row.id, jobs.c.state.in_(UNSETTLED))
    ).scalar_one_or_none()
    if other is not None and row.state is JobState.QUEUED:
        message = f"it had {ending.state} before the database went back; job {other} of its instance has not ended"
        end(
            connection,
            job_from_row(row),
            JobState.CANCELLED,
            ErrorRecord(ErrorClass.PERMANENT, message),
            outbox=False,
            actor=asked.actor,
            why=asked.as_json(ledger=_said(ending)),
        )
        return [f"job {row.id} is cancelled, so that it does not run again: {message}"]
    begun = connection.execute(
        update(jobs)
        .where(jobs.c.id == row.id)
        .values(
            state=JobState.RUNNING,
            epoch=epoch,
            owner=None,
            home=ending.home,
            started_at=ending.started_at,
            superseded_by=ending.superseded_by,
        )
        .returning(jobs)
    ).one()
    of_run = and_(steps.c.job == row.id, steps.c.run == ending.run)
    connection.execute(update(steps).where(of_run).values(epoch=epoch))
    if ending.state is JobState.SUCCEEDED:
        unended = or_(steps.c.state == StepState.PENDING, steps.c.state == StepState.INTENDED)
        skipped = {"state": StepState.SKIPPED, "skipped_by": asked.actor, "ended_at": now_in_database()}
        connection.execute(update(steps).where(of_run, unended).values(skipped))
    record_event(
        connection,
        row.id,
        ending.run,
        EventType.RECOVERED,
        actor=asked.actor,
        data=asked.as_json(**{"from": row.state.value, "epoch": epoch, "ledger": _said(ending)}),
    )
    error = None if ending.error is None else ErrorRecord.from_json(ending.error)
    warnings = (ending.outcome or {}).get("warnings", ())
    why = asked.as_json(ledger=_said(ending))
    told = {"warnings": warnings, "outbox": False, "actor": asked.actor, "why": why}
    end(connection, job_from_row(begun), ending.state, error, **told)
    return []


def _end_stranger(connection: Connection, row: Row[Any], ending: Ending, asked: Asked) -> list[str]:
    """The id was given away again, to another request, by a journal that had forgotten the first."""
    if row.state is not JobState.QUEUED:
        return [f"job {row.id} is {row.state}, and its id had belonged to another request that {ending.state}"]
    message = f"its id had belonged to another request ({ending.operation}), which {ending.state}: send a new id"
    end(
        connection,
        job_from_row(row),
        JobState.CANCELLED,
        ErrorRecord(ErrorClass.PERMANENT, message),
        outbox=False,
        actor=asked.actor,
        why=asked.as_json(ledger=_said(ending)),
    )
    return [f"job {row.id} is cancelled: {message}"]


def _leave_tombstone(connection: Connection, ending: Ending) -> None:
    """What a pruning would have left of the job: its id never runs again."""
    connection.execute(
        insert(jobs).values(
            id=ending.job,
            operation=ending.operation,
            operation_version=ending.operation_version,
            job_class=ending.job_class,
            instance=ending.instance_id,
            host=ending.host,
            sent_to=ending.sent_to,
            home=ending.home,
            request={},
            payload_digest=ending.payload_digest,
            state=ending.state,
            run=ending.run,
            epoch=ending.epoch,
            past_return=False,
            error=ending.error,
            outcome=ending.outcome,
            superseded_by=ending.superseded_by,
            waits=0,
            submitted_at=ending.submitted_at,
            started_at=ending.started_at,
            ended_at=ending.ended_at,
            pruned_at=now_in_database(),
        )
    )


def _said(ending: Ending) -> dict[str, Any]:
    ended_at = None if ending.ended_at is None else ending.ended_at.isoformat()
    return {"state": ending.state.value, "run": ending.run, "ended_at": ended_at}


def _known_job(row: Row[Any]) -> KnownJob:
    return KnownJob(row.id, row.operation, row.instance, row.state, row.run, row.epoch, row.payload_digest)


def _some(keys: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (keys[at : at + _AT_ONCE] for at in range(0, len(keys), _AT_ONCE))
