"""The inventory: hosts and the workers that serve them.

Instances and devices change with the journal's steps, in the same commits.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import insert, select, update

from models.engine import Database, now_in_database
from models.states import HostState
from models.tables import hosts, workers


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


def register(database: Database, registration: Registration) -> None:
    """Bind the host's name to this machine, and the host to this worker.

    Raises HostBoundElsewhereError when the name is bound to another machine: two machines under one name would
    take each other's jobs.
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
                    sequence=0,
                    worker=registration.worker,
                    registered_at=now_in_database(),
                    seen_at=now_in_database(),
                )
            )
        else:
            bound = (row.machine_id, row.libvirt_host_uuid)
            if bound != (registration.machine_id, registration.libvirt_host_uuid):
                raise HostBoundElsewhereError(
                    f"HOSTLER_HOST: the name {registration.host} is bound to machine {row.machine_id} with libvirt "
                    f"host {row.libvirt_host_uuid}; this is machine {registration.machine_id} with "
                    f"{registration.libvirt_host_uuid}: give this host a name of its own."
                )
            connection.execute(
                update(hosts)
                .where(hosts.c.name == registration.host)
                .values(
                    worker=registration.worker,
                    libvirt_uri=registration.libvirt_uri,
                    peer_libvirt_uri=registration.peer_libvirt_uri,
                    migration_address=registration.migration_address,
                    seen_at=now_in_database(),
                )
            )
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


def heartbeat(database: Database, worker: UUID, host: str) -> None:
    """Note that the worker is alive, in the database's time. It informs people and other hosts; it is no fence."""
    with database.write() as connection:
        connection.execute(update(workers).where(workers.c.id == worker).values(heartbeat_at=now_in_database()))
        connection.execute(update(hosts).where(hosts.c.name == host).values(seen_at=now_in_database()))


def stopped(database: Database, worker: UUID) -> None:
    """Note that the worker has ended in good order."""
    with database.write() as connection:
        connection.execute(update(workers).where(workers.c.id == worker).values(stopped_at=now_in_database()))


def host_exists(database: Database, host: str) -> bool:
    """Whether a worker ever registered the host."""
    with database.read() as connection:
        return connection.execute(select(hosts.c.name).where(hosts.c.name == host)).one_or_none() is not None
