"""Jobs: listed, shown, watched, and what operators decide of them."""

from typing import TYPE_CHECKING

import click

from worker.cli.exits import BAD_REQUEST, OK
from worker.cli.group import (
    BECAUSE_NEEDED,
    JSON_OPTION,
    actor,
    console,
    hostler,
    instance_uuid,
    journal,
    no_such,
    print_json,
    settings,
)
from worker.cli.submit import follow_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.engine import Database
    from models.journal.asking import Answer


@hostler.group()
def jobs() -> None:
    """Jobs: requests for one operation on one instance."""


@jobs.command("list")
@click.option("--host", help="Only jobs that are for this host.")
@click.option("--instance", help="Only jobs of this instance.")
@click.option("--state", "states", multiple=True, help="Only jobs in this state; may be given again.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@JSON_OPTION
def list_jobs(host: str | None, instance: str | None, states: tuple[str, ...], limit: int, as_json: bool) -> int:
    """List jobs, newest first."""
    from models import reading
    from models.states import JobState
    from tasks.requests import BadRequestError
    from worker.cli import tables
    from worker.cli.documents import job_document

    try:
        wanted = [JobState(state) for state in states]
    except ValueError:
        raise BadRequestError(f"state: one of {', '.join(JobState)} is needed.") from None
    found = reading.list_jobs(
        journal(settings()),
        host=host,
        instance=None if instance is None else instance_uuid(instance),
        states=wanted,
        limit=limit,
    )
    if as_json:
        print_json([job_document(job) for job in found])
    else:
        console().print(tables.jobs(found))
    return OK


@jobs.command("show")
@click.argument("job_id")
@JSON_OPTION
def show_job(job_id: str, as_json: bool) -> int:
    """Show a job: what it is doing, and why."""
    from models import reading
    from models.availability import why_waiting
    from models.states import JobState
    from worker.cli import tables
    from worker.cli.documents import job_details_document

    database = journal(settings())
    details = reading.job_details(database, job_id)
    if details is None:
        no_such("job", job_id)
    if as_json:
        print_json(job_details_document(details))
    else:
        open_on = "" if details.job.ended_at is not None else details.job.host
        host = next((found for found in reading.list_hosts(database) if found.name == open_on), None)
        queued = details.job.state is JobState.QUEUED
        first = reading.job_in_the_way(database, details.job) if queued else None
        not_yet = why_waiting(database, details.job)
        console().print(tables.job(details, host, first, not_yet))
    return OK


@jobs.command("watch")
@click.argument("job_id")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), help="Seconds to watch at most.")
@JSON_OPTION
def watch_job(job_id: str, timeout_s: float | None, as_json: bool) -> int:
    """Follow a job to its end, and exit as it ends."""
    from models import reading

    database = journal(settings())
    if reading.job(database, job_id) is None:
        no_such("job", job_id)
    return follow_job(database, job_id, timeout_s, as_json=as_json)


BECAUSE = click.option("--because", "reason", default="", help="Why; it stands in the job's history.")


@jobs.command("cancel")
@click.argument("job_id")
@BECAUSE
def cancel_job(job_id: str, reason: str) -> int:
    """Ask a job to stop: a queued one at once, a running one at its next safe point, undone."""
    from models.journal.asking import Asked, request_cancel

    return _decide(job_id, lambda database, told: request_cancel(database, job_id, Asked(actor(), reason), outbox=told))


@jobs.command("force-complete")
@click.argument("job_id")
@BECAUSE
def force_complete_job(job_id: str, reason: str) -> int:
    """Have a migration be over soon: by post-copy where its request permits that, else by pausing its guest."""
    from models.journal.asking import Asked, request_force_complete

    return _decide(job_id, lambda database, _: request_force_complete(database, job_id, Asked(actor(), reason)))


@jobs.command("retry")
@click.argument("job_id")
@click.option(
    "--force", is_flag=True, help="Also if it, or a later job of its instance, has succeeded; needs --because."
)
@BECAUSE
def retry_job(job_id: str, reason: str, *, force: bool) -> int:
    """Begin a failed or cancelled job anew, under the same id, behind what else is asked of its instance."""
    from models.journal.asking import Asked
    from models.journal.deciding import retry

    asked = Asked(actor(), reason)
    return _decide(job_id, lambda database, told: retry(database, job_id, asked, outbox=told, force=force))


@jobs.command("resume")
@click.argument("job_id")
@click.option("--from", "from_step", help="Count the steps before this one as they are; they are not looked at.")
@BECAUSE
def resume_job(job_id: str, from_step: str | None, reason: str) -> int:
    """Have a quarantined job go on where it was; a waiting one tries again now."""
    from models.journal.asking import Asked
    from models.journal.deciding import resume

    asked = Asked(actor(), reason)
    return _decide(job_id, lambda database, told: resume(database, job_id, asked, outbox=told, from_step=from_step))


@jobs.command("skip")
@click.argument("job_id")
@click.argument("step")
@BECAUSE_NEEDED
def skip_step(job_id: str, step: str, reason: str) -> int:
    """Count one step of a quarantined or waiting job as past, whatever the host shows; then resume the job."""
    from models.journal.asking import Asked
    from models.journal.deciding import skip

    return _decide(job_id, lambda database, _: skip(database, job_id, Asked(actor(), reason), step=step))


@jobs.command("settle")
@click.argument("job_id")
@click.option("--succeeded/--failed", default=None, help="What it came to, as you found it.")
@BECAUSE_NEEDED
def settle_job(job_id: str, reason: str, *, succeeded: bool | None) -> int:
    """End a job that cannot end by itself, as you found it on the host; nothing is done there."""
    from models.journal.asking import Asked
    from models.journal.deciding import settle_by_hand

    if succeeded is None:
        raise click.UsageError("say --succeeded or --failed.")
    asked, outcome = Asked(actor(), reason), succeeded
    return _decide(
        job_id, lambda database, told: settle_by_hand(database, job_id, asked, succeeded=outcome, outbox=told)
    )


def _decide(job_id: str, decide: "Callable[[Database, bool], Answer]") -> int:
    """Have it decided, tell Celery of it, and say what became of it; the exit status."""
    from models import reading

    outside = settings()
    database = journal(outside)
    if reading.job(database, job_id) is None:
        no_such("job", job_id)
    told = outside.broker_url is not None or outside.results_url is not None
    answer = decide(database, told)
    click.echo(answer.sentence, err=not answer.taken)
    if answer.taken and told:
        from worker.celery_app.submitting import ring_now

        error = ring_now(outside, database, job_id)
        if error is not None:
            click.echo(f"hostler: Celery was not told ({error}); the worker tells it as soon as it can.", err=True)
    return OK if answer.taken else BAD_REQUEST
