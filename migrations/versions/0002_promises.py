"""The promises that triggers keep: what no program, this one included, can write.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FINAL = "('succeeded', 'failed', 'cancelled')"

#: name, table, moment, the condition that is refused, and the sentence that says so.
TRIGGERS = (
    (
        "jobs_final_is_final",
        "jobs",
        "UPDATE",
        f"OLD.state IN {FINAL} AND NEW.run = OLD.run",
        "a settled job changes only with a new run",
    ),
    (
        "jobs_new_run_from_final",
        "jobs",
        "UPDATE",
        f"NEW.run <> OLD.run AND NOT (OLD.state IN {FINAL} AND NEW.run = OLD.run + 1 AND NEW.state = 'queued')",
        "a new run begins queued, one after the run that was settled",
    ),
    (
        "jobs_states_move_as_named",
        "jobs",
        "UPDATE",
        (
            "NEW.run = OLD.run AND NEW.state <> OLD.state AND NOT ("
            "(OLD.state = 'queued' AND NEW.state IN ('running', 'cancelled'))"
            " OR (OLD.state = 'running' AND NEW.state <> 'queued')"
            " OR (OLD.state = 'waiting' AND NEW.state IN ('running', 'cancelled', 'quarantined'))"
            " OR (OLD.state = 'quarantined' AND NEW.state IN ('running', 'succeeded', 'failed', 'cancelled')))"
        ),
        "there is no such move between states of a job",
    ),
    ("jobs_epoch_only_grows", "jobs", "UPDATE", "NEW.epoch < OLD.epoch", "an epoch only grows"),
    (
        "jobs_stay_what_they_are",
        "jobs",
        "UPDATE",
        (
            "NEW.id <> OLD.id OR NEW.number <> OLD.number OR NEW.instance <> OLD.instance"
            " OR NEW.operation <> OLD.operation OR NEW.payload_digest <> OLD.payload_digest"
        ),
        "the id, number, instance, operation and payload of a job never change",
    ),
    ("instances_epoch_only_grows", "instances", "UPDATE", "NEW.epoch < OLD.epoch", "an epoch only grows"),
    ("hosts_sequence_only_grows", "hosts", "UPDATE", "NEW.sequence < OLD.sequence", "a host sequence only grows"),
    ("steps_epoch_only_grows", "steps", "UPDATE", "NEW.epoch < OLD.epoch", "an epoch only grows"),
    (
        "runs_final_is_final",
        "runs",
        "UPDATE",
        f"OLD.state IN {FINAL}",
        "a settled run never changes",
    ),
    ("job_events_never_change", "job_events", "UPDATE", "1 = 1", "history is only appended to"),
    (
        "job_events_stay_while_open",
        "job_events",
        "DELETE",
        f"NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = OLD.job AND jobs.state IN {FINAL})",
        "the history of a job that is not settled is kept",
    ),
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for name, table, moment, refused, sentence in TRIGGERS:
            op.execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"RAISE EXCEPTION '{name}: {sentence}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
            )
            # A trigger's WHEN may hold no subquery: such a condition is asked for inside a function of its own.
            if "SELECT" in refused:
                op.execute(
                    f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                    f"IF {refused} THEN RAISE EXCEPTION '{name}: {sentence}' "
                    f"USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN OLD; END $$"
                )
                when = ""
            else:
                when = f"WHEN ({refused}) "
            op.execute(f"CREATE TRIGGER {name} BEFORE {moment} ON {table} FOR EACH ROW {when}EXECUTE FUNCTION {name}()")
        return
    for name, table, moment, refused, sentence in TRIGGERS:
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {moment} ON {table} FOR EACH ROW WHEN {refused} "
            f"BEGIN SELECT RAISE(ABORT, '{name}: {sentence}'); END"
        )


def downgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    for name, table, _moment, _refused, _sentence in TRIGGERS:
        op.execute(f"DROP TRIGGER {name} ON {table}" if postgresql else f"DROP TRIGGER {name}")
        if postgresql:
            op.execute(f"DROP FUNCTION {name}()")
