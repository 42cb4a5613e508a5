"""Guests, volumes and interfaces as the contract tests ask for them."""

from collections.abc import Callable
from uuid import UUID

import pytest

from models.records import Json
from models.states import ErrorClass
from tasks.host import (
    Guest,
    GuestDevice,
    GuestInterface,
    GuestVolume,
    HostError,
    Identity,
    NetworkKind,
    ShownDevices,
    Volume,
)
from tests.contract.bench import Bench
from tests.lab.network import GUESTS_BRIDGE

SOON_S = 10.0


def guest(instance: UUID, *devices: GuestDevice) -> Guest:
    """A guest with these devices, whose firmware idles."""
    return Guest(
        Identity(instance, "job-1"),
        "guest",
        memory_mib=32,
        vcpus=1,
        volumes=tuple(each for each in devices if isinstance(each, GuestVolume)),
        interfaces=tuple(each for each in devices if isinstance(each, GuestInterface)),
    )


def running(bench: Bench, instance: UUID, *devices: GuestDevice) -> None:
    """Have such a guest running."""
    bench.host.domains.define(guest(instance, *devices))
    bench.host.domains.start(instance)
    bench.host.domains.wait_running(instance, SOON_S)


def file_volume(path: str, volume_id: str = "vol-1", volume_format: str = "raw") -> Volume:
    """A volume that is a file."""
    return Volume(volume_id, "file", {"path": path, "format": volume_format})


def nbd_volume(where: Json, volume_id: str = "vol-1") -> Volume:
    """A volume on an NBD server."""
    return Volume(volume_id, "nbd", where)


def given(volume: Volume, target: str = "vdb") -> GuestVolume:
    """The volume as a guest is given it."""
    return GuestVolume(volume, target, f"ua-{volume.id}", volume.id)


def disk(bench: Bench, name: str = "vol-1", target: str = "vdb") -> GuestVolume:
    """A volume of that id, whose file is there."""
    return given(file_volume(bench.volume(f"{name}.raw"), name), target)


def interface(name: str = "nic-1", number: int = 1, network: str = GUESTS_BRIDGE) -> GuestInterface:
    """An interface on a bridge; the number is in its MAC address and its tap's name."""
    mac = f"52:54:00:00:00:{number:02x}"
    return GuestInterface(name, mac, NetworkKind.BRIDGE, network, f"ua-{name}", f"tap-{number}")


def shown(bench: Bench, instance: UUID) -> ShownDevices:
    """The devices of a domain that is there."""
    found = bench.host.devices.shown(instance)
    assert found is not None
    return found


def sides(found: ShownDevices, device: GuestDevice) -> tuple[bool | None, bool | None]:
    """Whether the running guest has the device, and the definition; None where there is none."""
    has = [
        None if side is None else any(each.is_same(device) for each in side) for side in (found.live, found.persistent)
    ]
    return has[0], has[1]


def refused(call: Callable[[], object]) -> HostError:
    """The error that the call raises, in one sentence."""
    with pytest.raises(HostError) as caught:
        call()
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def refused_class(call: Callable[[], object]) -> ErrorClass:
    """Its class."""
    return refused(call).error_class
