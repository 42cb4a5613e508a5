"""Reading the journal and the inventory; nothing here writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, and_, bindparam, or_, select

from models.engine import Database, now_in_database
from models.prepared import Prepared
from models.records import Device, Ending, ErrorRecord, InstanceRecord, JobRecord, Json, PeerRecord, StepRecord
from models.states import UNSETTLED, Direction, HostState, JobState
from models.tables import devices, hosts, instances, job_events, jobs, steps, withheld_parts, workers

_JOB = Prepared(select(jobs).where(jobs.c.id == bindparam("wanted")))
_STEPS_OF = Prepared(
    select(steps)
    .where(steps.c.job == bindparam("of_job"), steps.c.run == bindparam("of_run"))
    .order_by(steps.c.position)
)
_DEVICES_OF = Prepared(
    select(devices).where(devices.c.instance == bindparam("of")).order_by(devices.c.kind, devices.c.key)
)
_OF_INSTANCE = ("name", "host", "state", "epoch", "spec", "wanted", "made_by")
_WITH_INSTANCE = Prepared(
    select(
        jobs,
        *(instances.c[name].label(f"instance_{name}") for name in _OF_INSTANCE),
        *(devices.c[name] for name in ("kind", "key", "details", "exclusive", "place")),
    )
    .select_from(jobs.join(instances).outerjoin(devices))
    .where(jobs.c.id == bindparam("wanted"))
    .order_by(devices.c.kind, devices.c.key)
)


def _error(document: dict[str, Any] | None) -> ErrorRecord | None:
    return None if document is None else ErrorRecord.from_json(document)


def job_from_row(row: Row[Any]) -> JobRecord:
    """A job's row as a value."""
    return JobRecord(
        id=row.id,
        number=row.number,
        operation=row.operation,
        operation_version=row.operation_version,
        job_class=row.job_class,
        instance=row.instance,
        host=row.host,
        sent_to=row.sent_to,
        home=row.home,
        peer=row.peer,
        hopping=row.hopping,
        request=row.request,
        state=row.state,
        run=row.run,
        epoch=row.epoch,
        past_return=row.past_return,
        verdict=row.verdict,
        error=_error(row.error),
        outcome=row.outcome,
        cancel_requested=row.cancel_requested_at is not None,
        force_complete_requested=row.force_complete_requested_at is not None,
        progress=row.progress,
        not_before=row.not_before,
        waits=row.waits,
        submitted_at=row.submitted_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        pruned_at=row.pruned_at,
    )


def step_from_row(row: Row[Any]) -> StepRecord:
    """A step's row as a value."""
    return StepRecord(
        position=row.position,
        name=row.name,
        direction=row.direction,
        state=row.state,
        host=row.host,
        epoch=row.epoch,
        intent=row.intent,
        attempts=row.attempts,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error=_error(row.error),
        skipped_by=row.skipped_by,
    )


def steps_of(connection: Connection, job: str, run: int) -> tuple[StepRecord, ...]:
    """The steps of a run: those made in order, then those undone in the order they were undone."""
    rows = _STEPS_OF.rows(connection, {"of_job": job, "of_run": run})
    made = [step_from_row(row) for row in rows if row.direction is Direction.DO]
    undone = [step_from_row(row) for row in reversed(rows) if row.direction is Direction.UNDO]
    return (*made, *undone)


def devices_of(connection: Connection, instance: UUID) -> tuple[Device, ...]:
    """The instance's devices, in the order of their kind and key."""
    rows = _DEVICES_OF.rows(connection, {"of": instance})
    return tuple(Device(row.kind, row.key, row.details, row.exclusive, row.place) for row in rows)


def devices_of_all(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, tuple[Device, ...]]:
    """The devices of each of these instances that has any, in the order of their kind and key."""
    rows = connection.execute(
        select(devices).where(devices.c.instance.in_(ids)).order_by(devices.c.instance, devices.c.kind, devices.c.key)
    )
    found: dict[UUID, tuple[Device, ...]] = {}
    for row in rows:
        device = Device(row.kind, row.key, row.details, row.exclusive, row.place)
        found[row.instance] = (*found.get(row.instance, ()), device)
    return found


