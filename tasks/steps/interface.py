"""Interfaces: plugged, attached, unplugged."""

from typing import Protocol
from uuid import UUID, uuid5

from typing_extensions import override

from models.records import NOTHING, Change, Device, DeviceAdded, DeviceRemoved, Json
from models.states import DeviceKind
from tasks.host import GuestInterface, Host, NetworkKind
from tasks.operation import Absent, NotNeeded, NotOurs, Sight, There, Work
from tasks.requests import Request
from tasks.requests.destroy import DestroyRequest
from tasks.requests.devices import AttachInterfaceRequest, DetachInterfaceRequest, DetachRequest
from tasks.requests.devices import Interface as WantedInterface
from tasks.steps.devices import (
    DeviceAttached,
    DeviceLeftDefinition,
    DeviceReleased,
    interface_details,
    interface_from,
    interfaces_of,
    let_go_of_each,
)

#: Locally administered, unicast, and QEMU's own first octet; the other five are of the interface.
_FIRST_OCTET = "52"


class WantsInterfaces(Protocol):
    """A request that gives an instance interfaces."""

    @property
    def wanted_interfaces(self) -> tuple[WantedInterface, ...]:
        """The interfaces that the instance is to have."""
        ...


def _interface(wanted: WantedInterface, instance: UUID) -> GuestInterface:
    """The interface with what is made for it: the same for the same interface of the same instance, always."""
    made = uuid5(instance, f"interface {wanted.id}").hex
    mac = ":".join([_FIRST_OCTET, *(made[at : at + 2] for at in range(0, 10, 2))])
    kind = NetworkKind.BRIDGE if wanted.bridge is not None else NetworkKind.NETWORK
    return GuestInterface(
        id=wanted.id,
        mac=wanted.mac or mac,
        kind=kind,
        network=wanted.bridge or wanted.network or "",
        alias=f"ua-nic-{wanted.id}",
        tap=f"ht{made[-11:]}",
        model=wanted.model,
        mtu=wanted.mtu,
        queues=wanted.queues,
    )


def _wanted(work: Work[Request]) -> tuple[GuestInterface, ...]:
    request: WantsInterfaces = work.request  # type: ignore[assignment]  # every operation with this step has such a one
    return tuple(_interface(each, work.instance) for each in request.wanted_interfaces)


def _row(work: Work[Request], interface_id: str) -> GuestInterface | None:
    return next((each for each in interfaces_of(work.devices) if each.id == interface_id), None)


class InterfacesPlugged:
    """Each interface that is asked for is the instance's, with a MAC that no other has, and has where to be plugged."""

    name = "InterfacesPlugged"

    def plan(self, work: Work[Request], host: Host) -> Json:
        """The MAC and the tap of each interface that the instance does not have yet."""
        new = [each for each in _wanted(work) if _row(work, each.id) is None]
        return {"interfaces": [interface_details(each) for each in new]}

    def undone(self, work: Work[Request], host: Host) -> bool:
        """What the host keeps of them is gone; whether they are within reach is another question."""
        return not any(host.interfaces.left(interface_from(each)) for each in work.intent.get("interfaces", ()))

    def reserves(self, work: Work[Request]) -> tuple[Change, ...]:
        """Of two interfaces with one MAC libvirt would take both: the instance has it from here on."""
        return tuple(
            DeviceAdded(Device(DeviceKind.INTERFACE, details["id"], details, exclusive=f"mac:{details['mac']}"))
            for details in work.intent.get("interfaces", ())
        )

    def look(self, work: Work[Request], host: Host) -> Sight:
        """The inventory says whose it is, and the host whether there is something to plug it into."""
        wanted = _wanted(work)
        if not wanted:
            return NotNeeded()
        for interface in wanted:
            row = _row(work, interface.id)
            if row is None:
                host.interfaces.plugged(interface)  # refuses what this host lacks, before anything is reserved
                return Absent()
            if row != interface:
                return NotOurs(f"the instance has an interface {interface.id} already, and it is not the same one")
        return There() if all(host.interfaces.plugged(each) for each in wanted) else Absent()

    def do(self, work: Work[Request], host: Host) -> None:
        """Plugs each, before a guest is given it."""
        for interface in _wanted(work):
            host.interfaces.plug(interface)

    def undo(self, work: Work[Request], host: Host) -> None:
        """Unplugs those that this job gave the instance."""
        for details in work.intent.get("interfaces", ()):
            host.interfaces.unplug(interface_from(details))

    def changes(self, work: Work[Request]) -> tuple[Change, ...]:
        """The inventory has them since they were reserved."""
        return ()


