"""What is broken under a migration, and mended again: workers, libvirtds, the link between the hosts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.site_pair import SitePair
from tests.lab.waiting import eventually

#: How long something stays broken, in seconds. A broken link is noticed after 4 to 6 s.
WORKER_FOR_S = 0.3
LIBVIRTD_FOR_S = 1.0
LINK_FOR_S = 3.0
LONG_FOR_S = 8.0


class Fault(StrEnum):
    """What breaks; told by the role that a host has in the migration."""

    SOURCE_WORKER = "source-worker"
    DESTINATION_WORKER = "destination-worker"
    SOURCE_LIBVIRTD = "source-libvirtd"
    DESTINATION_LIBVIRTD = "destination-libvirtd"
    LINK = "link"  #: drops all for less time than anybody needs to notice
    LONG_LINK = "long-link"  #: drops all until everybody has noticed
    CUT = "cut"  #: the cable is pulled, and everybody notices


@dataclass(frozen=True)
class Way:
    """The two ends of a migration."""

    pair: SitePair
    source: Site
    destination: Site

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


def passing(seconds: float) -> None:
    """Return when that time has passed: for as long, something is to be broken."""
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= end, "the time passes", seconds + 1.0)
