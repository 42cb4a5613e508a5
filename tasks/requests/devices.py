"""Volumes and interfaces as requests name them, in nova's and libvirt's words."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from tasks.requests import Request
from tasks.requests.parts import HostPath, Part, printable

#: libvirt takes an alias of the user's only in these characters.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: The instance's own disks have aliases too.
_TAKEN_IDS = frozenset({"root"})
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MULTICAST_BIT = 0x01


def _device_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("Value is not 1 to 64 letters, digits, _ and -, beginning with a letter or digit")
    if text in _TAKEN_IDS:
        raise ValueError(f"Value {text} is the name of a disk that instances have")
    return text


def _mac(text: str) -> str:
    mac = text.lower()
    if not _MAC.fullmatch(mac):
        raise ValueError("Value is no MAC address: six pairs of hexadecimal digits separated by colons")
    if int(mac[:2], 16) & _MULTICAST_BIT:
        raise ValueError("Value is a multicast address, which no interface may have")
    return mac


DeviceId = Annotated[str, AfterValidator(_device_id)]
Mac = Annotated[str, AfterValidator(_mac)]
ServerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:_-]{0,254}$")]
NetworkName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _volume_id(text: str) -> str:
    if text.startswith("nic-"):
        raise ValueError("Value begins with nic-, as the aliases of interfaces do")
    return _device_id(text)


VolumeId = Annotated[str, AfterValidator(_volume_id)]


class _AnyVolume(Part):
    id: VolumeId = Field(description="the volume's id: its serial in the guest, and no two instances have it at once")
    read_only: bool = Field(default=False, description="whether the guest may only read it")


class FileVolume(_AnyVolume):
    """A file of the host."""

    kind: Literal["file"] = Field(description="what sort of volume it is")
    path: HostPath = Field(description="absolute path on the host, below one of its volume roots")
    format: Literal["raw", "qcow2"] = Field(default="raw", description="raw or qcow2; must be what the file is")


class BlockVolume(_AnyVolume):
    """A block device of the host."""

    kind: Literal["block"] = Field(description="what sort of volume it is")
    path: HostPath = Field(description="full name of the device, one of those that the host lists")


class NbdVolume(_AnyVolume):
    """An export of an NBD server: the same storage, whatever host the instance is on."""

    kind: Literal["nbd"] = Field(description="what sort of volume it is")
    host: ServerName | None = Field(default=None, description="the server's name or address")
    port: int = Field(default=10809, ge=1, le=65535, description="the server's TCP port")
    socket: HostPath | None = Field(default=None, description="instead of host and port: the server's UNIX socket")
    export: Annotated[str, StringConstraints(max_length=1024), AfterValidator(printable)] = Field(
        default="", description="the export's name; empty: the default export"
    )

    @model_validator(mode="after")
    def _reached_one_way(self) -> Self:
        if (self.host is None) == (self.socket is None):
            raise ValueError("an nbd volume is reached by host or by socket, and by one of them")
        return self


Volume = Annotated[FileVolume | BlockVolume | NbdVolume, Field(discriminator="kind")]


class Interface(Part):
    """A network interface on a Linux bridge or on a network that libvirt runs."""

    id: DeviceId = Field(description="the interface's id")
    mac: Mac | None = Field(default=None, description="its MAC address; null: one is made")
    bridge: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$")] | None = Field(
        default=None, description="the Linux bridge of the host that it is plugged into"
    )
    network: NetworkName | None = Field(default=None, description="instead of a bridge: the libvirt network")
    model: Literal["virtio", "e1000e"] = Field(default="virtio", description="what the guest sees")
    mtu: int | None = Field(default=None, ge=68, le=65535, description="bytes; null: that of what it is plugged into")
    queues: int | None = Field(
        default=None, ge=1, le=256, description="pairs of queues, of virtio: at most one for each processor is of use"
    )

    @model_validator(mode="after")
    def _plugged_one_way(self) -> Self:
        if (self.bridge is None) == (self.network is None):
            raise ValueError("an interface is plugged into a bridge or a network, and into one of them")
        return self

    @model_validator(mode="after")
    def _queues_fit(self) -> Self:
        if self.queues is not None and self.model != "virtio":
            raise ValueError("queues need the model virtio")
        return self


def refuse_twins(what: str, keys: Sequence[str]) -> None:
    """Raise ValueError if two devices of one request are the same one."""
    if len(set(keys)) != len(keys):
        raise ValueError(f"two of {what} are the same")


class AttachVolumeRequest(Request):
    """A volume that the instance is to have."""

    volume: Volume = Field(description="the volume")

    @property
    def wanted_volumes(self) -> Mapping[str, Volume]:
        """The volumes that the instance is to have, each by the field that asks for it."""
        return {"volume": self.volume}


class AttachInterfaceRequest(Request):
    """A network interface that the instance is to have."""

    interface: Interface = Field(description="the interface")

    @property
    def wanted_interfaces(self) -> tuple[Interface, ...]:
        """The interfaces that the instance is to have."""
        return (self.interface,)


class DetachRequest(Request):
    """How long a running guest may take to let a device go. The defaults are nova's."""

    attempts: int = Field(default=8, ge=1, le=100, description="how often the guest is asked")
    timeout_s: float = Field(
        default=20.0, ge=0.1, le=3600, strict=False, description="how long it may take each time, in seconds"
    )


class DetachVolumeRequest(DetachRequest):
    """A volume that the instance is to have no longer."""

    volume_id: VolumeId = Field(description="the volume's id")


class DetachInterfaceRequest(DetachRequest):
    """A network interface that the instance is to have no longer."""

    interface_id: DeviceId = Field(description="the interface's id")
