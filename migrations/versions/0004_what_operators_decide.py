"""What operators decide: steps that they skip, and runs that they begin anew at the end of the line.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TRIGGER = "jobs_stay_what_they_are"
KEPT = (
    "NEW.id <> OLD.id OR NEW.instance <> OLD.instance"
    " OR NEW.operation <> OLD.operation OR NEW.payload_digest <> OLD.payload_digest"
)
#: What is refused, and the sentence that says so: since this revision, and before.
SINCE = (
    f"{KEPT} OR NEW.number < OLD.number OR (NEW.number <> OLD.number AND NEW.run = OLD.run)",
    "the id, instance, operation and payload of a job never change, and its number only grows with a new run",
)
BEFORE = (
    f"{KEPT} OR NEW.number <> OLD.number",
    "the id, number, instance, operation and payload of a job never change",
)


def upgrade() -> None:
    op.add_column("steps", sa.Column("skipped_by", sa.String(length=255), nullable=True))
    _replace(*SINCE)


def downgrade() -> None:
    _replace(*BEFORE)
    op.drop_column("steps", "skipped_by")


def _replace(refused: str, sentence: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP TRIGGER {TRIGGER} ON jobs")
        op.execute(
            f"CREATE OR REPLACE FUNCTION {TRIGGER}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION '{TRIGGER}: {sentence}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {TRIGGER} BEFORE UPDATE ON jobs FOR EACH ROW WHEN ({refused}) EXECUTE FUNCTION {TRIGGER}()"
        )
        return
    op.execute(f"DROP TRIGGER {TRIGGER}")
    op.execute(
        f"CREATE TRIGGER {TRIGGER} BEFORE UPDATE ON jobs FOR EACH ROW WHEN {refused} "
        f"BEGIN SELECT RAISE(ABORT, '{TRIGGER}: {sentence}'); END"
    )
