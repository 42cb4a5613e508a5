"""Devices: what attaching, detaching and moving them has in common; and between a request, an intent and a row."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import chain, product
from string import ascii_lowercase
from typing import TypeVar
from uuid import UUID

from models.records import NOTHING, Change, Device, Json, Progress
from models.states import DeviceKind, ErrorClass
from tasks.host import (
    GuestDevice,
    GuestInterface,
    GuestVolume,
    Host,
    HostError,
    NetworkKind,
    ShownDevices,
    Volume,
    Wish,
)
from tasks.operation import Absent, Partial, Sight, There, Work
from tasks.requests import Request
from tasks.requests.devices import DetachRequest

DeviceT = TypeVar("DeviceT", bound=GuestDevice)


def shown_on(work: Work[Request], host: Host) -> ShownDevices:
    """The domain's devices; an instance without a domain can be given none."""
    shown = host.devices.shown(work.instance)
    if shown is None:
        raise HostError(ErrorClass.PERMANENT, f"instance {work.instance} has no domain on this host")
    return shown


_PREFIXES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd"}


def disk_targets(bus: str = "virtio") -> Iterable[str]:
    """``vda`` to ``vdz``, then ``vdaa`` and on; on other buses ``sda`` or ``hda`` and on."""
    return (
        f"{_PREFIXES[bus]}{''.join(letters)}"
        for letters in chain(product(ascii_lowercase), product(ascii_lowercase, repeat=2))
    )


def volume_from(details: Json) -> GuestVolume:
    """The volume that a row of the inventory, or an intent, describes."""
    volume = Volume(details["id"], details["kind"], details["where"], details["read_only"])
    return GuestVolume(volume, details["target"], details["alias"], details["serial"])


def volume_details(device: GuestVolume) -> Json:
    """The volume as the journal keeps it."""
    volume = device.volume
    return {
        "id": volume.id,
        "kind": volume.kind,
        "where": dict(volume.where),
        "read_only": volume.read_only,
        "target": device.target,
        "alias": device.alias,
        "serial": device.serial,
    }


def interface_from(details: Json) -> GuestInterface:
    """The interface that a row of the inventory, or an intent, describes."""
    return GuestInterface(**{**details, "kind": NetworkKind(details["kind"])})


def interface_details(device: GuestInterface) -> Json:
    """The interface as the journal keeps it."""
    return {**asdict(device), "kind": device.kind.value}


def volumes_of(devices: Iterable[Device]) -> tuple[GuestVolume, ...]:
    """The volumes among an instance's devices."""
    return tuple(volume_from(device.details) for device in devices if device.kind is DeviceKind.VOLUME)


def interfaces_of(devices: Iterable[Device]) -> tuple[GuestInterface, ...]:
    """The interfaces among an instance's devices."""
    return tuple(interface_from(device.details) for device in devices if device.kind is DeviceKind.INTERFACE)


def let_go_of_each(devices: Iterable[DeviceT], let_go: Callable[[DeviceT], None]) -> None:
    """Let go of each of them, also when that fails for one: the first error is raised once all had their turn."""
    errors = []
    for device in devices:
        try:
            let_go(device)
        except HostError as error:
            errors.append(error)
    if errors:
        raise errors[0]


class DeviceAttached(ABC):
    """What attaching a volume and an interface have in common."""

    @abstractmethod
    def device(self, work: Work[Request]) -> GuestDevice:
        """The device, as the inventory has it."""
        ...

    def plan(self, work: Work[Request], host: Host) -> Json:
        """The alias by which it is known."""
        return {"alias": self.device(work).alias}

    def look(self, work: Work[Request], host: Host) -> Sight:
        """Both the guest and its definition have it, or whichever of them exists."""
        device, shown = self.device(work), shown_on(work, host)
        if shown.everywhere(device):
            return There()
        _refuse_suspended(work, shown, host)
        if shown.anywhere(device):
            live = any(each.is_same(device) for each in shown.live or ())
            had = "live" if live else "persistent"
            return Partial(f"{device.alias} is not in both the guest and its definition", {"had": had})
        return Absent()

    def do(self, work: Work[Request], host: Host) -> None:
        """Gives it to both in one call."""
        host.devices.attach(work.instance, self.device(work))

    def undo(self, work: Work[Request], host: Host) -> None:
        """Takes it from where this job put it; from a guest that holds on to it, not by force."""
        device, had = self.device(work), work.intent.get("had")
        if had != "live":
            host.devices.release(work.instance, device, attempts=UNDO_ATTEMPTS, timeout_s=UNDO_TIMEOUT_S)
        if had != "persistent":
            host.devices.remove_from_definition(work.instance, device)

    def changes(self, work: Work[Request]) -> tuple[Change, ...]:
        """The inventory has it since it was reserved."""
        return ()


