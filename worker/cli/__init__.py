"""The ``hostler`` command: for operators, and for programs with ``--json``.

Exit status, everywhere: 0 done or succeeded, 1 the job failed, 2 bad request or configuration, 3 a timeout of the
waiting (the job goes on), 4 quarantined, 5 cancelled, 6 the journal, libvirt or another part is out of reach, 7 a
worker whose calls of libvirt hang.
"""

import sys

import click

from worker.cli import adopting, doctor, drift, images, inventory, jobs, process, submit
from worker.cli.exits import BAD_REQUEST, OUT_OF_REACH
from worker.cli.group import hostler

__all__ = ["adopting", "doctor", "drift", "hostler", "images", "inventory", "jobs", "main", "process", "submit"]


def main() -> None:
    """Run the command line; every error that an operator can meet is one sentence on stderr."""
    from sqlalchemy.exc import SQLAlchemyError

    from models.engine import DatabaseURLError
    from models.inventory import HostBoundElsewhereError
    from models.journal.accepting import DifferentPayloadError
    from tasks.host import HostError
    from tasks.requests import BadRequestError
    from worker.host.lock import HostLockedError
    from worker.settings import ConfigurationError

    try:
        sys.exit(hostler(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_REQUEST)
    except (
        BadRequestError,
        ConfigurationError,
        DatabaseURLError,
        DifferentPayloadError,
        HostBoundElsewhereError,
    ) as error:
        click.echo(f"hostler: {error}", err=True)
        sys.exit(BAD_REQUEST)
    except HostLockedError as error:
        click.echo(f"hostler: {error}", err=True)  # it may end, as a doctor does who has the driver for a moment
        sys.exit(OUT_OF_REACH)
    except HostError as error:
        click.echo(f"hostler: libvirt: {error}", err=True)
        sys.exit(OUT_OF_REACH)
    except SQLAlchemyError as error:
        first_line = str(getattr(error, "orig", None) or error).splitlines()[0]
        click.echo(f"hostler: the journal is out of reach: {first_line}", err=True)
        sys.exit(OUT_OF_REACH)
    except UnicodeEncodeError:
        click.echo("hostler: an argument or an answer is not UTF-8 text.", err=True)
        sys.exit(BAD_REQUEST)
    except BrokenPipeError:
        raise
    except OSError as error:
        click.echo(f"hostler: {error}", err=True)
        sys.exit(OUT_OF_REACH)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
