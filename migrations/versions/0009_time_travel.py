"""A journal that went back in time: the hosts that are held because of it, and what is done about it.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("hosts", sa.Column("recovering_because", sa.Text(), nullable=True))
    op.add_column("hosts", sa.Column("recovering_since", MOMENT, nullable=True))
    op.create_table(
        "recoveries",
        sa.Column("number", BIG, autoincrement=True, nullable=False),
        sa.Column("host", sa.String(length=63), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("begun_at", MOMENT, nullable=False),
        sa.Column("plan", JSON, nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("planned_at", MOMENT, nullable=True),
        sa.Column("wanted", sa.String(length=64), nullable=True),
        sa.Column("wanted_by", sa.String(length=255), nullable=True),
        sa.Column("wanted_because", sa.Text(), nullable=True),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name=op.f("fk_recoveries_host_hosts")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_recoveries")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_recoveries_one_open_per_host",
        "recoveries",
        ["host"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("uq_recoveries_one_open_per_host", table_name="recoveries")
    op.drop_table("recoveries")
    op.drop_column("hosts", "recovering_since")
    op.drop_column("hosts", "recovering_because")
