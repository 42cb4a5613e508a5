"""Devices: disks and interfaces that a domain is given while it is defined, and may lose again."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from models.records import NOTHING, Json


@dataclass(frozen=True)
class Volume:
    """Storage that outlives instances. ``where`` is what its kind needs to be reached, as the request gave it.

    ``file``: ``path``, ``format``. ``block``: ``path``. ``nbd``: ``host``, ``port``, ``export``, or ``socket``.
    """

    id: str
    kind: str
    where: Json
    read_only: bool = False


@dataclass(frozen=True)
class GuestVolume:
    """A volume as the guest is given it: ``alias`` is ``ua-<volume id>``, ``serial`` the volume's id."""

    volume: Volume
    target: str
    alias: str
    serial: str


class NetworkKind(StrEnum):
    """What an interface's other end is plugged into."""

    BRIDGE = "bridge"  #: a Linux bridge of the host
    NETWORK = "network"  #: a network that libvirt runs


@dataclass(frozen=True)
class GuestInterface:
    """A network interface as the guest is given it: ``alias`` is ``ua-<interface id>``, ``tap`` its end on the host."""

    id: str
    mac: str  #: six lower-case hexadecimal pairs, separated by colons
    kind: NetworkKind
    network: str  #: the name of the bridge or network
    alias: str
    tap: str  #: at most 15 characters
    model: str = "virtio"
    mtu: int | None = None  #: bytes; None leaves it to what it is plugged into
    queues: int | None = None  #: pairs of queues; None is one


GuestDevice = GuestVolume | GuestInterface


@dataclass(frozen=True)
class ShownDevice:
    """A disk or interface in a domain's XML: what it is recognised by. What it does not have is empty."""

    alias: str
    target: str = ""  #: of a disk: ``vda``; of an interface: its tap
    serial: str = ""
    mac: str = ""
    source: str = ""  #: a path, or what an NBD disk names: ``nbd://host:port/export``

    def is_same(self, device: GuestDevice) -> bool:
        """Whether it is that device: by alias, and by what is written in it."""
        if isinstance(device, GuestVolume):
            return self.alias == device.alias and self.serial == device.serial
        return self.mac == device.mac


@dataclass(frozen=True)
class ShownDevices:
    """The devices of a domain: of the running guest, and of its persistent definition; None where there is none."""

    live: tuple[ShownDevice, ...] | None
    persistent: tuple[ShownDevice, ...] | None

    def everywhere(self, device: GuestDevice) -> bool:
        """Whether each of the two that exists has the device."""
        sides = [side for side in (self.live, self.persistent) if side is not None]
        return bool(sides) and all(any(shown.is_same(device) for shown in side) for side in sides)

    def anywhere(self, device: GuestDevice) -> bool:
        """Whether one of the two has it."""
        return any(shown.is_same(device) for side in (self.live, self.persistent) for shown in side or ())


class Devices(Protocol):
    """Devices of the host's domains. A domain that is not ours is HostError(CONFLICT), and untouched."""

    def shown(self, instance: UUID) -> ShownDevices | None:
        """The disks and interfaces of the domain now; None when there is no such domain."""
        ...

    def attach(self, instance: UUID, device: GuestDevice) -> None:
        """Give the domain the device: its definition always, its guest when it runs or is paused.

        All or nothing; where one of the two has the device already, only the other is given it. Another device
        with that alias, target or tap is HostError(CONFLICT); no domain, or no slot left, HostError(PERMANENT).
        """
        ...

    def remove_from_definition(self, instance: UUID, device: GuestDevice) -> None:
        """Take the device out of the persistent definition; not there, or no domain, is no error."""
        ...

    def release(
        self,
        instance: UUID,
        device: GuestDevice,
        *,
        attempts: int,
        timeout_s: float,
        watch: Callable[[], bool] = lambda: True,
    ) -> None:
        """Ask the running guest to let the device go, and return once it has.

        Told by event, waited for before it is asked; a request whose time has passed is made again, ``attempts``
        times in all, ``timeout_s`` each. Not there, or no running guest, is no error. A guest that did not let go,
        or said that it will not, is HostError(PERMANENT) with one sentence. ``watch`` is asked every few seconds
        whether to go on waiting: no is HostError(TRANSIENT), and the guest may yet let go.
        """
        ...


class Volumes(Protocol):
    """Volumes, whatever their kind, as this host reaches them."""

    def connected(self, volume: Volume) -> bool:
        """Whether the host has the volume within reach now.

        HostError(PERMANENT) when it can never be: a kind that is not known, a path outside the volume roots, a file
        of another format, a server that is not permitted.
        """
        ...

    def held(self, volume: Volume) -> bool:
        """Whether this host keeps something of its own for the volume (a session, a mapping) that letting go ends."""
        ...

    def connect(self, volume: Volume) -> None:
        """Bring the volume within reach; there already is no error."""
        ...

    def disconnect(self, volume: Volume) -> None:
        """Let the volume go; gone already is no error. HostError(TRANSIENT) while a domain of this host shows it."""
        ...


class Interfaces(Protocol):
    """The host's side of guests' interfaces."""

    def plugged(self, interface: GuestInterface) -> bool:
        """Whether what the interface is to be plugged into is there. HostError(PERMANENT) when this host lacks it."""
        ...

    def plug(self, interface: GuestInterface) -> None:
        """Make ready what the interface is plugged into, before the guest is given it."""
        ...

    def wait_forwarding(self, interfaces: Collection[GuestInterface], deadline_s: float) -> None:
        """Return once what a guest sends on each of them is passed on, or it has that one no more; told by event.

        HostError(TRANSIENT) when the deadline passed.
        """
        ...

    def left(self, interface: GuestInterface) -> bool:
        """Whether something that was made for the interface is on this host: its tap, while a guest has it or after."""
        ...

    def unplug(self, interface: GuestInterface) -> None:
        """Take away what plugging made, after the guest has let it go; nothing there is no error."""
        ...


#: Where each disk and log of a guest is here, and where it will be on the host that it goes to.
Paths = Mapping[str, str]
NO_PATHS: Paths = NOTHING
