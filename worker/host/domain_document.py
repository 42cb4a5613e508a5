"""A domain's XML as libvirt shows it: whose it is, whether it runs, and its devices. Pure: nothing here asks a host."""

from collections.abc import Iterator
from uuid import UUID

from lxml import etree

from models.states import ErrorClass
from tasks.host import GuestDevice, HostError, Identity, ShownDevice
from worker.host.guest_xml import METADATA_NAMESPACE, identity_of


class DomainDocument:
    """One XML description of a domain, the running guest's or the definition's."""

    def __init__(self, document: str) -> None:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
        self._domain = etree.fromstring(document.encode(), parser)
        self._shown = tuple(_devices(self._domain))
        self.devices: tuple[ShownDevice, ...] = tuple(device for device, _ in self._shown)

    @property
    def active(self) -> bool:
        """Whether it describes a running guest: libvirt gives no number to any other."""
        return self._domain.get("id") is not None

    @property
    def identity(self) -> Identity | None:
        """Whose the domain is; None when it is not one of ours."""
        element = self._domain.find(f"metadata/{{{METADATA_NAMESPACE}}}domain")
        return None if element is None else identity_of(element)

    def find(self, device: GuestDevice) -> ShownDevice | None:
        """The device as it is shown, if it is."""
        return next((shown for shown in self.devices if shown.is_same(device)), None)

    def element(self, device: ShownDevice) -> str:
        """The whole element of one of its devices."""
        return next(etree.tostring(element, encoding="unicode") for shown, element in self._shown if shown is device)


def refuse_anothers(instance: UUID, identity: Identity | None) -> None:
    """Raise HostError(CONFLICT) unless the domain with the instance's UUID says that it is that instance's."""
    if identity is None:
        raise HostError(ErrorClass.CONFLICT, f"the domain {instance} was not made by Hostler; nothing was done")
    if identity.instance != instance:
        message = f"the domain {instance} says that it is instance {identity.instance}; nothing was done"
        raise HostError(ErrorClass.CONFLICT, message)


def _devices(domain: etree._Element) -> Iterator[tuple[ShownDevice, etree._Element]]:
    for element in domain.iterfind("devices/disk"):
        shown = ShownDevice(
            alias=_attribute(element, "alias", "name"),
            target=_attribute(element, "target", "dev"),
            serial=element.findtext("serial") or "",
            source=_source(element.find("source")),
        )
        yield shown, element
    for element in domain.iterfind("devices/interface"):
        shown = ShownDevice(
            alias=_attribute(element, "alias", "name"),
            target=_attribute(element, "target", "dev"),
            mac=_attribute(element, "mac", "address").lower(),
            source=_source(element.find("source")),
        )
        yield shown, element


def _attribute(element: etree._Element, tag: str, attribute: str) -> str:
    found = element.find(tag)
    return "" if found is None else found.get(attribute, "")


def _source(source: etree._Element | None) -> str:
    if source is None:
        return ""
    protocol, name = source.get("protocol"), source.get("name", "")
    if protocol is None:
        places = ("file", "dev", "network", "bridge")  # libvirt shows the bridge of a network as well
        return next((source.get(place, "") for place in places if source.get(place)), "")
    host = source.find("host")
    if host is None:
        return f"{protocol}:///{name}"
    if host.get("transport") == "unix":
        return f"{protocol}+unix:///{name}?socket={host.get('socket', '')}"
    where = host.get("name", "")
    where = f"[{where}]" if ":" in where else where
    return f"{protocol}://{where}:{host.get('port', '')}/{name}"
