"""Claiming: handing a job to a worker, with the instance's next epoch.

All of it is one transaction. Rows are locked in one order everywhere (instance, its jobs, host), so that two
claims never wait for each other in a circle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Row,
    and_,
    bindparam,
    exists,
    or_,
    select,
    update,
)

from models.availability import hold as hold_of_host
from models.availability import refusal as refusal_of_host
from models.engine import Database, now_in_database
from models.journal.events import event_values, leave_in_outbox, record_event
from models.journal.quarantining import ended_its_workers, set_aside
from models.journal.superseding import Terms, other_host, supersede, yields
from models.journal.taking import take
from models.prepared import Prepared
from models.reading import devices_of, job_from_row, peer_of, steps_of
from models.records import Device, Ending, JobRecord, PeerRecord, StepRecord
from models.states import (
    FINAL,
    UNSETTLED,
    Direction,
    EventType,
    InstanceState,
    JobState,
    OutboxKind,
    StepState,
)
from models.tables import devices, hosts, instances, jobs


@dataclass(frozen=True)
class Claimant:
    """Who claims: a worker, on its own host, that holds the host's lock.

    It never claims what one of its own threads still runs: whoever calls has made sure of that.
    """

    worker: UUID
    host: str


@dataclass(frozen=True)
class Lease:
    """A claimed job: the right to write its run, for as long as nobody claims it again."""

    job: JobRecord
    worker: UUID
    host: str
    steps: tuple[StepRecord, ...]
    devices: tuple[Device, ...]
    host_sequence: int
    superseded: tuple[str, ...]
    peer: PeerRecord | None = None  #: the other host of the job, seen from this one
    ended: tuple[Ending, ...] = ()  #: what the superseded jobs came to
    took_over: bool = False  #: somebody had it in hand before, and may have left a call under way
    arrived: bool = False  #: the job came here by a hop: it goes on where it was

    @property
    def epoch(self) -> int:
        """The epoch that every write of the run carries."""
        return self.job.epoch


@dataclass(frozen=True)
class NotNow:
    """The job cannot be claimed now; the sentence says why."""

    why: str


@dataclass(frozen=True)
class Rewound(NotNow):
    """Nothing was claimed: the database has forgotten claims that the worker has seen committed."""


_INSTANCE_OF = (
    select(instances)
    .where(instances.c.id == select(jobs.c.instance).where(jobs.c.id == bindparam("wanted")).scalar_subquery())
    .with_for_update()
    .cte("instance_of")
)
_other = jobs.alias("other")
#: The job with its instance: two rows that are locked in this order. What else it tells may be older than the lock.
_JOB = Prepared(
    select(
        jobs,
        _INSTANCE_OF.c.epoch.label("instance_epoch"),
        _INSTANCE_OF.c.host.label("instance_host"),
        _INSTANCE_OF.c.state.label("instance_state"),
        exists()
        .where(_other.c.instance == jobs.c.instance, _other.c.id != jobs.c.id, _other.c.ended_at.is_(None))
        .label("has_others"),
        exists().where(devices.c.instance == jobs.c.instance).label("has_devices"),
    )
    .join(_INSTANCE_OF, _INSTANCE_OF.c.id == jobs.c.instance)
    .where(jobs.c.id == bindparam("wanted"))
    .with_for_update(of=jobs)
)
_BEFORE = Prepared(
    select(jobs)
    .where(
        jobs.c.instance == bindparam("of"),
        jobs.c.id != bindparam("wanted"),
        or_(
            jobs.c.state.in_(UNSETTLED),
            and_(jobs.c.state == JobState.QUEUED, jobs.c.number < bindparam("mine")),
        ),
    )
    .order_by(jobs.c.number)
    .with_for_update()
)


class HostHeldError(Exception):
    """The host may claim nothing now, as ``not_now`` says; what the transaction has written must not stay."""

    def __init__(self, not_now: NotNow) -> None:
        super().__init__(not_now.why)
        self.not_now = not_now


def claim(  # noqa: PLR0913  # who claims what
    database: Database,
    job_id: str,
    claimant: Claimant,
    terms_of: Callable[[JobRecord], Terms],
    *,
    outbox: bool,
    seen: int = 0,
) -> Lease | NotNow:
    """Take the job to run it now, or say why not.

    With ``outbox`` a job that must go to another host is rung there, and what a superseded job came to is told.
    ``seen`` is a host sequence that the worker has seen committed: in a database that has a lower one nothing is
    claimed, which is then `Rewound`.
    """
    try:
        with database.write() as connection:
            return claim_within(connection, job_id, claimant, terms_of, outbox=outbox, seen=seen)
    except HostHeldError as held:
        return held.not_now


def claim_within(  # noqa: PLR0913  # who claims what
    connection: Connection,
    job_id: str,
    claimant: Claimant,
    terms_of: Callable[[JobRecord], Terms],
    *,
    outbox: bool,
    seen: int = 0,
    locked: bool = False,
) -> Lease | NotNow:
    """`claim`, as a part of a transaction, which a HostHeldError must end.

    ``locked``: an earlier statement of the transaction has locked the instance's row, so that nothing of what is read
    of it can be older than the lock.
    """
    row = _JOB.row(connection, {"wanted": job_id})
    if row is None:
        return NotNow(f"there is no job {job_id}")
    job = job_from_row(row)
    refusal = _not_now(connection, row, job, claimant)
    if refusal is not None:
        return refusal
    if row.state is JobState.RUNNING and row.owner not in {None, claimant.worker}:
        defect = ended_its_workers(connection, row)
        if defect is not None:
            set_aside(connection, row.id, row.run, defect)
            return NotNow(f"it is quarantined: {defect.message}")
    terms = terms_of(job)
    if row.state is JobState.QUEUED and _lives_elsewhere(row, claimant.host):
        return _redirect(connection, job, row.instance_host, outbox=outbox)
    # a job that was begun holds its instance already, and superseded whom it would at its first claim
    alone = row.state is not JobState.QUEUED or (locked and not row.has_others)
    standing_before = [] if alone else _before(connection, job)
    held_by = [other for other in standing_before if not yields(other, job, terms)]
    if held_by:
        return NotNow(f"job {held_by[0].id} of the same instance comes first ({held_by[0].state})")
    epoch = row.instance_epoch + 1
    ended = tuple(supersede(connection, other, job, epoch, outbox=outbox) for other in standing_before)
    has_devices = row.has_devices or not locked
    lease = _take(
        connection, job, row.instance_state, terms, claimant, epoch, standing_before, seen, has_devices=has_devices
    )
    return replace(lease, ended=ended)


def _not_now(connection: Connection, row: Row[Any], job: JobRecord, claimant: Claimant) -> NotNow | None:
    if row.state in FINAL:
        return NotNow(f"it has {row.state}")
    if row.state is JobState.QUARANTINED:
        return NotNow("it is quarantined: an operator decides")
    if row.host != claimant.host:
        return NotNow(f"it is for host {row.host}")
    cancelling = row.cancel_requested_at is not None and row.verdict is None and not row.past_return
    if row.state is JobState.WAITING and not cancelling:
        now = connection.execute(select(now_in_database())).scalar_one()
        if row.not_before is not None and row.not_before > now:
            return NotNow(f"it waits until {row.not_before:%H:%M:%S} UTC")
    closed = refusal_of_host(connection, job) if row.state is JobState.QUEUED else None
    return None if closed is None else NotNow(closed)


def _lives_elsewhere(row: Row[Any], host: str) -> bool:
    gone = {InstanceState.ABSENT, InstanceState.DELETED}
    return row.instance_host is not None and row.instance_host != host and row.instance_state not in gone


def _redirect(connection: Connection, job: JobRecord, host: str, *, outbox: bool) -> NotNow:
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(host=host))
    record_event(connection, job.id, job.run, EventType.REDIRECTED, data={"from": job.host, "to": host})
    if outbox:
        leave_in_outbox(connection, job.id, job.run, OutboxKind.RING, host)
    return NotNow(f"its instance lives on host {host}; the job goes there")


def _before(connection: Connection, job: JobRecord) -> list[JobRecord]:
    """The unsettled jobs of the instance that this one must wait for: all begun ones, and those submitted earlier."""
    rows = _BEFORE.rows(connection, {"of": job.instance, "wanted": job.id, "mine": job.number})
    return [job_from_row(row) for row in rows]


def _take(  # noqa: PLR0913, PLR0917  # one claim, written in one place
    connection: Connection,
    job: JobRecord,
    instance_state: InstanceState,
    terms: Terms,
    claimant: Claimant,
    epoch: int,
    superseded: Sequence[JobRecord],
    seen: int,
    *,
    has_devices: bool,
) -> Lease:
    first = job.state is JobState.QUEUED
    peer = (terms.peer or other_host(connection, superseded, claimant.host)) if first else job.peer
    takes_debts = first and any(other.home is not None for other in superseded)  # what they left is this job's to clear
    if first and terms.begins_as is not None and instance_state in {InstanceState.ABSENT, InstanceState.DELETED}:
        connection.execute(
            update(instances)
            .where(instances.c.id == job.instance)
            .values(host=claimant.host, state=terms.begins_as, name=terms.name, spec=dict(job.request), made_by=job.id)
        )
    taken, sequence = take(
        connection,
        job,
        terms.steps,
        {
            "wanted": job.id,
            "of": job.instance,
            "of_run": job.run,
            "new_epoch": epoch,
            "here": claimant.host,
            "claimant": claimant.worker,
            "new_version": terms.version,
            "other_host": peer,
            "only_forward": takes_debts,
            "seen": seen,
            **event_values(
                job.id,
                job.run,
                EventType.CLAIMED,
                data={
                    "epoch": epoch,
                    "host": claimant.host,
                    "worker": str(claimant.worker),
                    "took_over": job.state is JobState.RUNNING,
                    "superseded": [other.id for other in superseded],
                    "version": terms.version,
                    "peer": peer,
                },
            ),
        },
    )
    if sequence is None:
        raise HostHeldError(_held(connection, claimant, seen, begins=first))
    if takes_debts:
        record_event(connection, job.id, job.run, EventType.PAST_RETURN)
    return Lease(
        job=job_from_row(taken),
        worker=claimant.worker,
        host=claimant.host,
        steps=_begun_steps(terms.steps, epoch) if first else steps_of(connection, job.id, job.run),
        devices=devices_of(connection, job.instance) if has_devices else (),
        host_sequence=sequence,
        superseded=tuple(other.id for other in superseded),
        peer=None if peer is None else _seen_from(connection, claimant.host, job.home, peer),
        took_over=job.state is JobState.RUNNING,
        arrived=job.hopping,
    )


def _held(connection: Connection, claimant: Claimant, seen: int, *, begins: bool) -> NotNow:
    """Why the host's sequence was not raised."""
    row = connection.execute(
        select(hosts.c.sequence, hosts.c.worker).where(hosts.c.name == claimant.host)
    ).one_or_none()
    if row is None or row.sequence < seen:
        at = "does not know this host" if row is None else f"is at claim {row.sequence} of {claimant.host}"
        return Rewound(f"the database went back in time: it {at}, and claim {seen} was seen")
    if row.worker != claimant.worker:
        return NotNow(f"another worker serves {claimant.host} now; this one must end")
    return NotNow(hold_of_host(connection, claimant.host, begins=begins) or f"host {claimant.host} is held")


def _begun_steps(names: Sequence[str], epoch: int) -> tuple[StepRecord, ...]:
    """The steps of a first claim, as they were just written."""
    return tuple(
        StepRecord(position=position, name=name, direction=Direction.DO, state=StepState.PENDING, epoch=epoch)
        for position, name in enumerate(names)
    )


def _seen_from(connection: Connection, here: str, home: str | None, peer: str) -> PeerRecord:
    """The job's other host: from its home the peer, from the peer its home."""
    return peer_of(connection, peer if home is None or here == home else home)
