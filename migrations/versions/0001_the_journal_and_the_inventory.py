"""The journal and the inventory.

Revision ID: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("machine_id", sa.String(length=64), nullable=False),
        sa.Column("libvirt_host_uuid", sa.Uuid(), nullable=False),
        sa.Column("libvirt_uri", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("worker", sa.Uuid(), nullable=True),
        sa.Column("registered_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
    )
    op.create_table(
        "instances",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("host", sa.String(length=63), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("spec", JSON, nullable=True),
        sa.Column("made_by", sa.String(length=128), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
    )
    op.create_index("ix_instances_host", "instances", ["host"], unique=False)

    op.create_table(
        "devices",
        sa.Column("instance", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("details", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_devices_instance_instances"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("instance", "kind", "key", name=op.f("pk_devices")),
    )
    op.create_table(
        "jobs",
        sa.Column("number", BIG, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("operation_version", sa.Integer(), nullable=True),
        sa.Column("job_class", sa.String(length=32), nullable=False),
        sa.Column("instance", sa.Uuid(), nullable=False),
        sa.Column("host", sa.String(length=63), nullable=False),
        sa.Column("sent_to", sa.String(length=63), nullable=False),
        sa.Column("request", JSON, nullable=False),
        sa.Column("payload_digest", sa.String(length=64), nullable=False),
        sa.Column("canvas", JSON, nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "waiting",
                "succeeded",
                "failed",
                "cancelled",
                "quarantined",
                name="jobstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=True),
        sa.Column("past_return", sa.Boolean(name="past_return"), nullable=False),
        sa.Column(
            "verdict",
            sa.Enum("failed", "cancelled", name="verdict", native_enum=False, create_constraint=True, length=32),
            nullable=True,
        ),
        sa.Column("error", JSON, nullable=True),
        sa.Column("outcome", JSON, nullable=True),
        sa.Column("superseded_by", sa.String(length=128), nullable=True),
        sa.Column("cancel_requested_at", MOMENT, nullable=True),
        sa.Column("not_before", MOMENT, nullable=True),
        sa.Column("waits", sa.Integer(), nullable=False),
        sa.Column("submitted_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["instance"], ["instances.id"], name=op.f("fk_jobs_instance_instances")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_instance_number", "jobs", ["instance", "number"], unique=False)
    op.create_index(
        "ix_jobs_open_by_host",
        "jobs",
        ["host", "number"],
        unique=False,
        sqlite_where=sa.text("state IN ('queued', 'running', 'waiting')"),
        postgresql_where=sa.text("state IN ('queued', 'running', 'waiting')"),
    )
    op.create_index(
        "uq_jobs_one_unsettled_per_instance",
        "jobs",
        ["instance"],
        unique=True,
        sqlite_where=sa.text("state IN ('quarantined', 'running', 'waiting')"),
        postgresql_where=sa.text("state IN ('quarantined', 'running', 'waiting')"),
    )

    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.String(length=63), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("heartbeat_at", MOMENT, nullable=False),
        sa.Column("stopped_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_workers_host_hosts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_index("ix_workers_host", "workers", ["host"], unique=False)

    op.create_table(
        "job_events",
        sa.Column("number", BIG, autoincrement=True, nullable=False),
        sa.Column("job", sa.String(length=128), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_job_events_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_job_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_events_job", "job_events", ["job", "number"], unique=False)
    op.create_index(
        "uq_job_events_one_final_per_run",
        "job_events",
        ["job", "run"],
        unique=True,
        sqlite_where=sa.text("type IN ('cancelled', 'failed', 'succeeded')"),
        postgresql_where=sa.text("type IN ('cancelled', 'failed', 'succeeded')"),
    )

    op.create_table(
        "outbox",
        sa.Column("number", BIG, autoincrement=True, nullable=False),
        sa.Column("job", sa.String(length=128), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=63), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("published_at", MOMENT, nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(length=1000), nullable=True),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_outbox_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_outbox_unpublished",
        "outbox",
        ["number"],
        unique=False,
        sqlite_where=sa.text("published_at IS NULL"),
        postgresql_where=sa.text("published_at IS NULL"),
    )

    op.create_table(
        "runs",
        sa.Column("job", sa.String(length=128), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "waiting",
                "succeeded",
                "failed",
                "cancelled",
                "quarantined",
                name="jobstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("error", JSON, nullable=True),
        sa.Column("outcome", JSON, nullable=True),
        sa.Column("submitted_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_runs_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", "number", name=op.f("pk_runs")),
    )
    op.create_table(
        "steps",
        sa.Column("job", sa.String(length=128), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column(
            "direction",
            sa.Enum("do", "undo", name="direction", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "pending",
                "intended",
                "done",
                "found",
                "skipped",
                name="stepstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("host", sa.String(length=63), nullable=True),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("intent", JSON, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.ForeignKeyConstraint(
            ["job", "run"], ["runs.job", "runs.number"], name=op.f("fk_steps_job_run_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "run", "direction", "position", name=op.f("pk_steps")),
    )
    op.create_index("uq_steps_name_once_per_run", "steps", ["job", "run", "direction", "name"], unique=True)

    op.create_table(
        "step_attempts",
        sa.Column("job", sa.String(length=128), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column(
            "direction",
            sa.Enum("do", "undo", name="direction", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("worker", sa.Uuid(), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.ForeignKeyConstraint(
            ["job", "run", "direction", "position"],
            ["steps.job", "steps.run", "steps.direction", "steps.position"],
            name="fk_step_attempts_steps",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job", "run", "direction", "position", "number", name=op.f("pk_step_attempts")),
    )


def downgrade() -> None:
    for table in (
        "step_attempts",
        "steps",
        "runs",
        "outbox",
        "job_events",
        "workers",
        "jobs",
        "devices",
        "instances",
        "hosts",
    ):
        op.drop_table(table)