class InterfaceAttached(DeviceAttached):
    """The guest, if it runs or is paused, and its definition have the interface."""

    name = "InterfaceAttached"

    @override
    def device(self, work: Work[Request]) -> GuestInterface:
        """As it was reserved."""
        request: AttachInterfaceRequest = work.request  # type: ignore[assignment]  # the operation's own
        return next(each for each in interfaces_of(work.devices) if each.id == request.interface.id)


def _of_request(work: Work[DetachRequest]) -> GuestInterface | None:
    request: DetachInterfaceRequest = work.request  # type: ignore[assignment]  # the operation's own
    return _row(work, request.interface_id)


class InterfaceLeftDefinition(DeviceLeftDefinition):
    """The definition of the domain does not have the interface."""

    name = "InterfaceLeftDefinition"

    @override
    def device(self, work: Work[DetachRequest]) -> GuestInterface | None:
        """The interface that the request names."""
        return _of_request(work)


class InterfaceReleased(DeviceReleased):
    """No running guest of the instance has the interface, judged by its MAC."""

    name = "InterfaceReleased"

    @override
    def device(self, work: Work[DetachRequest]) -> GuestInterface | None:
        """The interface that the request names."""
        return _of_request(work)


class InterfaceUnplugged:
    """Nothing is left on the host of the interface, and the instance has it no longer."""

    name = "InterfaceUnplugged"

    def plan(self, work: Work[DetachInterfaceRequest], host: Host) -> Json:
        """It is named by the request."""
        return NOTHING

    def look(self, work: Work[DetachInterfaceRequest], host: Host) -> Sight:
        """Its tap goes with the guest's end of it."""
        interface = _row(work, work.request.interface_id)
        return There() if interface is None or not host.interfaces.left(interface) else Absent()

    def do(self, work: Work[DetachInterfaceRequest], host: Host) -> None:
        """Unplugs it, after the guest has let it go."""
        interface = _row(work, work.request.interface_id)
        if interface is not None:
            host.interfaces.unplug(interface)

    def undo(self, work: Work[DetachInterfaceRequest], host: Host) -> None:
        """Never asked for: once the guest has let go, there is only forward."""

    def changes(self, work: Work[DetachInterfaceRequest]) -> tuple[Change, ...]:
        """Its MAC is free."""
        return (DeviceRemoved(DeviceKind.INTERFACE, work.request.interface_id),)


class InterfacesUnplugged:
    """Nothing is left on this host of the instance's interfaces."""

    name = "InterfacesUnplugged"

    def plan(self, work: Work[DestroyRequest], host: Host) -> Json:
        """The inventory names them."""
        return NOTHING

    def look(self, work: Work[DestroyRequest], host: Host) -> Sight:
        """Their taps go with the guest."""
        interfaces = interfaces_of(work.devices)
        if not interfaces:
            return NotNeeded()
        return Absent() if any(host.interfaces.left(each) for each in interfaces) else There()

    def do(self, work: Work[DestroyRequest], host: Host) -> None:
        """Unplugs each; one that cannot be unplugged keeps no other."""
        let_go_of_each(interfaces_of(work.devices), host.interfaces.unplug)

    def undo(self, work: Work[DestroyRequest], host: Host) -> None:
        """Never asked for: a destroy only goes forward."""

    def changes(self, work: Work[DestroyRequest]) -> tuple[Change, ...]:
        """The inventory forgets them with the instance."""
        return ()
