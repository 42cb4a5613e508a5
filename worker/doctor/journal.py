"""The journal: whether it answers, its revision, how far its clock is from this machine's, and if it went back."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

import migrations
from models.engine import Database, DatabaseURLError, now_in_database
from models.journal.recovering import claims_of
from worker.doctor.findings import Finding, Level, fine, problem
from worker.doctor.places import file_system, is_remote
from worker.settings import Settings, masked

#: Times in the journal are the database's; people compare them with this machine's logs, and certificates with both.
CLOCK_MAY_DIFFER: Final = timedelta(seconds=5)
UPGRADE: Final = "run: hostler db upgrade"


def journal(settings: Settings) -> Sequence[Finding]:
    """What the database and its clock are like."""
    try:
        database = Database(settings.journal_url)
    except DatabaseURLError as error:
        return [problem("database", str(error), "set HOSTLER_DATABASE_URL as README tells")]
    try:
        return _asked(database, masked(settings.journal_url), settings.host)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        return [
            problem(
                "database",
                f"{masked(settings.journal_url)} does not answer: {reason}",
                "start the database, or set HOSTLER_DATABASE_URL",
            )
        ]
    finally:
        database.close()


def _asked(database: Database, shown: str, host: str) -> Sequence[Finding]:
    file = database.file
    if file is not None:
        kind = file_system(file)
        if is_remote(kind):
            return [
                problem(
                    "database",
                    f"{file} is on {kind}, where SQLite's log does not work",
                    "keep the journal on a local file system, or use PostgreSQL",
                )
            ]
        if not file.exists():
            return [
                fine("database", f"there is no journal at {file} yet; the worker makes it"),
                fine("clock", "the journal's clock will be this machine's"),
                fine("recovery", "there is nothing to recover"),
            ]
    revision = _revision(database, shown)
    known = [_recovery(database, host)] if revision.level is Level.OK else []
    return [revision, _clock(database), *known]


def _revision(database: Database, shown: str) -> Finding:
    found, needed = migrations.current(database), migrations.head()
    if found == needed:
        return fine("database", f"{shown} is at revision {found}")
    if found is not None and not migrations.is_known(found):
        return problem(
            "database",
            f"{shown} is at revision {found}, which this program is too old to know",
            "update Hostler on this host",
        )
    return problem("database", f"{shown} is at revision {found or 'none'}, this program needs {needed}", UPGRADE)


def _recovery(database: Database, host: str) -> Finding:
    claims = claims_of(database, host)
    if claims is None or claims.recovering_because is None:
        return fine("recovery", f"{host} is not in recovery")
    return problem(
        "recovery",
        f"{host} takes no jobs: {claims.recovering_because}",
        f"see what is to be told again, and have it told: hostler hosts recover {host}",
    )


def _clock(database: Database) -> Finding:
    if database.file is not None:
        return fine("clock", "the journal's clock is this machine's")
    with database.read() as connection:
        before = time.time()
        said = connection.execute(select(now_in_database())).scalar_one()
        after = time.time()
    here = datetime.fromtimestamp((before + after) / 2, UTC)
    apart = said - here
    if abs(apart) > CLOCK_MAY_DIFFER + timedelta(seconds=(after - before) / 2):
        ahead = "ahead of" if apart > timedelta() else "behind"
        return problem(
            "clock",
            f"the database's clock is {abs(apart).total_seconds():.0f} s {ahead} this machine's",
            "set both by NTP; times in the journal are the database's",
        )
    return fine("clock", f"within {CLOCK_MAY_DIFFER.total_seconds():g} s of the database's")
