"""The command group, and what every command needs: settings, the journal as it is, and how to print."""

import json
import os
import sys
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

import click

from worker.cli.exits import BAD_REQUEST

if TYPE_CHECKING:
    from rich.console import Console

    from models.engine import Database
    from worker.settings import Settings

#: How wide a table may be where no terminal says so: in a pipe or a file, lines are not folded.
PLAIN_WIDTH = 240
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
BECAUSE_NEEDED = click.option("--because", "reason", required=True, help="Why; it is kept with who said it.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="hostler", prog_name="hostler")
def hostler() -> None:
    """Run compute jobs on libvirt hosts, as steps that survive any crash."""


def settings() -> "Settings":
    """The settings in the environment."""
    from worker.settings import load

    return load()


def journal(settings: "Settings") -> "Database":
    """The journal as it is; a command that reads never makes or changes one."""
    import migrations
    from models.engine import Database
    from worker.settings import ConfigurationError

    database = Database(settings.journal_url)
    if database.file is not None and not database.file.exists():
        raise ConfigurationError(
            f"there is no journal at {database.file} yet: start `hostler worker`, or run `hostler db upgrade`."
        )
    found, needed = migrations.current(database), migrations.head()
    if found is not None and not migrations.is_known(found):
        raise ConfigurationError(f"the journal is at revision {found}, which this program is too old to know.")
    if found != needed:
        raise ConfigurationError(
            f"the journal is at revision {found or 'none'}, this program needs {needed}: run `hostler db upgrade`."
        )
    return database


def print_json(document: object) -> None:
    """Print for a program."""
    click.echo(json.dumps(document, indent=2, sort_keys=False))


def instance_uuid(value: str) -> UUID:
    """The UUID that was typed."""
    from tasks.requests import BadRequestError

    try:
        return UUID(value)
    except ValueError:
        raise BadRequestError(f"instance: {value!r} is no UUID.") from None


def console(*, stderr: bool = False) -> "Console":
    """Where tables and progress are drawn."""
    from rich.console import Console

    plain = not (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=PLAIN_WIDTH if plain else None)


def no_such(what: str, key: object) -> NoReturn:
    """Say that there is none, and exit."""
    click.echo(f"hostler: there is no {what} {key}.", err=True)
    sys.exit(BAD_REQUEST)


def actor() -> str:
    """Who typed the command, as events name them."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"cli:uid {os.getuid()}"
