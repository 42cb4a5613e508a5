"""Drift: listed. It is put right by jobs, or by whoever made it."""

import click

from worker.cli.exits import OK
from worker.cli.group import JSON_OPTION, console, hostler, journal, print_json, settings


@hostler.command("drift")
@click.option("--host", help="Only what this host tells differently.")
@JSON_OPTION
def list_drift(host: str | None, as_json: bool) -> int:
    """List what hosts and journal tell differently, as the workers found it."""
    from models.observing import list_drift as found_drift
    from worker.cli import tables
    from worker.cli.documents import drift_document

    found = found_drift(journal(settings()), host=host)
    if as_json:
        print_json([drift_document(drift) for drift in found])
    else:
        console().print(tables.drift(found) if found else "no drift: hosts and journal agree, as far as was looked")
    return OK
