"""How memory changes shape: Alembic revisions, run from a checkout or from an installed wheel alike."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from models.engine import Database


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The revision that this program needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("this installation has no migrations")
    return revision


def current(database: Database) -> str | None:
    """The revision that the database is at; None if it holds no journal."""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def is_known(revision: str) -> bool:
    """Whether this program has the revision; if not, the database was written by a newer one."""
    return any(script.revision == revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the database up to a revision, in one transaction."""
    with database.write() as connection:
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the database back to a revision; what later ones remember is lost."""
    with database.write() as connection:
        command.downgrade(_config(connection), revision)


def differences(database: Database) -> None:
    """Raise alembic's CommandError if the tables in the code are not those of the database."""
    with database.write() as connection:
        command.check(_config(connection))
