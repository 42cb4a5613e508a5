"""Alembic's environment: the connection is given by the caller, or the URL by ``alembic -x url=…``."""

from alembic import context
from sqlalchemy import Connection

from models.engine import Database
from models.tables import metadata


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    url = context.get_x_argument(as_dictionary=True).get("url")
    if url is None:
        raise SystemExit("say which database: alembic -x url=sqlite:///FILE …")
    with Database(url).write() as own:
        _run(own)
