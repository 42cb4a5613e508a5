"""The host's side of interfaces, with folders that stand in for the kernel's and a libvirt that runs networks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import libvirt
import pytest

from models.states import ErrorClass
from tasks.host import GuestInterface, HostError, NetworkKind
from tests.worker.host.doubles import libvirt_error
from worker.host import interfaces as interfaces_module
from worker.host.connections import ConnectionClass, Connections
from worker.host.errors import Call, translated
from worker.host.interfaces import HostInterfaces

NIC = GuestInterface("nic-1", "52:54:00:00:00:01", NetworkKind.NETWORK, "default", "ua-nic-1", "tap1")


class Networks:
    """A libvirt with one network, or without."""

    def __init__(self) -> None:
        self.active = 1
        self.error: libvirt.libvirtError | None = None

    @contextmanager
    def calling(self, _class: ConnectionClass, call: Call) -> Iterator["Networks"]:
        """This, with libvirt's errors translated."""
        try:
            yield self
        except libvirt.libvirtError as error:
            raise translated(error, call) from error

    def networkLookupByName(self, _name: str) -> "Networks":  # noqa: N802 - libvirt's name
        """The one network."""
        if self.error:
            raise self.error
        return self

    def isActive(self) -> int:  # noqa: N802 - libvirt's name
        """Whether it runs."""
        return self.active


@pytest.fixture
def networks() -> Networks:
    """A libvirt whose network runs."""
    return Networks()


@pytest.fixture
def interfaces(networks: Networks, tmp_path: Path) -> HostInterfaces:
    """On a host without network devices."""
    return HostInterfaces(cast("Connections", networks), tmp_path)


def refusal(interfaces: HostInterfaces, nic: GuestInterface) -> HostError:
    """The error with which it cannot be plugged."""
    with pytest.raises(HostError) as caught:
        interfaces.plugged(nic)
    return caught.value


def test_a_network_that_runs_can_be_plugged_into(interfaces: HostInterfaces) -> None:
    """Libvirt knows."""
    assert interfaces.plugged(NIC)


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        ("NO_NETWORK", "this host has no network 'default'", ErrorClass.PERMANENT),
        ("NO_SUPPORT", "this host's libvirt runs no networks", ErrorClass.PERMANENT),
        ("INTERNAL_ERROR", "why", ErrorClass.TRANSIENT),
    ],
)
def test_a_network_that_libvirt_does_not_show_is_told_apart_from_a_libvirt_that_does_not_answer(
    networks: Networks, interfaces: HostInterfaces, code: str, words: str, expected: ErrorClass
) -> None:
    """One is final, the other may pass."""
    networks.error = libvirt_error(code, "NETWORK")
    error = refusal(interfaces, NIC)
    assert error.error_class is expected
    assert words in str(error)


def test_a_network_that_does_not_run_is_refused(networks: Networks, interfaces: HostInterfaces) -> None:
    """Whoever runs it starts it."""
    networks.active = 0
    error = refusal(interfaces, NIC)
    assert (error.error_class, "is not active" in str(error)) == (ErrorClass.PERMANENT, True)


def test_a_bridge_is_told_from_other_network_devices(interfaces: HostInterfaces, tmp_path: Path) -> None:
    """By what the kernel keeps for it."""
    nic = replace(NIC, kind=NetworkKind.BRIDGE, network="br0")
    (tmp_path / "br0").mkdir()
    assert "no bridge 'br0'" in str(refusal(interfaces, nic))
    (tmp_path / "br0" / "bridge").mkdir()
    assert interfaces.plugged(nic)


def test_a_tap_that_stays_is_told(interfaces: HostInterfaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something holds it, and will hardly do so for ever."""
    monkeypatch.setattr(interfaces_module, "TAP_GONE_S", 0.1)
    (tmp_path / "tap1").mkdir()
    assert interfaces.left(NIC)
    with pytest.raises(HostError, match="the tap tap1 of the interface nic-1 is still there") as caught:
        interfaces.unplug(NIC)
    assert caught.value.error_class is ErrorClass.TRANSIENT
    (tmp_path / "tap1").rmdir()
    interfaces.unplug(NIC)


@pytest.mark.parametrize("tap", ["", "..", "../net", "sixteen-or-more-"])
def test_a_name_that_no_tap_has_is_refused(interfaces: HostInterfaces, tap: str) -> None:
    """It would be looked for elsewhere."""
    for call in (interfaces.left, interfaces.unplug):
        with pytest.raises(HostError) as caught:
            call(replace(NIC, tap=tap))
        assert caught.value.error_class is ErrorClass.PERMANENT
