"""The worker, its database, and what may be asked of it."""

import logging
import sys

import click

from worker.cli.exits import OK
from worker.cli.group import hostler, print_json, settings


@hostler.command()
def worker() -> int:
    """Serve this host: take its jobs and carry them out, until a signal ends it."""
    from worker.wiring import run_worker

    told = settings()
    logging.basicConfig(
        level=told.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
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
