"""A network of hosts: a namespace for each host and one for the switch between them, whose links tests may break.

    lab-1: br-guests - vxlan - uplink ==== port1 - switch - port2 ==== uplink - vxlan - br-guests :lab-2

The addresses exist only in these namespaces. Guests of all hosts share one segment, which is tunnelled (VXLAN) over the
hosts' links; the links carry larger frames than the guests', so that a guest's full frame fits into the tunnel.
"""

import subprocess

from typing_extensions import override

from tests.lab.namespaces import COMMAND_WITHIN_S, configure, inside, network_namespaces
from tests.lab.opening import Opened
from tests.lab.places import program

GUESTS_BRIDGE = "br-guests"  #: on every host: the bridge that guests' interfaces are plugged into
GUESTS_MTU = 1500
TUNNEL_OVERHEAD = 50  #: outer Ethernet, IPv4, UDP and VXLAN headers
SUBNET = "10.77.0"
SWITCH_NUMBER = 254
SWITCH_MAC = "02:00:00:00:00:fe"


class Network(Opened):
    """The network of some hosts, gone when its context ends. Nothing of it is seen from the machine's own network."""

    def __init__(self, *hosts: str) -> None:
        super().__init__()
        self._numbers = {host: number for number, host in enumerate(hosts, 1)}

    @override
    def _open(self) -> None:
        self.switch, *namespaces = self._cleanups.enter_context(network_namespaces("switch", *self._numbers))
        self._namespaces = dict(zip(self._numbers, namespaces, strict=True))
        self._make_switch()
        for host in self._numbers:
            self._make_host(host)

    @property
    def switch_address(self) -> str:
        """The address, in the namespace `switch`, of whatever every host is to reach."""
        return f"{SUBNET}.{SWITCH_NUMBER}"

    def namespace(self, host: str) -> str:
        """The namespace that is this host's network."""
        return self._namespaces[host]

    def address(self, host: str) -> str:
        """The host's own address on the switch."""
        return f"{SUBNET}.{self._numbers[host]}"

    def cut(self, host: str) -> None:
        """Pull the host's cable: nothing passes in either direction, and the host sees that its link is down."""
        configure(self.switch, f"link set {self._port(host)} down")

    def drop(self, host: str) -> None:
        """Lose whatever the host sends and is sent, while its link stays up."""
        configure(self.switch, f"link set {self._port(host)} nomaster")

    def heal(self, host: str) -> None:
        """Let all pass again, whatever was broken; it takes up to a second until it does."""
        configure(self.switch, f"link set {self._port(host)} master switch up")

    def reaches(self, host: str, address: str, within_s: int = 1) -> bool:
        """Whether the host gets an answer from that address now."""
        ping = [program("busybox"), "ping", "-q", "-c", "1", "-W", str(within_s), address]
        command = inside(self.namespace(host), ping)
        return subprocess.run(command, check=False, capture_output=True, timeout=COMMAND_WITHIN_S).returncode == 0

    def _port(self, host: str) -> str:
        return f"port{self._numbers[host]}"

    def _make_switch(self) -> None:
        configure(
            self.switch,
            # Without an address of its own it has the lowest of its ports', and a new one when that port leaves it.
            f"link add switch address {SWITCH_MAC} mtu {GUESTS_MTU + TUNNEL_OVERHEAD} type bridge",
            f"address add {self.switch_address}/24 dev switch",
            "link set switch up",
        )

    def _make_host(self, host: str) -> None:
        port, mtu, namespace = self._port(host), GUESTS_MTU + TUNNEL_OVERHEAD, self.namespace(host)
        configure(
            self.switch,
            f"link add {port} mtu {mtu} type veth peer name uplink mtu {mtu} netns {namespace}",
            f"link set {port} master switch up",
        )
        configure(
            namespace,
            f"address add {self.address(host)}/24 dev uplink",
            "link set uplink up",
            f"link add {GUESTS_BRIDGE} mtu {GUESTS_MTU} type bridge",
            f"link add vxlan mtu {GUESTS_MTU} type vxlan id 1 local {self.address(host)} dstport 4789 dev uplink",
            f"link set vxlan master {GUESTS_BRIDGE} up",
            f"link set {GUESTS_BRIDGE} up",
        )
        others = [self.address(other) for other in self._numbers if other != host]
        flood = [f"fdb append 00:00:00:00:00:00 dev vxlan dst {other}" for other in others]
        configure(namespace, *flood, tool="bridge")