def peer_of(connection: Connection, host: str) -> PeerRecord:
    """The host as another one reaches it; empty where it never said how."""
    row = connection.execute(
        select(hosts.c.peer_libvirt_uri, hosts.c.migration_address, hosts.c.libvirt_host_uuid).where(
            hosts.c.name == host
        )
    ).one_or_none()
    uri, address, libvirt_host = (None, None, None) if row is None else row
    return PeerRecord(host, uri or "", address or "", libvirt_host)


@dataclass(frozen=True)
class EventRecord:
    """One line of a job's history."""

    number: int
    run: int
    at: datetime
    type: str
    actor: str
    data: dict[str, Any]


@dataclass(frozen=True)
class JobDetails:
    """A job with the steps of its current run and its whole history."""

    job: JobRecord
    steps: tuple[StepRecord, ...]
    events: tuple[EventRecord, ...]


@dataclass(frozen=True)
class HostRecord:
    """A host's row, with what is known of the worker that serves it."""

    name: str
    state: HostState  #: disabled by an operator, or because its libvirt does not answer
    disabled_by: str | None
    disabled_because: str | None
    disabled_at: datetime | None
    down_because: str | None
    down_since: datetime | None
    recovering_because: str | None
    recovering_since: datetime | None
    rebind_by: str | None
    rebind_because: str | None
    machine_id: str
    libvirt_host_uuid: UUID
    capabilities: Json | None
    inventory: Json | None
    registered_at: datetime
    libvirt_uri: str
    peer_libvirt_uri: str | None
    migration_address: str | None
    sequence: int
    worker: UUID | None
    worker_pid: int | None
    worker_version: str | None
    heartbeat_at: datetime | None
    stopped_at: datetime | None
    heartbeat_age_s: float | None


def job(database: Database, job_id: str) -> JobRecord | None:
    """The job's row, or None."""
    with database.read() as connection:
        row = _JOB.row(connection, {"wanted": job_id})
        return None if row is None else job_from_row(row)


def job_details(database: Database, job_id: str) -> JobDetails | None:
    """The job with its steps and events, all read at one moment; None if there is no such job."""
    with database.read() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            return None
        events = connection.execute(select(job_events).where(job_events.c.job == job_id).order_by(job_events.c.number))
        return JobDetails(
            job=job_from_row(row),
            steps=steps_of(connection, job_id, row.run),
            events=tuple(
                EventRecord(event.number, event.run, event.at, event.type.value, event.actor, event.data)
                for event in events
            ),
        )


def job_in_the_way(database: Database, queued: JobRecord) -> JobRecord | None:
    """The job of the same instance that a queued one waits for; None where there is none."""
    before = or_(jobs.c.state.in_(UNSETTLED), and_(jobs.c.state == JobState.QUEUED, jobs.c.number < queued.number))
    query = (
        select(jobs)
        .where(jobs.c.instance == queued.instance, jobs.c.id != queued.id, before)
        .order_by(jobs.c.state == JobState.QUEUED, jobs.c.number)
        .limit(1)
    )
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
        return None if row is None else job_from_row(row)


def withheld_of(database: Database, job_id: str) -> dict[str, Any] | None:
    """The parts that the job's request does not show; None once the job was final, and where it has none."""
    with database.read() as connection:
        query = select(withheld_parts.c.parts).where(withheld_parts.c.job == job_id)
        parts: dict[str, Any] | None = connection.execute(query).scalar_one_or_none()
        return parts


def canvas_of(database: Database, job_id: str) -> dict[str, Any]:
    """The Celery canvas that the job's message carried; empty if none did."""
    with database.read() as connection:
        canvas = connection.execute(select(jobs.c.canvas).where(jobs.c.id == job_id)).scalar_one()
        return canvas or {}


def list_jobs(
    database: Database,
    *,
    host: str | None = None,
    instance: UUID | None = None,
    states: Sequence[JobState] = (),
    limit: int = 50,
) -> list[JobRecord]:
    """The newest ``limit`` jobs that match, newest first."""
    query: Select[Any] = select(jobs).order_by(jobs.c.number.desc()).limit(limit)
    if host is not None:
        query = query.where(jobs.c.host == host)
    if instance is not None:
        query = query.where(jobs.c.instance == instance)
    if states:
        query = query.where(jobs.c.state.in_(states))
    with database.read() as connection:
        return [job_from_row(row) for row in connection.execute(query)]


