"""Submitting a job, and following it."""

import json
import math
import uuid
from typing import IO, TYPE_CHECKING

import click

from worker.cli.exits import OK, TIMEOUT
from worker.cli.group import JSON_OPTION, actor, console, hostler, journal, print_json, settings

if TYPE_CHECKING:
    from models.engine import Database
    from models.journal.accepting import Accepted
    from models.records import JobRecord
    from worker.settings import Settings


@hostler.command()
@click.argument("operation")
@click.option("--host", required=True, help="The host that the job is for.")
@click.option("--instance", required=True, help="UUID of the instance.")
@click.option("--request", "request_file", type=click.File("r"), required=True, help="JSON file, or - for stdin.")
@click.option("--job-id", help="Id of the job; the same id with the same request is the same job.")
@click.option("--wait", is_flag=True, help="Show the job's progress, and exit as it ends.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), help="With --wait: seconds to wait at most.")
@JSON_OPTION
def submit(  # noqa: PLR0913, PLR0917  # its options
    operation: str,
    host: str,
    instance: str,
    request_file: IO[str],
    job_id: str | None,
    wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> int:
    """Submit a job and print its id."""
    from models.inventory import host_exists
    from models.journal.accepting import accept
    from tasks.catalogue import OPERATIONS
    from tasks.requests import BadRequestError
    from tasks.submission import read_submission

    told = settings()
    try:
        document = json.load(request_file)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"request: it is not JSON ({error}).") from None
    if timeout_s is not None and not math.isfinite(timeout_s):
        raise BadRequestError("timeout: a number of seconds is needed.")
    submission = read_submission(
        OPERATIONS,
        operation=operation,
        host=host,
        instance=instance,
        request=document,
        job_id=job_id if job_id is not None else str(uuid.uuid4()),
        actor=actor(),
    )
    database = journal(told)
    if not host_exists(database, host):
        raise BadRequestError(f"host: no worker ever served {host!r}; `hostler hosts list` shows those that did.")
    accepted = accept(database, submission, outbox=told.broker_url is not None)
    if not as_json or wait:
        click.echo(accepted.job.id, err=as_json)
    ring(told, database, accepted)
    warn_of_silence(database, host)
    _warn_of_waiting(database, accepted.job)
    if wait:
        return follow_job(database, accepted.job.id, timeout_s, as_json=as_json)
    if as_json:
        from worker.cli.documents import job_document

        print_json(job_document(accepted.job))
    return OK


def ring(told: "Settings", database: "Database", accepted: "Accepted") -> None:
    """Ring the host's worker; the job is accepted whether or not that works."""
    if told.broker_url is None or not accepted.new:
        return
    from worker.celery_app.submitting import ring_now

    error = ring_now(told, database, accepted.job.id)
    if error is not None:
        click.echo(f"hostler: accepted; the broker was not told ({error}), the worker finds the job itself.", err=True)


def warn_of_silence(database: "Database", host: str) -> None:
    """Say so when nobody serves the host now: the job waits."""
    from models import reading
    from worker.cli.sentences import silence_sentence

    silence = silence_sentence(next(found for found in reading.list_hosts(database) if found.name == host))
    if silence:
        click.echo(f"hostler: {silence}; the job waits for it.", err=True)


def _warn_of_waiting(database: "Database", job: "JobRecord") -> None:
    from models.availability import why_waiting

    not_yet = why_waiting(database, job)
    if not_yet is not None:
        click.echo(f"hostler: {not_yet}; the job waits.", err=True)


def follow_job(database: "Database", job_id: str, timeout_s: float | None, *, as_json: bool) -> int:
    """Show the job until it ends; the exit status."""
    from worker.cli.documents import job_details_document
    from worker.cli.following import follow

    try:
        details, status = follow(database, job_id, timeout_s=timeout_s, console=console(stderr=True))
    except KeyboardInterrupt:
        click.echo(f"\nThe job goes on. Watch it: hostler jobs watch {job_id}", err=True)
        return 130
    if as_json:
        print_json(job_details_document(details))
    if status == TIMEOUT:  # the waiting ended, not the job
        click.echo(f"hostler: not ended in time; it goes on. Watch it: hostler jobs watch {job_id}", err=True)
    return status
