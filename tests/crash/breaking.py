"""What is broken under a migration, and mended: workers, libvirtds, QEMUs, servers, the link between the hosts."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from tests.lab.hosts import LibvirtHost
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from tests.lab.site_pair import SitePair
from tests.lab.waiting import eventually

#: How long something stays broken, in seconds. A broken link is noticed after 4 to 6 s.
WORKER_FOR_S = 0.3
LIBVIRTD_FOR_S = 1.0
LINK_FOR_S = 3.0
LONG_FOR_S = 8.0
QEMU_FOR_S = 4.0
SERVER_FOR_S = 3.0


class Fault(StrEnum):
    """What breaks; told by the role that a host has in the migration."""

    SOURCE_WORKER = "source-worker"
    DESTINATION_WORKER = "destination-worker"
    SOURCE_LIBVIRTD = "source-libvirtd"
    DESTINATION_LIBVIRTD = "destination-libvirtd"
    LINK = "link"  #: drops all for less time than anybody needs to notice
    LONG_LINK = "long-link"  #: drops all until everybody has noticed
    CUT = "cut"  #: the cable is pulled, and everybody notices
    SOURCE_QEMU = "source-qemu"  #: stands still, in the middle of whatever it does
    DESTINATION_QEMU = "destination-qemu"
    DATABASE = "database"  #: is killed
    BROKER = "broker"  #: is killed, and has forgotten everything


#: What a migration meets on its own way, and not its journal or its broker.
ON_THE_WAY = tuple(fault for fault in Fault if fault not in {Fault.DATABASE, Fault.BROKER})


@dataclass(frozen=True)
class Way:
    """The two ends of a migration."""

    pair: SitePair
    source: Site
    destination: Site
    instance: UUID
    database: PostgresServer
    broker: RedisServer

    def host(self, site: Site) -> LibvirtHost:
        """The host that the site serves."""
        return self.pair.hosts.first if site is self.pair.first else self.pair.hosts.second

    def break_and_mend(self, fault: Fault, go_on: Callable[[], None] = lambda: None) -> None:
        """Break it, let whoever waited for that go on, and mend it when it has been broken for its time."""
        match fault:
            case Fault.SOURCE_WORKER | Fault.DESTINATION_WORKER:
                site = self.source if fault is Fault.SOURCE_WORKER else self.destination
                site.kill_worker()
                go_on()
                passing(WORKER_FOR_S)
                site.start_worker()
            case Fault.SOURCE_LIBVIRTD | Fault.DESTINATION_LIBVIRTD:
                host = self.host(self.source if fault is Fault.SOURCE_LIBVIRTD else self.destination)
                host.kill()
                go_on()
                passing(LIBVIRTD_FOR_S)
                host.start()
            case Fault.LINK | Fault.LONG_LINK | Fault.CUT:
                network = self.pair.hosts.network
                sever = network.cut if fault is Fault.CUT else network.drop
                sever(self.host(self.destination).name)
                go_on()
                passing(LINK_FOR_S if fault is Fault.LINK else LONG_FOR_S)
                self.pair.hosts.heal()
            case Fault.SOURCE_QEMU | Fault.DESTINATION_QEMU:
                site = self.source if fault is Fault.SOURCE_QEMU else self.destination
                stopped = [pid for pid in self.host(site).qemu_pids() if pid in site.qemu_pids(self.instance)]
                signal_each(stopped, signal.SIGSTOP)
                go_on()
                passing(QEMU_FOR_S)
                signal_each(stopped, signal.SIGCONT)
            case Fault.DATABASE:
                self.database.kill()
                go_on()
                passing(SERVER_FOR_S)
                self.database.start()
            case Fault.BROKER:
                self.broker.kill()
                go_on()
                passing(SERVER_FOR_S)
                self.broker.start()


def signal_each(pids: Sequence[int], number: int) -> None:
    """Those that are there get the signal."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def passing(seconds: float) -> None:
    """Return when that time has passed: for as long, something is to be broken."""
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= end, "the time passes", seconds + 1.0)