#: How often, and how long each time in seconds, a guest is asked for a device that a failed job gave it.
UNDO_ATTEMPTS = 3
UNDO_TIMEOUT_S = 5.0


class DeviceLeftDefinition(ABC):
    """What taking a volume and an interface out of the definition have in common."""

    @abstractmethod
    def device(self, work: Work[DetachRequest]) -> GuestDevice | None:
        """The device, as the inventory has it; None where it has none."""
        ...

    def plan(self, work: Work[DetachRequest], host: Host) -> Json:
        """It is named by the request."""
        return NOTHING

    def look(self, work: Work[DetachRequest], host: Host) -> Sight:
        """Without a domain there is no definition."""
        device, shown = self.device(work), host.devices.shown(work.instance)
        if device is None or shown is None:
            return There()
        _refuse_suspended(work, shown, host)
        return Absent() if any(each.is_same(device) for each in shown.persistent or ()) else There()

    def do(self, work: Work[DetachRequest], host: Host) -> None:
        """Takes it out, first: a guest that is started again does not get it back."""
        device = self.device(work)
        if device is not None:
            host.devices.remove_from_definition(work.instance, device)

    def undone(self, work: Work[DetachRequest], host: Host) -> bool:
        """Put back wherever it can be: without a domain there is nowhere."""
        return True

    def undo(self, work: Work[DetachRequest], host: Host) -> None:
        """Puts it back where it is missing."""
        _put_back(self.device(work), work.instance, host)

    def changes(self, work: Work[DetachRequest]) -> tuple[Change, ...]:
        """The instance has it until its guest has let it go as well."""
        return ()


class DeviceReleased(ABC):
    """What having a guest let go of a volume and of an interface have in common."""

    @abstractmethod
    def device(self, work: Work[DetachRequest]) -> GuestDevice | None:
        """The device, as the inventory has it; None where it has none."""
        ...

    def plan(self, work: Work[DetachRequest], host: Host) -> Json:
        """It is named by the request."""
        return NOTHING

    def look(self, work: Work[DetachRequest], host: Host) -> Sight:
        """A guest that does not run has let go."""
        device, shown = self.device(work), host.devices.shown(work.instance)
        if device is None or shown is None:
            return There()
        return Absent() if any(each.is_same(device) for each in shown.live or ()) else There()

    def do(self, work: Work[DetachRequest], host: Host) -> None:
        """Asks the guest, and waits by event."""
        device, request = self.device(work), work.request
        if device is None:
            return

        def watch() -> bool:
            return work.report(Progress("waiting for the guest", 0, 0)) is not Wish.CANCEL

        host.devices.release(work.instance, device, attempts=request.attempts, timeout_s=request.timeout_s, watch=watch)

    def undone(self, work: Work[DetachRequest], host: Host) -> bool:
        """Given back if it can be: a guest that is off has nothing, and is given it when it starts."""
        return True

    def undo(self, work: Work[DetachRequest], host: Host) -> None:
        """Gives back what the guest may have let go of after all."""
        _put_back(self.device(work), work.instance, host)

    def changes(self, work: Work[DetachRequest]) -> tuple[Change, ...]:
        """The instance has it until the host has let it go as well."""
        return ()


def _refuse_suspended(work: Work[Request], shown: ShownDevices, host: Host) -> None:
    """A guest goes on with the devices that it was suspended with, whatever its definition says by then."""
    if not work.intended and shown.live is None and host.power.is_saved(work.instance):
        message = f"instance {work.instance} on host {work.host} is suspended, with its devices: resume it first"
        raise HostError(ErrorClass.PERMANENT, message)


def _put_back(device: GuestDevice | None, instance: UUID, host: Host) -> None:
    if isinstance(device, GuestVolume) and not device.volume.kind:
        return  # the inventory does not know how it is reached
    if device is not None and host.devices.shown(instance) is not None:
        host.devices.attach(instance, device)
