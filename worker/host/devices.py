"""Devices of domains through libvirt: what a look shows decides, whatever a call answered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import libvirt
from lxml import etree

from models.states import ErrorClass
from tasks.host import GuestDevice, GuestVolume, HostError, ShownDevice, ShownDevices
from worker.host.connections import ConnectionClass, Connections
from worker.host.device_xml import interface_element, volume_element
from worker.host.domain_document import DomainDocument, refuse_anothers
from worker.host.errors import Call, is_look_first
from worker.host.releasing import Release
from worker.host.volumes.room import HostVolumes

#: A guest that starts or stops while it is given a device makes another round necessary; after so many the job waits.
ATTACH_ROUNDS: Final = 3

_LIVE: Final = libvirt.VIR_DOMAIN_AFFECT_LIVE
_CONFIG: Final = libvirt.VIR_DOMAIN_AFFECT_CONFIG


class LibvirtDevices:
    """The port's `Devices`."""

    def __init__(self, connections: Connections, volumes: HostVolumes) -> None:
        self._connections = connections
        self._volumes = volumes

    def shown(self, instance: UUID) -> ShownDevices | None:
        """What the running guest's document and the definition show."""
        look = self._look(ConnectionClass.LOOK, instance)
        return None if look is None else ShownDevices(_devices(look.live), _devices(look.persistent))

    def attach(self, instance: UUID, device: GuestDevice) -> None:
        """One call for both sides, which libvirt makes wholly or not at all; behind an error there is another look."""
        refusal: HostError | None = None
        refused_flags = 0
        for _ in range(ATTACH_ROUNDS):
            look = self._look(ConnectionClass.ATTACH, instance)
            if look is None:
                raise HostError(ErrorClass.PERMANENT, f"there is no domain {instance} to attach anything to")
            _refuse_clash(instance, look, device)
            flags = look.flags_of_missing(device)
            if not flags:
                return
            if refusal is not None and flags == refused_flags:
                raise refusal
            refusal, refused_flags = self._attempt(look.domain, device, flags), flags
            if refusal is None:
                return
        message = f"the domain {instance} started or stopped {ATTACH_ROUNDS} times while it was given a device"
        raise HostError(ErrorClass.TRANSIENT, message) from refusal

    def remove_from_definition(self, instance: UUID, device: GuestDevice) -> None:
        """Removed as the definition describes it; that it is not there is believed after a look."""
        refusal: HostError | None = None
        for _ in ("the call", "the look behind its error"):
            look = self._look(ConnectionClass.ATTACH, instance)
            document = None if look is None else look.persistent
            shown = None if document is None else document.find(device)
            if look is None or document is None or shown is None:
                return
            if refusal is not None:
                raise refusal
            try:
                with self._connections.calling(ConnectionClass.ATTACH, Call.DETACH):
                    look.domain.detachDeviceFlags(document.element(shown), _CONFIG)
            except HostError as error:
                if not is_look_first(error, Call.DETACH):
                    raise
                refusal = error
            else:
                return

    def release(
        self,
        instance: UUID,
        device: GuestDevice,
        *,
        attempts: int,
        timeout_s: float,
        watch: Callable[[], bool] = lambda: True,
    ) -> None:
        """Asked and waited for as often, and as long, as it says."""
        Release(self._connections, instance, device, watch).ask(attempts, timeout_s)

    def _attempt(self, domain: libvirt.virDomain, device: GuestDevice, flags: int) -> HostError | None:
        """Have libvirt attach it. Returned is an error behind which a look is worth its while."""
        document = self._document(device)
        try:
            with self._connections.calling(ConnectionClass.ATTACH, Call.ATTACH):
                domain.attachDeviceFlags(document, flags)
        except HostError as error:
            if error.error_class is ErrorClass.UNKNOWN:
                raise
            return error
        return None

    def _document(self, device: GuestDevice) -> str:
        if isinstance(device, GuestVolume):
            element = volume_element(device, self._volumes.source(device.volume))
        else:
            element = interface_element(device)
        return etree.tostring(element, encoding="unicode")

    def _look(self, connection_class: ConnectionClass, instance: UUID) -> "_Look | None":
        """What is there, if it is ours or nothing. Raises HostError(CONFLICT) when it is another's."""
        with self._connections.calling(connection_class, Call.LOOK) as connection:
            try:
                look = _Look.at(connection.lookupByUUID(instance.bytes))
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return None
                raise
        for document in filter(None, (look.live, look.persistent)):
            refuse_anothers(instance, document.identity)
        return look


@dataclass(frozen=True)
class _Look:
    """A domain as seen once: its running guest and its definition, as far as there is one."""

    domain: libvirt.virDomain
    live: DomainDocument | None
    persistent: DomainDocument | None

    @classmethod
    def at(cls, domain: libvirt.virDomain) -> "_Look":
        """One document for each of the two that exists."""
        now = DomainDocument(domain.XMLDesc())
        if not now.active:
            return cls(domain, None, now)
        defined = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if domain.isPersistent() else None
        return cls(domain, now, None if defined is None else DomainDocument(defined))

    def flags_of_missing(self, device: GuestDevice) -> int:
        """The flags for those of the two that lack the device; 0 when none does."""
        sides = ((_LIVE, self.live), (_CONFIG, self.persistent))
        return sum(flag for flag, document in sides if document is not None and document.find(device) is None)


def _devices(document: DomainDocument | None) -> tuple[ShownDevice, ...] | None:
    return None if document is None else document.devices


def _refuse_clash(instance: UUID, look: _Look, device: GuestDevice) -> None:
    """Raise HostError(CONFLICT) when another device has what is to be this one's alone."""
    for document in filter(None, (look.live, look.persistent)):
        for shown in document.devices:
            clash = _clash(shown, device)
            if clash:
                message = f"another device of the domain {instance} has the {clash}; nothing was done"
                raise HostError(ErrorClass.CONFLICT, message)


def _clash(shown: ShownDevice, device: GuestDevice) -> str:
    if shown.is_same(device) and shown.alias in {"", device.alias}:
        return ""
    if shown.alias == device.alias:
        return f"alias {device.alias}"
    if isinstance(device, GuestVolume):
        return f"target {device.target}" if not shown.mac and shown.target == device.target else ""
    if shown.mac == device.mac:
        return f"MAC address {device.mac}"
    return f"tap {device.tap}" if shown.mac and shown.target == device.tap else ""
