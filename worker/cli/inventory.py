"""Instances and hosts: listed and shown."""

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

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.engine import Database
    from models.journal.asking import Answer, Asked
    from models.reading import HostRecord


@hostler.group()
def instances() -> None:
    """Instances: what the database remembers of VMs."""


@instances.command("list")
@click.option("--host", help="Only instances on this host.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=200, show_default=True)
@JSON_OPTION
def list_instances(host: str | None, limit: int, as_json: bool) -> int:
    """List instances, newest first."""
    from models import reading
    from worker.cli import tables
    from worker.cli.documents import instance_document

    found = reading.list_instances(journal(settings()), host=host, limit=limit)
    if as_json:
        print_json([instance_document(instance) for instance in found])
    else:
        console().print(tables.instances(found))
    return OK


@instances.command("show")
@click.argument("instance_id")
@JSON_OPTION
def show_instance(instance_id: str, as_json: bool) -> int:
    """Show an instance, its devices, and what happened to it by itself."""
    from models import reading
    from models.observing import events_of
    from worker.cli import tables
    from worker.cli.documents import event_of_instance_document, instance_document

    database = journal(settings())
    found = reading.instance(database, instance_uuid(instance_id))
    if found is None:
        no_such("instance", instance_id)
    happened = events_of(database, found.id)
    if as_json:
        events = [event_of_instance_document(event) for event in happened]
        print_json(instance_document(found) | {"events": events})
    else:
        console().print(tables.instance(found, happened))
    return OK


@hostler.group()
def hosts() -> None:
    """Hosts, and the workers that serve them."""


@hosts.command("list")
@JSON_OPTION
def list_hosts(as_json: bool) -> int:
    """List hosts."""
    from models import reading
    from worker.cli import tables
    from worker.cli.documents import host_document

    found = reading.list_hosts(journal(settings()))
    if as_json:
        print_json([host_document(host) for host in found])
    else:
        console().print(tables.hosts(found))
    return OK


@hosts.command("show")
@click.argument("name")
@JSON_OPTION
def show_host(name: str, as_json: bool) -> int:
    """Show a host: its worker, what it can do and has to give, and why it is disabled."""
    from worker.cli import tables
    from worker.cli.documents import host_details_document

    found = _host(journal(settings()), name)
    if as_json:
        print_json(host_details_document(found))
    else:
        console().print(tables.host(found))
    return OK


@hosts.command("disable")
@click.argument("name")
@BECAUSE_NEEDED
def disable_host(name: str, reason: str) -> int:
    """Let no new guest come to a host.

    Spawns on it and migrations to it that are not begun stay queued; all else goes on: destroy, attach, detach, power,
    migrations away.
    """
    from models.journal import closing

    return _decide(closing.disable_host, name, reason)


@hosts.command("drain")
@click.argument("name")
@BECAUSE_NEEDED
def drain_host(name: str, reason: str) -> int:
    """Let no job begin on a host, a destroy neither; those that were begun end."""
    from models.journal import closing

    return _decide(closing.drain_host, name, reason)


@hosts.command("enable")
@click.argument("name")
def enable_host(name: str) -> int:
    """Take `disable` or `drain` back."""
    from models.journal import closing

    return _decide(closing.enable_host, name, "")


@hosts.command("rebind")
@click.argument("name")
@BECAUSE_NEEDED
def rebind_host(name: str, reason: str) -> int:
    """Let the next machine that starts a worker under this name have it.

    Make sure that the old one never comes back with its guests: what the journal says of them is the new one's then.
    """
    from models.inventory import NotRebound, rebind

    database = journal(settings())
    kept = rebind(database, name, actor(), reason)
    if isinstance(kept, NotRebound):
        click.echo(f"hostler: {kept.why}.", err=True)
        return BAD_REQUEST
    click.echo(f"the next machine that serves {name} has the name; the journal has {kept} instances there.")
    return OK


def _decide(decide: "Callable[[Database, str, Asked], Answer]", name: str, reason: str) -> int:
    from models.journal.asking import Asked

    answer = decide(journal(settings()), name, Asked(actor(), reason))
    click.echo(answer.sentence if answer.taken else f"hostler: {answer.sentence}", err=not answer.taken)
    return OK if answer.taken else BAD_REQUEST


def _host(database: "Database", name: str) -> "HostRecord":
    from models import reading

    found = next((host for host in reading.list_hosts(database) if host.name == name), None)
    return no_such("host", name) if found is None else found
