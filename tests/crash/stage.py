"""One host of which everything can be broken: its worker, libvirtd, guests, journal, broker, disk and power."""

import signal
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from tests.crash.verdict import Ledger
from tests.crash.wanderer import MORTAL
from tests.lab.database_proxy import DatabaseProxy
from tests.lab.hosts import LibvirtHost
from tests.lab.network import GUESTS_BRIDGE, Network
from tests.lab.places import scratch_folder
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from tests.lab.small_disk import SmallDisk, small_disk

NAME = "lab-1"

DISK_MIB = 64
VOLUME_BYTES = 1024**2
#: Each job of a batch is held somewhere, so all of them must be in hand at once.
AT_ONCE = 64
SETTINGS = {
    "THREADS": str(6 * AT_ONCE),
    **{f"{name}_LIMIT": str(AT_ONCE) for name in ("SPAWN", "DESTROY", "ATTACH", "MIGRATE", "POWER")},
    "DRIFT_INTERVAL_S": "2",
}


class Stage:
    """The host and its site. The checker reaches the journal directly, the worker through a proxy."""

    def __init__(self, postgres: PostgresServer) -> None:
        self._postgres = postgres
        self._cleanup = ExitStack()
        self._boots = count(1)
        self._boot = 0

    def __enter__(self) -> Self:
        with ExitStack() as making:
            self.network = making.enter_context(Network(NAME))
            self.broker = making.enter_context(RedisServer())
            url = self._postgres.create_database(socket=True)
            making.callback(self._postgres.drop_database, url)
            self.database = making.enter_context(DatabaseProxy(url, making.enter_context(scratch_folder("proxy"))))
            self.ledger = Ledger(url)
            making.callback(self.ledger.close)
            namespace = self.network.namespace(NAME)
            self.host = LibvirtHost(NAME, network_namespace=namespace)
            self.site = making.enter_context(
                Site(
                    libvirt=self.host,
                    network_namespace=namespace,
                    database_url=url,
                    broker_url=self.broker.socket_url,
                    worker_command=MORTAL,
                    settings=SETTINGS,
                )
            )
            # Before libvirtd starts, which sees what is mounted then.
            self.disk: SmallDisk = making.enter_context(small_disk(self.site.state, DISK_MIB))
            self.site.images.mkdir()
            making.enter_context(self.host)
            assert self.site.hostler("db", "upgrade").returncode == 0
            self.start_worker()
            self._cleanup = making.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.site.end_worker()
        self._cleanup.close()

    def start_worker(self, *, after_boot: bool = False) -> None:
        """Start a worker that reaches its journal through the proxy."""
        if after_boot:
            self._boot = next(self._boots)
        boot_id = f"boot-{self._boot}" if self._boot else None
        self.site.start_worker(settings={"DATABASE_URL": self.database.url}, boot_id=boot_id)

    def supervise(self) -> None:
        """Start the worker again if libvirt's client ended it, as its supervisor does; nothing else may.

        Measured with libvirt 9.0: where a silent daemon is given up while many calls wait for it, the client's event
        loops race, and the process ends by SIGSEGV in GLib.
        """
        if not self.site.worker.alive:
            ended = self.site.worker.returncode
            assert ended == -signal.SIGSEGV, f"the worker ended with {ended}"
            print("the worker ended by SIGSEGV; it is started again")
            self.start_worker()

    def guest(self, instance: UUID) -> dict[str, Any]:
        """What a guest without an operating system is asked for with: its own disk, and a device of either kind."""
        devices = {"volumes": [self.volume(instance, "kept")], "interfaces": [self.interface("kept")]}
        return {"name": "staged", "memory_mib": 40, "disk_gib": 1, **devices}

    def volume(self, instance: UUID, role: str) -> dict[str, Any]:
        """A volume that only this instance asks for."""
        path = self.site.state / "volumes" / f"{instance}-{role}.raw"
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            with path.open("wb") as disk:
                disk.truncate(VOLUME_BYTES)
        return {"id": f"{role}-{instance.hex[:12]}", "kind": "file", "path": str(path)}

    def interface(self, role: str) -> dict[str, Any]:
        """An interface on the guests' bridge."""
        return {"id": role, "bridge": GUESTS_BRIDGE}

    def qemu_pids(self, instances: Sequence[UUID]) -> list[int]:
        """The QEMUs of these instances that run now."""
        return [pid for instance in instances for pid in self.site.qemu_pids(instance)]
