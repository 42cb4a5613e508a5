"""Jobs with steps on two hosts, the progress of long calls, and what no two devices may share.

Revision ID: 0003
Revises: 0002
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
ADDED: tuple[tuple[str, "sa.Column[Any]"], ...] = (
    ("hosts", sa.Column("peer_libvirt_uri", sa.String(length=255), nullable=True)),
    ("hosts", sa.Column("migration_address", sa.String(length=255), nullable=True)),
    ("devices", sa.Column("exclusive", sa.String(length=160), nullable=True)),
    ("devices", sa.Column("place", sa.Text(), nullable=True)),
    ("jobs", sa.Column("home", sa.String(length=63), nullable=True)),
    ("jobs", sa.Column("peer", sa.String(length=63), nullable=True)),
    ("jobs", sa.Column("hopping", sa.Boolean(), nullable=False, server_default=sa.false())),
    ("jobs", sa.Column("progress", JSON, nullable=True)),
    ("jobs", sa.Column("force_complete_requested_at", sa.DateTime(timezone=True), nullable=True)),
)


def upgrade() -> None:
    for table, column in ADDED:
        op.add_column(table, column)
    op.create_index("uq_devices_exclusive", "devices", ["exclusive"], unique=True)
    op.create_index("uq_devices_place", "devices", ["place"], unique=True)


def downgrade() -> None:
    op.drop_index("uq_devices_place", table_name="devices")
    op.drop_index("uq_devices_exclusive", table_name="devices")
    for table, column in reversed(ADDED):
        op.drop_column(table, column.name)
