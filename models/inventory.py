"""The inventory: hosts and the workers that serve them.

Instances and devices change with the journal's steps, in the same commits.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, insert, select, update

from models.engine import Database, now_in_database
from models.records import Json
from models.states import HostState, InstanceState
from models.tables import hosts, instances, workers

#: A worker that has not been heard for so long may be taken for dead by an operator, in seconds; it beats every 10 s.
SILENT_AFTER_S = 60.0
_NOT_THERE = (InstanceState.ABSENT, InstanceState.DELETED)


class HostBoundElsewhereError(Exception):
    """The host's name belongs to another machine or another libvirt host; the message is one sentence."""


@dataclass(frozen=True)
class Registration:
    """A worker that has just started, and the host that it holds the lock of."""

    host: str
    machine_id: str
    libvirt_host_uuid: UUID
    libvirt_uri: str
    worker: UUID
    pid: int
    version: str
    peer_libvirt_uri: str | None = None  #: how other hosts reach its libvirtd; None: they do not
    migration_address: str | None = None  #: where other hosts send their guests' memory
    capabilities: Json | None = None  #: what its libvirt and QEMU are, and can do
    inventory: Json | None = None  #: what it has to give


def register(database: Database, registration: Registration) -> None:
    """Bind the host's name to this machine, and the host to this worker, whose libvirt answers; again is no error.

    Raises HostBoundElsewhereError when the name is bound to another machine, and no operator said that the next one
    may have it (`rebind`): two machines under one name would take each other's jobs.
    """
    with database.write() as connection:
        row = connection.execute(select(hosts).where(hosts.c.name == registration.host).with_for_update()).one_or_none()
        if row is None:
            connection.execute(
                insert(hosts).values(
                    name=registration.host,
                    machine_id=registration.machine_id,
                    libvirt_host_uuid=registration.libvirt_host_uuid,
                    libvirt_uri=registration.libvirt_uri,
                    peer_libvirt_uri=registration.peer_libvirt_uri,
                    migration_address=registration.migration_address,
                    state=HostState.ENABLED,
                    capabilities=registration.capabilities,
                    inventory=registration.inventory,
                    sequence=0,
                    worker=registration.worker,
                    registered_at=now_in_database(),
                    seen_at=now_in_database(),
                )
            )
        else:
            bound = (row.machine_id, row.libvirt_host_uuid)
            if bound != (registration.machine_id, registration.libvirt_host_uuid) and row.rebind_by is None:
                raise HostBoundElsewhereError(
                    f"HOSTLER_HOST: the name {registration.host} is bound to machine {row.machine_id} with libvirt "
                    f"host {row.libvirt_host_uuid}; this is machine {registration.machine_id} with "
                    f"{registration.libvirt_host_uuid}: give this host a name of its own, or, if it takes the other's "
                    f"place, run: hostler hosts rebind {registration.host}"
                )
            connection.execute(
                update(hosts)
                .where(hosts.c.name == registration.host)
                .values(
                    machine_id=registration.machine_id,
                    libvirt_host_uuid=registration.libvirt_host_uuid,
                    rebind_by=None,
                    rebind_because=None,
                    down_because=None,
                    down_since=None,
                    capabilities=registration.capabilities,
                    inventory=registration.inventory,
                    worker=registration.worker,
                    libvirt_uri=registration.libvirt_uri,
                    peer_libvirt_uri=registration.peer_libvirt_uri,
                    migration_address=registration.migration_address,
                    seen_at=now_in_database(),
                )
            )
        known = connection.execute(select(workers.c.id).where(workers.c.id == registration.worker)).one_or_none()
        if known is None:
            connection.execute(
                insert(workers).values(
                    id=registration.worker,
                    host=registration.host,
                    pid=registration.pid,
                    version=registration.version,
                    started_at=now_in_database(),
                    heartbeat_at=now_in_database(),
                )
            )


@dataclass(frozen=True)
class NotRebound:
    """The name stays bound to its machine; the sentence says why."""

    why: str


def rebind(database: Database, host: str, by: str, because: str) -> NotRebound | int:
    """An operator's word that the next machine which starts a worker under this name may have it.

    The answer is how many instances the journal has on the host: whoever takes its name is taken to have them.

    Refused while the host's worker lives, by what the database last heard of it. The host's own machine takes the
    word back when it starts a worker.
    """
    query = (
        select(workers.c.pid, workers.c.stopped_at, workers.c.heartbeat_at, now_in_database().label("now"))
        .select_from(hosts.outerjoin(workers, hosts.c.worker == workers.c.id))
        .where(hosts.c.name == host)
    )
    with database.write() as connection:
        row = connection.execute(query).one_or_none()
        if row is None:
            return NotRebound(f"there is no host {host}")
        alive = row.heartbeat_at is not None and row.stopped_at is None
        if alive and (age_s := (row.now - row.heartbeat_at).total_seconds()) < SILENT_AFTER_S:
            return NotRebound(
                f"the worker of {host} (pid {row.pid}) was heard {age_s:.0f} s ago: stop it first, or wait until it "
                f"has been silent for {SILENT_AFTER_S:.0f} s"
            )
        connection.execute(update(hosts).where(hosts.c.name == host).values(rebind_by=by, rebind_because=because))
        there = select(func.count()).where(instances.c.host == host, instances.c.state.not_in(_NOT_THERE))
        return int(connection.execute(there).scalar_one())


@dataclass(frozen=True)
class Beat:
    """What the database has of the host, as its worker's sign of life comes in."""

    sequence: int
    worker: UUID | None


def heartbeat(database: Database, worker: UUID, host: str) -> Beat | None:
    """Note that the worker is alive, in the database's time; None if the database does not know the host.

    It informs people and other hosts; it is no fence.
    """
    with database.write() as connection:
        connection.execute(update(workers).where(workers.c.id == worker).values(heartbeat_at=now_in_database()))
        row = connection.execute(
            update(hosts)
            .where(hosts.c.name == host)
            .values(seen_at=now_in_database())
            .returning(hosts.c.sequence, hosts.c.worker)
        ).one_or_none()
        return None if row is None else Beat(*row)


def stopped(database: Database, worker: UUID) -> None:
    """Note that the worker has ended in good order."""
    with database.write() as connection:
        connection.execute(update(workers).where(workers.c.id == worker).values(stopped_at=now_in_database()))


def host_exists(database: Database, host: str) -> bool:
    """Whether a worker ever registered the host."""
    with database.read() as connection:
        return connection.execute(select(hosts.c.name).where(hosts.c.name == host)).one_or_none() is not None
