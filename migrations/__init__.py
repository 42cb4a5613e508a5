"""How memory changes shape: Alembic revisions, run from a checkout or from an installed wheel alike.

Every command asks which revision the database is at, few change it: Alembic itself is imported for those alone.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from models.engine import Database

if TYPE_CHECKING:
    from alembic.config import Config

_VERSIONS = Path(__file__).parent / "versions"


def _config(connection: Connection) -> "Config":
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


@cache
def revisions() -> tuple[str, ...]:
    """Every revision that this program has, in order: each is its file's number."""
    return tuple(sorted(file.name.partition("_")[0] for file in _VERSIONS.glob("[0-9]*_*.py")))


def head() -> str:
    """The revision that this program needs."""
    if not revisions():
        raise RuntimeError("this installation has no migrations")
    return revisions()[-1]


def current(database: Database) -> str | None:
    """The revision that the database is at; None if it holds no journal."""
    with database.read() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return revision


def is_known(revision: str) -> bool:
    """Whether this program has the revision; if not, the database was written by a newer one."""
    return revision in revisions()


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the database up to a revision, in one transaction."""
    from alembic import command  # noqa: PLC0415

    with database.write() as connection:
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the database back to a revision; what later ones remember is lost."""
    from alembic import command  # noqa: PLC0415

    with database.write() as connection:
        command.downgrade(_config(connection), revision)


def differences(database: Database) -> None:
    """Raise alembic's CommandError if the tables in the code are not those of the database, or the revisions no line.

    What `revisions` reads off the files is held against what Alembic makes of them.
    """
    from alembic import command  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    with database.write() as connection:
        config = _config(connection)
        line = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
        if tuple(reversed(line)) != revisions():
            raise CommandError(f"the files are named {revisions()}, the revisions are {line}")
        command.check(config)
