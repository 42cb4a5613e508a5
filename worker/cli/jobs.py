"""Jobs: listed, shown, watched, cancelled, made to complete."""

import click

from worker.cli.exits import BAD_REQUEST, OK
from worker.cli.group import JSON_OPTION, actor, console, hostler, instance_uuid, journal, no_such, print_json, settings
from worker.cli.submit import follow_job


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
        console().print(tables.job(details, host, first))
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


@jobs.command("cancel")
@click.argument("job_id")
@click.option("--because", "reason", default="", help="Why; it stands in the job's history.")
def cancel_job(job_id: str, reason: str) -> int:
    """Ask a job to stop: a queued one at once, a running one at its next safe point, undone."""
    from models import reading
    from models.journal.asking import request_cancel

    outside = settings()
    database = journal(outside)
    if reading.job(database, job_id) is None:
        no_such("job", job_id)
    told = outside.broker_url is not None or outside.results_url is not None
    answer = request_cancel(database, job_id, actor=actor(), reason=reason, outbox=told)
    click.echo(answer.sentence, err=not answer.taken)
    return OK if answer.taken else BAD_REQUEST


@jobs.command("force-complete")
@click.argument("job_id")
@click.option("--because", "reason", default="", help="Why; it stands in the job's history.")
def force_complete_job(job_id: str, reason: str) -> int:
    """Have a migration be over soon: by post-copy where its request permits that, else by pausing its guest."""
    from models import reading
    from models.journal.asking import request_force_complete

    database = journal(settings())
    if reading.job(database, job_id) is None:
        no_such("job", job_id)
    answer = request_force_complete(database, job_id, actor=actor(), reason=reason)
    click.echo(answer.sentence, err=not answer.taken)
    return OK if answer.taken else BAD_REQUEST
