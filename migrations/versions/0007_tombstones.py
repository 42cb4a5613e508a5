"""Tombstones: what stays of a job that was pruned, and what keeps its id from ever running again.

A downgrade forgets which jobs were pruned; their requests and histories are gone all the same.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FINAL = "('succeeded', 'failed', 'cancelled')"
#: What a pruning leaves as it is: all but the request and the canvas.
KEPT = (
    "id",
    "number",
    "operation",
    "operation_version",
    "job_class",
    "instance",
    "host",
    "sent_to",
    "home",
    "peer",
    "hopping",
    "payload_digest",
    "state",
    "run",
    "epoch",
    "owner",
    "past_return",
    "verdict",
    "error",
    "outcome",
    "superseded_by",
    "cancel_requested_at",
    "force_complete_requested_at",
    "not_before",
    "waits",
    "progress",
    "submitted_at",
    "started_at",
    "ended_at",
)
FINAL_IS_FINAL = "jobs_final_is_final"
SETTLED_WRITTEN = f"OLD.state IN {FINAL} AND NEW.run = OLD.run"
SETTLED_SENTENCE = "a settled job changes only with a new run"

#: name, moment, the condition that is refused, and the sentence that says so; all are of jobs.
TRIGGERS = (
    ("jobs_tombstones_stay", "UPDATE", "OLD.pruned_at IS NOT NULL", "what is left of a pruned job never changes"),
    (
        "jobs_pruned_once_settled",
        "UPDATE",
        f"OLD.pruned_at IS NULL AND NEW.pruned_at IS NOT NULL AND NOT ({SETTLED_WRITTEN})",
        "only a settled job is pruned",
    ),
    ("jobs_are_never_forgotten", "DELETE", "1 = 1", "the id, payload digest and outcome of a job are kept for ever"),
)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_jobs_prunable",
        "jobs",
        ["ended_at"],
        sqlite_where=sa.text("pruned_at IS NULL AND ended_at IS NOT NULL"),
        postgresql_where=sa.text("pruned_at IS NULL AND ended_at IS NOT NULL"),
    )
    same = "IS NOT DISTINCT FROM" if _is_postgresql() else "IS"
    kept = " AND ".join(f"NEW.{column} {same} OLD.{column}" for column in KEPT)
    pruned = f"OLD.pruned_at IS NULL AND NEW.pruned_at IS NOT NULL AND {kept}"
    _drop(FINAL_IS_FINAL)
    _create(FINAL_IS_FINAL, "UPDATE", f"{SETTLED_WRITTEN} AND NOT ({pruned})", SETTLED_SENTENCE)
    for trigger in TRIGGERS:
        _create(*trigger)


def downgrade() -> None:
    for name in (FINAL_IS_FINAL, *(trigger[0] for trigger in TRIGGERS)):
        _drop(name)
    _create(FINAL_IS_FINAL, "UPDATE", SETTLED_WRITTEN, SETTLED_SENTENCE)
    op.drop_index("ix_jobs_prunable", table_name="jobs")
    op.drop_column("jobs", "pruned_at")


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _create(name: str, moment: str, refused: str, sentence: str) -> None:
    if _is_postgresql():
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION '{name}: {sentence}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {moment} ON jobs FOR EACH ROW WHEN ({refused}) EXECUTE FUNCTION {name}()"
        )
        return
    op.execute(
        f"CREATE TRIGGER {name} BEFORE {moment} ON jobs FOR EACH ROW WHEN {refused} "
        f"BEGIN SELECT RAISE(ABORT, '{name}: {sentence}'); END"
    )


def _drop(name: str) -> None:
    if _is_postgresql():
        op.execute(f"DROP TRIGGER {name} ON jobs")
        op.execute(f"DROP FUNCTION {name}()")
        return
    op.execute(f"DROP TRIGGER {name}")
