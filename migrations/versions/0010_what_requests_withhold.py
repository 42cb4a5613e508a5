"""What requests withhold: user data, kept apart from the request and dropped as the job becomes final.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TRIGGER = "withheld_parts_end_with_their_job"
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
FINAL = "NEW.state IN ('succeeded', 'failed', 'cancelled')"
DROP = "DELETE FROM withheld_parts WHERE job = NEW.id;"


def upgrade() -> None:
    op.create_table(
        "withheld_parts",
        sa.Column("job", sa.String(length=128), nullable=False),
        sa.Column("parts", JSON, nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_withheld_parts_job_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", name="pk_withheld_parts"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE FUNCTION {TRIGGER}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {DROP} RETURN NULL; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {TRIGGER} AFTER UPDATE OF state ON jobs FOR EACH ROW WHEN ({FINAL}) "
            f"EXECUTE FUNCTION {TRIGGER}()"
        )
        return
    op.execute(f"CREATE TRIGGER {TRIGGER} AFTER UPDATE OF state ON jobs FOR EACH ROW WHEN {FINAL} BEGIN {DROP} END")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP TRIGGER {TRIGGER} ON jobs")
        op.execute(f"DROP FUNCTION {TRIGGER}()")
    else:
        op.execute(f"DROP TRIGGER {TRIGGER}")
    op.drop_table("withheld_parts")
