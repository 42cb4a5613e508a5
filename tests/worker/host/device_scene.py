"""A domain of doubles and the rooms of its devices: what libvirt answers, and what the guest does, a test says."""

from collections.abc import Callable
from typing import cast
from uuid import uuid4

import libvirt
import pytest

from tasks.host import GuestInterface, GuestVolume, HostError, NetworkKind, Volume
from tests.worker.host.doubles import ConnectionsDouble, DeviceDomainDouble, libvirt_error
from worker.host.connections import Connections
from worker.host.device_xml import DiskSource
from worker.host.devices import LibvirtDevices
from worker.host.volumes.room import HostVolumes

LONG_S = 60.0
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
VOLUME = GuestVolume(Volume("vol-1", "known", {}), "vdb", "ua-vol-1", "vol-1")
NIC = GuestInterface("nic-1", "52:54:00:00:00:01", NetworkKind.BRIDGE, "br0", "ua-nic-1", "tap1")
DISK_XML = "<disk><target dev='vdb'/><serial>vol-1</serial><alias name='ua-vol-1'/></disk>"
OTHER_XML = "<disk><target dev='vdc'/><serial>vol-2</serial><alias name='ua-vol-2'/></disk>"


class Known:
    """A kind whose volumes are always there."""

    def connected(self, volume: Volume) -> bool:
        """Yes."""
        return True

    def held(self, volume: Volume) -> bool:
        """No."""
        return False

    def connect(self, volume: Volume) -> None:
        """There."""

    def disconnect(self, volume: Volume) -> None:
        """Gone."""

    def source(self, volume: Volume) -> DiskSource:
        """A device of its name."""
        return DiskSource("block", "raw", {"dev": f"/dev/{volume.id}"})


class Scene:
    """One domain that runs, and the rooms around it."""

    def __init__(self) -> None:
        self.instance = uuid4()
        self.domain = DeviceDomainDouble(self.instance, run=7)
        self.connections = ConnectionsDouble(self.domain)
        connections = cast("Connections", self.connections)
        self.volumes = HostVolumes(connections, {"known": Known()})
        self.devices = LibvirtDevices(connections, self.volumes)

    def on(self, verb: str, *happenings: Callable[[], None]) -> None:
        """What happens when libvirt is asked for it: one after another, the last for ever."""
        left = list(happenings)

        def next_happens() -> None:
            happening = left.pop(0) if len(left) > 1 else left[0]
            happening()

        self.domain.verbs[verb] = next_happens

    def asked(self) -> int:
        """How often the guest was asked to let the volume go."""
        return self.domain.called.count("ask ua-vol-1")

    def stops(self) -> None:
        """The guest ends."""
        self.domain.run = -1
        self.connections.events.tell(self.instance)

    def starts(self) -> None:
        """The guest starts."""
        self.domain.run = 8
        self.connections.events.tell(self.instance)

    def vanishes(self) -> None:
        """There is no such domain any more."""
        self.connections.domain = None
        self.connections.events.tell(self.instance)

    def lets_go(self) -> None:
        """The guest lets the volume go."""
        self.domain.live = []
        self.connections.events.tell(self.instance)

    def refuses(self, alias: str = "ua-vol-1") -> Callable[[], None]:
        """The guest says that it will not let that device go."""
        return lambda: self.connections.events.tell_refusal(self.instance, alias)

    def release(self, attempts: int = 1, timeout_s: float = LONG_S, watch: Callable[[], bool] = lambda: True) -> None:
        """Have the volume released."""
        self.devices.release(self.instance, VOLUME, attempts=attempts, timeout_s=timeout_s, watch=watch)


def raising(code: str, *before: Callable[[], None], domain: str = "QEMU", message: str = "why") -> Callable[[], None]:
    """An answer with that code, after those things happened."""

    def happen() -> None:
        for each in before:
            each()
        raise libvirt_error(code, domain, message=message)

    return happen


def refusal(call: Callable[[], object]) -> HostError:
    """The error that the call raises."""
    with pytest.raises(HostError) as caught:
        call()
    return caught.value
