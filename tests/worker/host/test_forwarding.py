"""Ports of bridges: what the kernel shows of them, and how long they are waited for."""

from pathlib import Path
from typing import cast

import pytest

from models.states import ErrorClass
from tasks.host import GuestInterface, HostError, NetworkKind
from worker.host.connections import Connections
from worker.host.interfaces import HostInterfaces

NIC = GuestInterface("nic-1", "52:54:00:00:00:01", NetworkKind.BRIDGE, "br0", "ua-nic-1", "tap1")
OF_NETWORK = GuestInterface("nic-2", "52:54:00:00:00:02", NetworkKind.NETWORK, "default", "ua-nic-2", "tap2")


def port(devices: Path, tap: str, state: str) -> None:
    """The tap as a port of a bridge, in this state of the kernel's."""
    (devices / tap / "brport").mkdir(parents=True, exist_ok=True)
    (devices / tap / "brport" / "state").write_text(f"{state}\n")


def interfaces(devices: Path) -> HostInterfaces:
    """Of a host with these devices; libvirt is not asked."""
    return HostInterfaces(cast("Connections", None), devices)


def test_a_port_that_forwards_is_not_waited_for(tmp_path: Path) -> None:
    """Whatever it is plugged into."""
    port(tmp_path, "tap1", "3")
    port(tmp_path, "tap2", "3")
    interfaces(tmp_path).wait_forwarding((NIC, OF_NETWORK), 0.0)


@pytest.mark.parametrize("state", ["0", "1", "2", "4", ""])
def test_a_port_that_is_silent_is_named_at_the_deadline(tmp_path: Path, state: str) -> None:
    """Disabled, listening, learning or blocked: with the bridge to look at."""
    port(tmp_path, "tap1", state)
    with pytest.raises(HostError, match=r"after 0 s .* nothing of tap1 in br0; look at the bridge") as silent:
        interfaces(tmp_path).wait_forwarding((NIC,), 0.0)
    assert silent.value.error_class is ErrorClass.TRANSIENT


def test_a_tap_that_is_in_no_bridge_is_waited_for(tmp_path: Path) -> None:
    """It may come into it; that of a network without a bridge has nothing to wait for."""
    (tmp_path / "tap2").mkdir()
    interfaces(tmp_path).wait_forwarding((OF_NETWORK,), 0.0)
    (tmp_path / "tap1").mkdir()
    with pytest.raises(HostError, match="tap1 in br0"):
        interfaces(tmp_path).wait_forwarding((NIC, OF_NETWORK), 0.0)


def test_a_tap_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    """It went with its guest."""
    interfaces(tmp_path).wait_forwarding((NIC, OF_NETWORK), 0.0)
