"""The worker, its database, and what may be asked of it."""

import faulthandler
import gc
import logging
import math
import sys
from datetime import timedelta

import click

from worker.cli.exits import OK
from worker.cli.group import hostler, journal, print_json, settings


@hostler.command()
def worker() -> int:
    """Serve this host: take its jobs and carry them out, until a signal ends it."""
    gc.disable()  # what is imported is no garbage: looking for it would take a sixth of the start
    from worker.wiring import run_worker

    gc.enable()
    told = settings()
    logging.basicConfig(
        level=told.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    faulthandler.enable()  # a supervisor's SIGABRT leaves the stacks of all threads in the log
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return run_worker(told)


@hostler.group()
def db() -> None:
    """The database."""


@db.command()
def upgrade() -> int:
    """Bring the journal up to the revision that this program needs."""
    import migrations
    from models.engine import Database
    from worker.settings import masked

    told = settings()
    database = Database(told.journal_url)
    shown = masked(told.journal_url)
    if database.file is not None:
        database.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = migrations.current(database)
    migrations.upgrade(database)
    after = migrations.current(database)
    if before == after:
        click.echo(f"{shown} is at revision {after} already.")
    else:
        click.echo(f"{shown}: from revision {before or 'none'} to {after}.")
    return OK


@db.command()
@click.option(
    "--older-than-days",
    "days",
    type=click.FloatRange(min=0, max=36_500),
    help="Jobs that ended longer ago than that; HOSTLER_RETENTION_DAYS by default.",
)
@click.option("--dry-run", is_flag=True, help="Count them, and change nothing.")
def prune(days: float | None, *, dry_run: bool) -> int:
    """Remove the requests, steps and histories of jobs that ended long ago, in small batches.

    What each came to stays, and its id never runs again. It may be interrupted at any time, and run beside workers.
    """
    from models.journal.pruning import count_prunable
    from models.journal.pruning import prune as prune_batch
    from worker.settings import ConfigurationError

    told = settings()
    kept_days = told.retention_days if days is None else days
    if kept_days is None:
        raise ConfigurationError(
            "HOSTLER_RETENTION_DAYS: it is not set, so say --older-than-days: how long jobs are kept after their end."
        )
    if math.isnan(kept_days):
        raise click.UsageError("--older-than-days: a number of days is needed.")
    database, older_than = journal(told), timedelta(days=kept_days)
    if dry_run:
        click.echo(f"{count_prunable(database, older_than)} jobs would be pruned.")
        return OK
    pruned = 0
    while batch := prune_batch(database, older_than):
        pruned += batch.jobs
    click.echo(f"{pruned} jobs were pruned.")
    return OK


@hostler.command()
@click.argument("operation")
def schema(operation: str) -> int:
    """Print the JSON schema of an operation's request."""
    from tasks.catalogue import OPERATIONS
    from tasks.requests import BadRequestError

    if operation not in OPERATIONS:
        raise BadRequestError(f"operation: there is no {operation!r}; there are {', '.join(sorted(OPERATIONS))}.")
    print_json(OPERATIONS[operation].request.model_json_schema())
    return OK
