"""The host's side of guests' interfaces. libvirt makes a tap for each, and the tap goes with the guest's QEMU.

Measured: taps are not persistent, so whatever ends QEMU's hold of one removes it, a kill included. There is nothing to
make before a guest is given an interface, and nothing to take away after; both are looked at.
"""

import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import libvirt

from models.states import ErrorClass
from tasks.host import GuestInterface, HostError, NetworkKind
from worker.host.connections import ConnectionClass, Connections
from worker.host.errors import Call
from worker.host.forwarding import forwards, is_bridge_port, wait_until
from worker.host.unfit import INTERFACE_NAME, refuse_mismatch

#: The kernel removes a tap a moment after its last holder has closed it.
TAP_GONE_S: Final = 2.0
_LOOK_AGAIN_S: Final = 0.05
_NETWORK_DEVICES: Final = Path("/sys/class/net")


class HostInterfaces:
    """The port's `Interfaces`."""

    def __init__(self, connections: Connections, network_devices: Path = _NETWORK_DEVICES) -> None:
        self._connections = connections
        self._network_devices = network_devices

    def plugged(self, interface: GuestInterface) -> bool:
        """Whether the bridge is there, or the network runs."""
        match interface.kind:
            case NetworkKind.BRIDGE:
                self._require_bridge(interface.network)
            case NetworkKind.NETWORK:
                self._require_network(interface.network)
        return True

    def plug(self, interface: GuestInterface) -> None:
        """Look: libvirt does the rest when the guest is given the interface."""
        self.plugged(interface)

    def wait_forwarding(self, interfaces: Collection[GuestInterface], deadline_s: float) -> None:
        """Told by the kernel; a tap that went with its guest, or is in no bridge, has nothing to wait for."""
        if not wait_until(lambda: not any(map(self._is_silent, interfaces)), deadline_s):
            silent = ", ".join(f"{each.tap} in {each.network}" for each in interfaces if self._is_silent(each))
            message = f"after {deadline_s:g} s the host still passes on nothing of {silent}; look at the bridge"
            raise HostError(ErrorClass.TRANSIENT, message)

    def _is_silent(self, interface: GuestInterface) -> bool:
        refuse_mismatch("interface's tap", interface.tap, INTERFACE_NAME)
        tap = self._network_devices / interface.tap
        if not tap.exists() or (interface.kind is NetworkKind.NETWORK and not is_bridge_port(tap)):
            return False
        return not forwards(tap)

    def left(self, interface: GuestInterface) -> bool:
        """Whether the tap is there."""
        refuse_mismatch("interface's tap", interface.tap, INTERFACE_NAME)
        return (self._network_devices / interface.tap).exists()

    def unplug(self, interface: GuestInterface) -> None:
        """See the tap gone; HostError(TRANSIENT) while something still holds it."""
        end = time.monotonic() + TAP_GONE_S
        while self.left(interface):
            if time.monotonic() >= end:
                message = f"the tap {interface.tap} of the interface {interface.id} is still there; something holds it"
                raise HostError(ErrorClass.TRANSIENT, message)
            time.sleep(_LOOK_AGAIN_S)

    def _require_bridge(self, name: str) -> None:
        refuse_mismatch("bridge's name", name, INTERFACE_NAME)
        if not (self._network_devices / name / "bridge").is_dir():
            raise HostError(ErrorClass.PERMANENT, f"this host has no bridge {name!r}")

    def _require_network(self, name: str) -> None:
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            try:
                active = connection.networkLookupByName(name).isActive()
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
                    message = f"this host's libvirt runs no networks, so there is no network {name!r}"
                elif error.get_error_code() == libvirt.VIR_ERR_NO_NETWORK:
                    message = f"this host has no network {name!r}"
                else:
                    raise
                raise HostError(ErrorClass.PERMANENT, message) from error
        if not active:
            raise HostError(ErrorClass.PERMANENT, f"the network {name!r} of this host is not active")
