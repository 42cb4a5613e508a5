"""Adopting domains that others made, and giving them back: each a job, as any other."""

import uuid
from typing import TYPE_CHECKING
from uuid import UUID

import click

from worker.cli.exits import OK
from worker.cli.group import JSON_OPTION, actor, instance_uuid, journal, print_json, settings
from worker.cli.inventory import instances
from worker.cli.submit import ring, warn_of_silence

if TYPE_CHECKING:
    from models.engine import Database

_UUIDS = click.argument("uuids", nargs=-1, metavar="[UUID]...")


@instances.command("adopt")
@click.option("--host", required=True, help="The host that has the domains.")
@_UUIDS
@click.option("--all", "everything", is_flag=True, help="All domains that the host's worker saw there and knows not.")
@JSON_OPTION
def adopt_domains(host: str, uuids: tuple[str, ...], *, everything: bool, as_json: bool) -> int:
    """Take existing domains into the journal; their guests, disks and definitions stay as they are."""
    from models import reading
    from models.observing import NOT_THERE
    from tasks.requests import BadRequestError

    if bool(uuids) == everything:
        raise BadRequestError("uuids: name domains, or say --all.")
    database = journal(settings())
    wanted = _unknown_on(database, host) if everything else [instance_uuid(each) for each in uuids]
    for each in wanted:
        known = reading.instance(database, each)
        if known is not None and known.state not in NOT_THERE:
            raise BadRequestError(f"uuids: {each} is in the journal already, as an instance of host {known.host}.")
    return _submit("adopt", host, dict.fromkeys(wanted, host), as_json=as_json, database=database)


@instances.command("release")
@click.argument("uuids", nargs=-1, required=True, metavar="UUID...")
@JSON_OPTION
def release_domains(uuids: tuple[str, ...], *, as_json: bool) -> int:
    """Forget instances, and give their domains back; guests, disks and definitions stay as they are."""
    from models import reading
    from models.observing import NOT_THERE
    from tasks.requests import BadRequestError

    database = journal(settings())
    hosts: dict[UUID, str] = {}
    for each in map(instance_uuid, uuids):
        known = reading.instance(database, each)
        if known is None or known.state in NOT_THERE or known.host is None:
            raise BadRequestError(f"uuids: the journal has no instance {each}.")
        hosts[each] = known.host
    return _submit("release", "", hosts, as_json=as_json, database=database)


def _unknown_on(database: "Database", host: str) -> list[UUID]:
    """What the host's worker found there that is no instance of any host."""
    from models.observing import list_drift
    from models.states import DriftKind

    found = [drift for drift in list_drift(database, host=host) if drift.kind is DriftKind.UNKNOWN]
    return [UUID(drift.subject) for drift in found if drift.data["lives_on"] is None]


def _submit(operation: str, host: str, hosts: dict[UUID, str], *, as_json: bool, database: "Database") -> int:
    """A job for each, on its host; printed are their ids."""
    from models.inventory import host_exists
    from models.journal.accepting import accept
    from tasks.catalogue import OPERATIONS
    from tasks.requests import BadRequestError
    from tasks.submission import read_submission
    from worker.cli.documents import job_document

    told = settings()
    for each in sorted({host, *hosts.values()} - {""}):
        if not host_exists(database, each):
            raise BadRequestError(f"host: no worker ever served {each!r}; `hostler hosts list` shows those that did.")
    accepted = []
    for instance, where in hosts.items():
        submission = read_submission(
            OPERATIONS,
            operation=operation,
            host=where,
            instance=str(instance),
            request={},
            job_id=str(uuid.uuid4()),
            actor=actor(),
        )
        job = accept(database, submission, outbox=told.broker_url is not None)
        ring(told, database, job)
        accepted.append(job.job)
        if not as_json:
            click.echo(f"{job.job.id}  {operation}  {instance}  on {where}")
    if as_json:
        print_json([job_document(job) for job in accepted])
    elif not accepted:
        click.echo("nothing to do: the host's worker saw no domain that is not in the journal.", err=True)
    for each in sorted(set(hosts.values())):
        warn_of_silence(database, each)
    return OK
