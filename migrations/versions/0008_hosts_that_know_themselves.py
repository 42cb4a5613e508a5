"""What a host is and has, why it takes no new guests, and an operator's word that its name may go to another machine.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
MOMENT = sa.DateTime(timezone=True)
COLUMNS = (
    ("capabilities", JSON),
    ("inventory", JSON),
    ("disabled_by", sa.String(length=255)),
    ("disabled_because", sa.Text()),
    ("disabled_at", MOMENT),
    ("down_because", sa.Text()),
    ("down_since", MOMENT),
    ("rebind_by", sa.String(length=255)),
    ("rebind_because", sa.Text()),
)


def upgrade() -> None:
    for name, kind in COLUMNS:
        op.add_column("hosts", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name, _ in reversed(COLUMNS):
        op.drop_column("hosts", name)
