"""Whether a host takes new guests, or new jobs: an operator's word, and what its worker knows of its libvirt.

A disabled host begins no spawn, and no migration to it begins: such a job stays queued, and begins once the host is
enabled. What was begun goes on, and so does all else that is asked of the guests that are there: destroy, attach,
detach, power, and migrations away. A host that is drained begins nothing at all, while what was begun ends. The two
reasons are kept apart, so that a libvirt that comes back never undoes what an operator said.
"""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Connection, and_, bindparam, exists, or_, select, update

from models.engine import Database, now_in_database
from models.records import JobRecord
from models.states import FINAL, HostState, JobClass, JobState
from models.tables import hosts, jobs

_CLOSED = or_(hosts.c.state != HostState.ENABLED, hosts.c.down_because.is_not(None))
#: What a migration's request calls the host that its guest goes to; see `tasks.migrate`.
_DESTINATION = "destination"
#: In a query of jobs: queued ones of a host that is drained, or that would bring a guest to one that takes none.
NOT_ADMITTED = or_(
    exists().where(hosts.c.name == jobs.c.host, hosts.c.state == HostState.DRAINING),
    and_(jobs.c.job_class == JobClass.SPAWN, exists().where(hosts.c.name == jobs.c.host, _CLOSED)),
    and_(
        jobs.c.job_class == JobClass.MIGRATE,
        exists().where(hosts.c.name == jobs.c.request[_DESTINATION].as_string(), _CLOSED),
    ),
)
_STANDING = select(hosts.c.state, hosts.c.disabled_because, hosts.c.down_because, hosts.c.recovering_because).where(
    hosts.c.name == bindparam("of")
)


def goes_to(job: JobRecord) -> str | None:
    """The host that the job brings a guest to; None if it brings none."""
    if job.job_class is JobClass.SPAWN:
        return job.host
    return job.request.get(_DESTINATION) if job.job_class is JobClass.MIGRATE else None


def refusal(connection: Connection, job: JobRecord) -> str | None:
    """Why a queued job may not begin now, if it brings a guest to a host that takes none."""
    host = goes_to(job)
    row = None if host is None else connection.execute(_STANDING, {"of": host}).one_or_none()
    if row is None:
        return None
    why = reason(row.state, row.disabled_because, row.down_because)
    return None if why is None else f"host {host} takes no new guests: {why}"


def hold(connection: Connection, host: str, *, begins: bool) -> str | None:
    """Why the host's worker may not claim a job now; ``begins``: one that no worker has begun yet."""
    row = connection.execute(_STANDING, {"of": host}).one_or_none()
    if row is None:
        return None
    if row.recovering_because is not None:
        return f"host {host} is in recovery: {row.recovering_because}"
    if begins and row.state is HostState.DRAINING:
        return f"host {host} is drained and begins no job: {row.disabled_because}"
    return None


def reason(state: HostState, disabled_because: str | None, down_because: str | None) -> str | None:
    """Why a host takes no new guests; None if it does. An operator's word comes first."""
    if state is not HostState.ENABLED:
        return disabled_because or state.value
    return down_because


def why_waiting(database: Database, job: JobRecord) -> str | None:
    """Why a job that nobody has in hand may not go on, or begin, now, as `hold` and `refusal` say it."""
    if job.state in FINAL:
        return None
    begins = job.state is JobState.QUEUED
    with database.read() as connection:
        return hold(connection, job.host, begins=begins) or (refusal(connection, job) if begins else None)


def disable(database: Database, host: str, by: str, because: str, *, drain: bool = False) -> bool:
    """An operator's word that the host takes no new guests, or no new jobs at all; False if there is no such host."""
    values = {
        "state": HostState.DRAINING if drain else HostState.DISABLED,
        "disabled_by": by,
        "disabled_because": because,
        "disabled_at": now_in_database(),
    }
    return _write(database, host, values)


def enable(database: Database, host: str) -> bool:
    """Take an operator's word back; what its worker knows of libvirt stays. False if there is no such host."""
    values = {"state": HostState.ENABLED, "disabled_by": None, "disabled_because": None, "disabled_at": None}
    return _write(database, host, values)


def _write(database: Database, host: str, values: Mapping[str, object]) -> bool:
    with database.write() as connection:
        return connection.execute(update(hosts).where(hosts.c.name == host).values(values)).rowcount == 1


def down(database: Database, host: str, worker: UUID, because: str) -> bool:
    """The worker's word that its libvirt is lost; False if another worker serves the host now, or it is known."""
    with database.write() as connection:
        noted = connection.execute(
            update(hosts)
            .where(hosts.c.name == host, hosts.c.worker == worker, hosts.c.down_because.is_(None))
            .values(down_because=because, down_since=now_in_database())
        )
        return noted.rowcount == 1


def up(database: Database, host: str, worker: UUID) -> bool:
    """The worker's word that its libvirt is there; False if another worker serves the host now, or it is known."""
    with database.write() as connection:
        noted = connection.execute(
            update(hosts)
            .where(hosts.c.name == host, hosts.c.worker == worker, hosts.c.down_because.is_not(None))
            .values(down_because=None, down_since=None)
        )
        return noted.rowcount == 1
