"""Two hosts with addresses of their own, between which guests migrate over a link that tests may break."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab.hosts import LibvirtHost
from tests.lab.network import Network

FIRST, SECOND = "lab-1", "lab-2"


@dataclass(frozen=True)
class HostPair:
    """Two hosts of one network, each named in it as it names itself."""

    network: Network
    first: LibvirtHost
    second: LibvirtHost

    def heal(self) -> None:
        """Let both reach each other again, whatever was broken."""
        for host in (self.first, self.second):
            self.network.heal(host.name)


def pair_network() -> Network:
    """The network of a pair, not made yet."""
    return Network(FIRST, SECOND)


@contextmanager
def host_pair(network: Network) -> Iterator[HostPair]:
    """The hosts of a pair, on its network."""

    def host(name: str) -> LibvirtHost:
        return LibvirtHost(name, network_namespace=network.namespace(name), listen_address=network.address(name))

    with host(FIRST) as first, host(SECOND) as second:
        yield HostPair(network, first, second)