def instance_from_row(row: Row[Any], its_devices: tuple[Device, ...]) -> InstanceRecord:
    """The row of an instance, with its devices, as a value."""
    return InstanceRecord(
        id=row.id,
        name=row.name,
        host=row.host,
        state=row.state,
        epoch=row.epoch,
        spec=row.spec,
        devices=its_devices,
        wanted=row.wanted,
        made_by=row.made_by,
    )


def ending_within(connection: Connection, job_id: str) -> Ending:
    """What the job and its instance, with its devices, are as the transaction leaves them; there must be such a job."""
    rows = _WITH_INSTANCE.rows(connection, {"wanted": job_id})
    job = rows[0]
    theirs = (Device(row.kind, row.key, row.details, row.exclusive, row.place) for row in rows if row.kind is not None)
    its_instance = InstanceRecord(
        id=job.instance,
        name=job.instance_name,
        host=job.instance_host,
        state=job.instance_state,
        epoch=job.instance_epoch,
        spec=job.instance_spec,
        devices=tuple(theirs),
        wanted=job.instance_wanted,
        made_by=job.instance_made_by,
    )
    return ending_from_row(job, its_instance)


def ending_from_row(row: Row[Any], its_instance: InstanceRecord | None = None) -> Ending:
    """What the job's row, and its instance where that is given, say of the run."""
    return Ending(
        job=row.id,
        run=row.run,
        state=row.state,
        operation=row.operation,
        operation_version=row.operation_version,
        job_class=row.job_class,
        instance_id=row.instance,
        host=row.host,
        sent_to=row.sent_to,
        home=row.home,
        payload_digest=row.payload_digest,
        epoch=row.epoch,
        error=row.error,
        outcome=row.outcome,
        superseded_by=row.superseded_by,
        submitted_at=row.submitted_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        instance=its_instance,
    )


def instance(database: Database, instance_id: UUID) -> InstanceRecord | None:
    """The instance with its devices, or None."""
    with database.read() as connection:
        row = connection.execute(select(instances).where(instances.c.id == instance_id)).one_or_none()
        return None if row is None else instance_from_row(row, devices_of(connection, row.id))


def list_instances(database: Database, *, host: str | None = None, limit: int = 200) -> list[InstanceRecord]:
    """The newest ``limit`` instances that match, newest first."""
    query: Select[Any] = select(instances).order_by(instances.c.created_at.desc()).limit(limit)
    if host is not None:
        query = query.where(instances.c.host == host)
    with database.read() as connection:
        return [instance_from_row(row, devices_of(connection, row.id)) for row in connection.execute(query).all()]


_OF_HOST = (
    *("disabled_by", "disabled_because", "disabled_at", "down_because", "down_since", "rebind_by", "rebind_because"),
    *("recovering_because", "recovering_since"),
    *("machine_id", "libvirt_host_uuid", "capabilities", "inventory", "registered_at"),
)


def list_hosts(database: Database) -> list[HostRecord]:
    """All hosts by name, each with its newest worker."""
    query = (
        select(hosts, workers, now_in_database().label("now"))
        .select_from(hosts.outerjoin(workers, hosts.c.worker == workers.c.id))
        .order_by(hosts.c.name)
    )
    with database.read() as connection:
        found = []
        for row in connection.execute(query).mappings():
            beat = row[workers.c.heartbeat_at]
            found.append(
                HostRecord(
                    name=row[hosts.c.name],
                    state=row[hosts.c.state] if row[hosts.c.down_because] is None else HostState.DISABLED,
                    **{name: row[hosts.c[name]] for name in _OF_HOST},
                    libvirt_uri=row[hosts.c.libvirt_uri],
                    peer_libvirt_uri=row[hosts.c.peer_libvirt_uri],
                    migration_address=row[hosts.c.migration_address],
                    sequence=row[hosts.c.sequence],
                    worker=row[hosts.c.worker],
                    worker_pid=row[workers.c.pid],
                    worker_version=row[workers.c.version],
                    heartbeat_at=beat,
                    stopped_at=row[workers.c.stopped_at],
                    heartbeat_age_s=None if beat is None else (row["now"] - beat).total_seconds(),
                )
            )
        return found
