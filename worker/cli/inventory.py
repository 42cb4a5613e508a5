"""Instances and hosts: listed and shown."""

import click

from worker.cli.exits import OK
from worker.cli.group import JSON_OPTION, console, hostler, instance_uuid, journal, no_such, print_json, settings


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
