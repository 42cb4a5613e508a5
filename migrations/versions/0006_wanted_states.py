"""Wanted states: what each instance was last made to be, and the boot of its host that was answered last.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

#: What an instance of an earlier revision is now is what it was made to be.
LASTING = ("running", "paused", "suspended", "stopped", "deleted")


def upgrade() -> None:
    op.add_column("instances", sa.Column("wanted", sa.String(length=32), nullable=True))
    op.add_column("hosts", sa.Column("boot_id", sa.String(length=64), nullable=True))
    instances = sa.table("instances", sa.column("state", sa.String()), sa.column("wanted", sa.String()))
    op.execute(instances.update().where(instances.c.state.in_(LASTING)).values(wanted=instances.c.state))


def downgrade() -> None:
    op.drop_column("hosts", "boot_id")
    op.drop_column("instances", "wanted")
