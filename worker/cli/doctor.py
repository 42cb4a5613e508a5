"""The doctor's command."""

import click

from worker.cli.exits import FAILED, OK
from worker.cli.group import JSON_OPTION, hostler, print_json, settings


@hostler.command()
@JSON_OPTION
def doctor(as_json: bool) -> int:
    """Look over this host: libvirt, permissions, space, journal, broker; exit status 1 if something is wrong.

    It changes nothing, and may run beside a worker. Each check has a deadline.
    """
    from worker.doctor.examination import examination, is_well

    found = examination(settings())
    if as_json:
        print_json(
            [{"check": each.check, "level": each.level.value, "what": each.what, "do": each.do} for each in found]
        )
    else:
        for each in found:
            click.echo(f"{each.level.value:<8} {each.line}")
    return OK if is_well(found) else FAILED
