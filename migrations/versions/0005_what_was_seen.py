"""What was seen of hosts beside what jobs made there: events of instances, and drift.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "instance_events",
        sa.Column("number", BIG, autoincrement=True, nullable=False),
        sa.Column("instance", sa.Uuid(), nullable=False),
        sa.Column("host", sa.String(length=63), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name="fk_instance_events_instance_instances", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name="pk_instance_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_instance_events_instance", "instance_events", ["instance", "number"])
    op.create_table(
        "drift",
        sa.Column("number", BIG, autoincrement=True, nullable=False),
        sa.Column("host", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("found_at", MOMENT, nullable=False),
        sa.Column("gone_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_drift_host_hosts"),
        sa.PrimaryKeyConstraint("number", name="pk_drift"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_drift_once_while_open",
        "drift",
        ["host", "kind", "subject"],
        unique=True,
        sqlite_where=sa.text("gone_at IS NULL"),
        postgresql_where=sa.text("gone_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("uq_drift_once_while_open", table_name="drift")
    op.drop_table("drift")
    op.drop_index("ix_instance_events_instance", table_name="instance_events")
    op.drop_table("instance_events")
