"""The ``hostler`` command: for operators, and for programs with ``--json``.

Exit status, everywhere: 0 done or succeeded, 1 the job failed, 2 bad request or configuration, 3 a timeout of the
waiting (the job goes on), 4 quarantined, 5 cancelled, 6 the journal, libvirt or another part is out of reach, 7 a
worker whose calls of libvirt hang.
"""

import sys

import click

from worker.cli import adopting, doctor, drift, images, inventory, jobs, process, recovering, submit
from worker.cli.exits import BAD_REQUEST
from worker.cli.group import hostler

__all__ = [
    "adopting",
    "doctor",
    "drift",
    "hostler",
    "images",
    "inventory",
    "jobs",
    "main",
    "process",
    "recovering",
    "submit",
]


def main() -> None:
    """Run the command line; every error that an operator can meet is one sentence on stderr."""
    try:
        sys.exit(hostler(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_REQUEST)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as error:
        from worker.cli.errors import sentence_and_status

        told = sentence_and_status(error)
        if told is None:
            raise
        sentence, status = told
        click.echo(f"hostler: {sentence}", err=True)
        sys.exit(status)
