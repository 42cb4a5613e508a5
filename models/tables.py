"""The schema. The promises that a database can enforce are the indexes here and the triggers in the migrations."""

from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    and_,
    false,
)
from sqlalchemy.dialects.postgresql import JSONB

from models.engine import UtcDateTime
from models.states import (
    FINAL_EVENTS,
    UNSETTLED,
    AttemptOutcome,
    DeviceKind,
    Direction,
    DriftKind,
    EventType,
    HostState,
    InstanceState,
    JobClass,
    JobState,
    Observed,
    OutboxKind,
    StepState,
    Verdict,
)

EnumT = TypeVar("EnumT", bound=StrEnum)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _word(kind: type[EnumT], *, closed: bool = False) -> Enum:
    """The enum's values; a ``closed`` vocabulary is checked by the database too.

    By default SQLAlchemy would store the members' names, and an index over values would match nothing.
    """
    return Enum(
        kind,
        name=kind.__name__.lower(),
        values_callable=lambda members: [member.value for member in members],
        native_enum=False,
        create_constraint=closed,
        length=32,
    )


_BIG = BigInteger().with_variant(Integer(), "sqlite")
_JSON = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_HOST = String(63)  # a DNS label's length; see worker.settings
_JOB_ID = String(128)
_STEP = String(64)


def _job(**options: Any) -> Column[str]:  # noqa: ANN401  # handed on to Column
    return Column("job", _JOB_ID, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, **options)


hosts = Table(
    "hosts",
    metadata,
    Column("name", _HOST, primary_key=True),
    Column("machine_id", String(64), nullable=False),
    Column("libvirt_host_uuid", Uuid(), nullable=False),
    Column("libvirt_uri", String(255), nullable=False),
    Column("peer_libvirt_uri", String(255), nullable=True),  # how other hosts reach its libvirtd
    Column("migration_address", String(255), nullable=True),  # where other hosts send their guests' memory
    Column("state", _word(HostState), nullable=False),  # an operator's word
    Column("disabled_by", String(255), nullable=True),
    Column("disabled_because", Text(), nullable=True),
    Column("disabled_at", UtcDateTime(), nullable=True),
    Column("down_because", Text(), nullable=True),  # its worker's word: libvirt does not answer
    Column("down_since", UtcDateTime(), nullable=True),
    Column("capabilities", _JSON, nullable=True),
    Column("inventory", _JSON, nullable=True),
    Column("recovering_because", Text(), nullable=True),  # why nothing is claimed: the journal went back in time
    Column("recovering_since", UtcDateTime(), nullable=True),
    Column("rebind_by", String(255), nullable=True),  # who said that the next machine may have the name
    Column("rebind_because", Text(), nullable=True),
    Column("sequence", _BIG, nullable=False, default=0),
    Column("worker", Uuid(), nullable=True),
    Column("boot_id", String(64), nullable=True),  # the kernel's; the boot whose guests were started last
    Column("registered_at", UtcDateTime(), nullable=False),
    Column("seen_at", UtcDateTime(), nullable=False),
)

# When the journal of a host went back in time: what its worker would have changed, and on whose word it was.
recoveries = Table(
    "recoveries",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    Column("host", _HOST, ForeignKey("hosts.name"), nullable=False),
    Column("because", Text(), nullable=False),
    Column("begun_at", UtcDateTime(), nullable=False),
    Column("plan", _JSON, nullable=True),
    Column("digest", String(64), nullable=True),  # of the plan
    Column("planned_at", UtcDateTime(), nullable=True),
    Column("wanted", String(64), nullable=True),  # the digest of the plan that an operator wants applied
    Column("wanted_by", String(255), nullable=True),
    Column("wanted_because", Text(), nullable=True),
    Column("refusal", Text(), nullable=True),  # why that was not done
    Column("ended_at", UtcDateTime(), nullable=True),
    sqlite_autoincrement=True,
)
Index(
    "uq_recoveries_one_open_per_host",
    recoveries.c.host,
    unique=True,
    sqlite_where=recoveries.c.ended_at.is_(None),
    postgresql_where=recoveries.c.ended_at.is_(None),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Uuid(), primary_key=True),
    Column("host", _HOST, ForeignKey("hosts.name"), nullable=False, index=True),
    Column("pid", Integer, nullable=False),
    Column("version", String(32), nullable=False),
    Column("started_at", UtcDateTime(), nullable=False),
    Column("heartbeat_at", UtcDateTime(), nullable=False),
    Column("stopped_at", UtcDateTime(), nullable=True),
)

