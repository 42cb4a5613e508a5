"""Whether a host takes new guests: an operator's word, and what its worker knows of its libvirt.

A disabled host begins no spawn, and no migration to it begins: such a job stays queued, and begins once the host is
enabled. What was begun goes on, and so does all else that is asked of the guests that are there: destroy, attach,
detach, power, and migrations away. The two reasons are kept apart, so that a libvirt that comes back never undoes what
an operator said.
"""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Connection, and_, bindparam, exists, or_, select, update

from models.engine import Database, now_in_database
from models.records import JobRecord
from models.states import HostState, JobClass, JobState
from models.tables import hosts, jobs

_CLOSED = or_(hosts.c.state == HostState.DISABLED, hosts.c.down_because.is_not(None))
#: What a migration's request calls the host that its guest goes to; see `tasks.migrate`.
_DESTINATION = "destination"
#: In a query of jobs: queued ones that would bring a guest to a host that takes none.
NOT_ADMITTED = or_(
    and_(jobs.c.job_class == JobClass.SPAWN, exists().where(hosts.c.name == jobs.c.host, _CLOSED)),
    and_(
        jobs.c.job_class == JobClass.MIGRATE,
        exists().where(hosts.c.name == jobs.c.request[_DESTINATION].as_string(), _CLOSED),
    ),
)
_STANDING = select(hosts.c.state, hosts.c.disabled_because, hosts.c.down_because).where(hosts.c.name == bindparam("of"))


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


def reason(state: HostState, disabled_because: str | None, down_because: str | None) -> str | None:
    """Why a host takes no new guests; None if it does. An operator's word comes first."""
    if state is HostState.DISABLED:
        return disabled_because or "disabled"
    return down_because


def why_waiting(database: Database, job: JobRecord) -> str | None:
    """Why a queued job may not begin now, as `refusal` says it; None for every other job."""
    if job.state is not JobState.QUEUED:
        return None
    with database.read() as connection:
        return refusal(connection, job)


def disable(database: Database, host: str, by: str, because: str) -> bool:
    """An operator's word that the host takes no new guests; False if there is no such host."""
    values = {
        "state": HostState.DISABLED,
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
