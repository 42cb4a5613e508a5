"""`make check`: upgrade, compare with the tables in the code, downgrade and upgrade again, on both databases."""

import sys
import tempfile
from pathlib import Path

import migrations
from models.engine import Database


def check(url: str) -> None:
    """Walk one empty database up, down and up again, comparing it with the code at the top."""
    database = Database(url)
    try:
        migrations.upgrade(database)
        migrations.differences(database)
        migrations.downgrade(database, "base")
        if migrations.current(database) is not None:
            raise SystemExit("a downgrade to nothing left a revision behind")
        migrations.upgrade(database)
        migrations.differences(database)
    finally:
        database.close()


def main() -> None:
    """Check SQLite always, and PostgreSQL at the URL given, or one started for the purpose."""
    with tempfile.TemporaryDirectory() as folder:
        check(f"sqlite:///{Path(folder) / 'journal.db'}")
        print("migrations: sqlite as in the code, down and up again")
        if len(sys.argv) > 1:
            check(sys.argv[1])
        else:
            from tests.lab.postgres import PostgresServer  # noqa: PLC0415  # only when it is needed

            with PostgresServer(durable=False) as server:
                check(server.create_database())
        print("migrations: postgresql as in the code, down and up again")


if __name__ == "__main__":
    main()