instances = Table(
    "instances",
    metadata,
    Column("id", Uuid(), primary_key=True),
    Column("name", String(255), nullable=True),
    Column("host", _HOST, nullable=True, index=True),
    Column("state", _word(InstanceState), nullable=False),
    Column("wanted", _word(InstanceState), nullable=True),  # what a job last made it, which a boot does not change
    Column("epoch", _BIG, nullable=False, default=0),
    Column("spec", _JSON, nullable=True),
    Column("made_by", _JOB_ID, nullable=True),  # the job whose claim began it
    Column("created_at", UtcDateTime(), nullable=False),
    Column("updated_at", UtcDateTime(), nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("instance", Uuid(), ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", _word(DeviceKind), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("details", _JSON, nullable=False),
    Column("exclusive", String(160), nullable=True),  # what no two devices may have: a volume, a MAC
    Column("place", Text(), nullable=True),  # where a volume's bytes are, whatever it is called
)
Index("uq_devices_exclusive", devices.c.exclusive, unique=True)
Index("uq_devices_place", devices.c.place, unique=True)

jobs = Table(
    "jobs",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),  # the order of submission of its run
    Column("id", _JOB_ID, nullable=False, unique=True),
    Column("operation", String(64), nullable=False),
    Column("operation_version", Integer, nullable=True),
    Column("job_class", _word(JobClass), nullable=False),
    Column("instance", Uuid(), ForeignKey("instances.id"), nullable=False),
    Column("host", _HOST, nullable=False),  # where the job is now
    Column("sent_to", _HOST, nullable=False),  # the host that its sender named
    Column("home", _HOST, nullable=True),  # the host of its first claim
    Column("peer", _HOST, nullable=True),  # the other host that has steps of it
    Column("hopping", Boolean(name="hopping"), nullable=False, server_default=false()),
    Column("request", _JSON, nullable=False),
    Column("payload_digest", String(64), nullable=False),
    Column("canvas", _JSON, nullable=True),
    Column("state", _word(JobState, closed=True), nullable=False),
    Column("run", Integer, nullable=False),
    Column("epoch", _BIG, nullable=False),
    Column("owner", Uuid(), nullable=True),
    Column("past_return", Boolean(name="past_return"), nullable=False),
    Column("verdict", _word(Verdict, closed=True), nullable=True),
    Column("error", _JSON, nullable=True),
    Column("outcome", _JSON, nullable=True),
    Column("superseded_by", _JOB_ID, nullable=True),
    Column("cancel_requested_at", UtcDateTime(), nullable=True),
    Column("not_before", UtcDateTime(), nullable=True),
    Column("waits", Integer, nullable=False),
    Column("progress", _JSON, nullable=True),  # of the call under way
    Column("force_complete_requested_at", UtcDateTime(), nullable=True),
    Column("submitted_at", UtcDateTime(), nullable=False),
    Column("started_at", UtcDateTime(), nullable=True),
    Column("ended_at", UtcDateTime(), nullable=True),
    Column("pruned_at", UtcDateTime(), nullable=True),  # since when only a tombstone is left
    sqlite_autoincrement=True,
)
Index(
    "uq_jobs_one_unsettled_per_instance",
    jobs.c.instance,
    unique=True,
    sqlite_where=jobs.c.state.in_(sorted(UNSETTLED)),
    postgresql_where=jobs.c.state.in_(sorted(UNSETTLED)),
)
Index("ix_jobs_instance_number", jobs.c.instance, jobs.c.number)
_PRUNABLE = and_(jobs.c.pruned_at.is_(None), jobs.c.ended_at.is_not(None))
Index("ix_jobs_prunable", jobs.c.ended_at, sqlite_where=_PRUNABLE, postgresql_where=_PRUNABLE)
OPEN = sorted({JobState.QUEUED, JobState.RUNNING, JobState.WAITING})
Index(
    "ix_jobs_open_by_host",
    jobs.c.host,
    jobs.c.number,
    sqlite_where=jobs.c.state.in_(OPEN),
    postgresql_where=jobs.c.state.in_(OPEN),
)

# What a job's request does not show, for as long as the job may need it: a trigger drops it with the final state.
withheld_parts = Table(
    "withheld_parts",
    metadata,
    _job(primary_key=True),
    Column("parts", _JSON, nullable=False),
)

# What each run came to: written once, as it settles; the run that is under way is told of by its job.
runs = Table(
    "runs",
    metadata,
    _job(primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", _word(JobState, closed=True), nullable=True),
    Column("error", _JSON, nullable=True),
    Column("outcome", _JSON, nullable=True),
    Column("submitted_at", UtcDateTime(), nullable=False),
    Column("started_at", UtcDateTime(), nullable=True),
    Column("ended_at", UtcDateTime(), nullable=True),
)

steps = Table(
    "steps",
    metadata,
    Column("job", _JOB_ID, primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("direction", _word(Direction, closed=True), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", _STEP, nullable=False),
    Column("state", _word(StepState, closed=True), nullable=False),
    Column("host", _HOST, nullable=True),
    Column("epoch", _BIG, nullable=False),
    Column("intent", _JSON, nullable=True),
    Column("attempts", Integer, nullable=False),
    Column("started_at", UtcDateTime(), nullable=True),
    Column("ended_at", UtcDateTime(), nullable=True),
    Column("error", _JSON, nullable=True),
    Column("skipped_by", String(255), nullable=True),  # whose word it is that it needs no look
    ForeignKeyConstraint(["job", "run"], ["runs.job", "runs.number"], ondelete="CASCADE"),
)
Index("uq_steps_name_once_per_run", steps.c.job, steps.c.run, steps.c.direction, steps.c.name, unique=True)

step_attempts = Table(
    "step_attempts",
    metadata,
    Column("job", _JOB_ID, primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("direction", _word(Direction, closed=True), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("epoch", _BIG, nullable=False),
    Column("worker", Uuid(), nullable=False),
    Column("outcome", _word(AttemptOutcome), nullable=False),
    Column("started_at", UtcDateTime(), nullable=False),
    Column("ended_at", UtcDateTime(), nullable=True),
    Column("error", _JSON, nullable=True),
    ForeignKeyConstraint(
        ["job", "run", "direction", "position"],
        ["steps.job", "steps.run", "steps.direction", "steps.position"],
        ondelete="CASCADE",
        name="fk_step_attempts_steps",
    ),
)

job_events = Table(
    "job_events",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    _job(),
    Column("run", Integer, nullable=False),
    Column("at", UtcDateTime(), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("type", _word(EventType), nullable=False),
    Column("data", _JSON, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_job_events_job", job_events.c.job, job_events.c.number)
Index(
    "uq_job_events_one_final_per_run",
    job_events.c.job,
    job_events.c.run,
    unique=True,
    sqlite_where=job_events.c.type.in_(sorted(FINAL_EVENTS)),
    postgresql_where=job_events.c.type.in_(sorted(FINAL_EVENTS)),
)

# What happened to instances by themselves; what jobs did to them stands in the jobs' own history.
instance_events = Table(
    "instance_events",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    Column("instance", Uuid(), ForeignKey("instances.id", ondelete="CASCADE"), nullable=False),
    Column("host", _HOST, nullable=False),
    Column("at", UtcDateTime(), nullable=False),
    Column("type", _word(Observed), nullable=False),
    Column("data", _JSON, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_instance_events_instance", instance_events.c.instance, instance_events.c.number)

drift = Table(
    "drift",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    Column("host", _HOST, ForeignKey("hosts.name"), nullable=False),
    Column("kind", _word(DriftKind), nullable=False),
    Column("subject", String(160), nullable=False),  # a domain's UUID, or that and a device's alias
    Column("data", _JSON, nullable=False),
    Column("found_at", UtcDateTime(), nullable=False),
    Column("gone_at", UtcDateTime(), nullable=True),
    sqlite_autoincrement=True,
)
Index(
    "uq_drift_once_while_open",
    drift.c.host,
    drift.c.kind,
    drift.c.subject,
    unique=True,
    sqlite_where=drift.c.gone_at.is_(None),
    postgresql_where=drift.c.gone_at.is_(None),
)

outbox = Table(
    "outbox",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    _job(),
    Column("run", Integer, nullable=False),
    Column("kind", _word(OutboxKind), nullable=False),
    Column("host", _HOST, nullable=False),  # whose queue is rung, or whose worker settled
    Column("created_at", UtcDateTime(), nullable=False),
    Column("published_at", UtcDateTime(), nullable=True),
    Column("tries", Integer, nullable=False),
    Column("error", String(1000), nullable=True),
    sqlite_autoincrement=True,
)
Index(
    "ix_outbox_unpublished",
    outbox.c.number,
    sqlite_where=outbox.c.published_at.is_(None),
    postgresql_where=outbox.c.published_at.is_(None),
)
