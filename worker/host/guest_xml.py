"""Domain XML from a guest, and a domain's identity from XML. Pure: nothing here asks a host."""

import re
from dataclasses import dataclass
from uuid import UUID

from lxml import etree

from models.states import ErrorClass
from tasks.host import DirectBoot, Guest, GuestDisk, HostError, Identity

METADATA_NAMESPACE = "urn:hostler:domain:1"
METADATA_PREFIX = "hostler"

#: One root port takes one PCI device; these are for devices that come while the guest runs, and for its disks.
ROOT_PORTS = 8
#: Ports that devices of every guest take: the memory balloon.
PORTS_TAKEN = 1

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAKS = re.compile("[\n\r\u0085\u2028\u2029]")
_ALIAS = re.compile(r"ua-[A-Za-z0-9_-]+")  # libvirt ignores any other alias without a word
_TARGET = re.compile(r"vd[a-z]{1,2}")
_SERIAL = re.compile(r"[A-Za-z0-9_.+ -]{1,64}")
_FORMATS = frozenset({"qcow2", "raw"})


@dataclass(frozen=True)
class GuestSurroundings:
    """What a definition takes from its host."""

    virt_type: str  #: ``kvm`` or ``qemu``
    architecture: str
    console_log: str
    emulator: str | None = None  #: None leaves the choice to libvirt


def domain_xml(guest: Guest, surroundings: GuestSurroundings) -> str:
    """The whole definition of the domain. Raises HostError(PERMANENT) for a value that no definition can carry."""
    _refuse_unfit(guest)
    uuid = str(guest.identity.instance)
    domain = etree.Element("domain", type=surroundings.virt_type)
    _text(domain, "name", uuid)
    _text(domain, "uuid", uuid)
    if guest.name:
        _text(domain, "title", guest.name)
    _metadata(domain, guest.identity)
    _text(domain, "memory", str(guest.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(guest.vcpus))
    _boot(domain, guest.boot, surroundings.architecture, has_disks=bool(guest.disks))
    features = etree.SubElement(domain, "features")
    etree.SubElement(features, "acpi")
    etree.SubElement(features, "apic")
    if surroundings.virt_type == "kvm":
        etree.SubElement(domain, "cpu", mode="host-model")
    etree.SubElement(domain, "clock", offset="utc")
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "destroy")
    _devices(domain, guest.disks, surroundings)
    return etree.tostring(domain, encoding="unicode", pretty_print=True)


def identity_in(metadata: str) -> Identity | None:
    """Whose the domain is, from its metadata element as libvirt returns it; None when it is not one of ours."""
    try:
        element = etree.fromstring(metadata.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
        return Identity(UUID(element.get("instance", "")), element.get("job", ""))
    except (etree.XMLSyntaxError, ValueError):
        return None


def _metadata(domain: etree._Element, identity: Identity) -> None:
    metadata = etree.SubElement(domain, "metadata")
    owner = etree.SubElement(metadata, f"{{{METADATA_NAMESPACE}}}domain", nsmap={METADATA_PREFIX: METADATA_NAMESPACE})
    owner.set("instance", str(identity.instance))
    owner.set("job", identity.job)


def _boot(domain: etree._Element, boot: DirectBoot | None, architecture: str, *, has_disks: bool) -> None:
    system = etree.SubElement(domain, "os")
    _text(system, "type", "hvm", arch=architecture, machine="q35")
    if boot is not None:
        _text(system, "kernel", boot.kernel)
        if boot.initrd is not None:
            _text(system, "initrd", boot.initrd)
        if boot.cmdline is not None:
            _text(system, "cmdline", boot.cmdline)
    elif has_disks:
        etree.SubElement(system, "boot", dev="hd")


def _devices(domain: etree._Element, disks: tuple[GuestDisk, ...], surroundings: GuestSurroundings) -> None:
    devices = etree.SubElement(domain, "devices")
    if surroundings.emulator is not None:
        _text(devices, "emulator", surroundings.emulator)
    for disk in disks:
        _disk(devices, disk)
    etree.SubElement(devices, "controller", type="usb", model="none")
    etree.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
    for index in range(1, ROOT_PORTS + 1):
        etree.SubElement(devices, "controller", type="pci", index=str(index), model="pcie-root-port")
    serial = etree.SubElement(devices, "serial", type="file")
    etree.SubElement(serial, "source", path=surroundings.console_log, append="on")
    etree.SubElement(serial, "target", type="isa-serial", port="0")
    video = etree.SubElement(devices, "video")
    etree.SubElement(video, "model", type="none")
    etree.SubElement(devices, "memballoon", model="virtio")


def _disk(devices: etree._Element, disk: GuestDisk) -> None:
    element = etree.SubElement(devices, "disk", type="file", device="disk")
    # No cache mode: QEMU's default is a write-back cache that honours the guest's flushes, on every file system.
    etree.SubElement(element, "driver", name="qemu", type=disk.format)
    etree.SubElement(element, "source", file=disk.path)
    etree.SubElement(element, "target", dev=disk.target, bus="virtio")
    _text(element, "serial", disk.serial)
    etree.SubElement(element, "alias", name=disk.alias)


def _text(parent: etree._Element, tag: str, text: str, **attributes: str) -> None:
    etree.SubElement(parent, tag, attributes).text = text


# --- what no definition can carry


def _refuse_unfit(guest: Guest) -> None:
    boot = guest.boot or DirectBoot("/")
    for what, value in (
        ("name", guest.name),
        ("job", guest.identity.job),
        ("kernel", boot.kernel),
        ("initrd", boot.initrd or ""),
        ("kernel command line", boot.cmdline or ""),
    ):
        _refuse_if(_NOT_XML.search(value), f"the guest's {what} {value!r} has a character that XML cannot carry")
        _refuse_if(_LINE_BREAKS.search(value), f"the guest's {what} {value!r} has a line break")
    _refuse_if(guest.memory_mib < 1, f"memory_mib is {guest.memory_mib}, and must be at least 1")
    _refuse_if(guest.vcpus < 1, f"vcpus is {guest.vcpus}, and must be at least 1")
    room = ROOT_PORTS - PORTS_TAKEN
    _refuse_if(len(guest.disks) > room, f"the guest has {len(guest.disks)} disks, and there is room for {room}")
    for disk in guest.disks:
        _refuse_unfit_disk(disk)
    for what in ("target", "alias", "serial", "path"):
        values = [getattr(disk, what) for disk in guest.disks]
        _refuse_if(len(set(values)) != len(values), f"two disks of the guest have the same {what}")


def _refuse_unfit_disk(disk: GuestDisk) -> None:
    _refuse_if(
        not disk.path.startswith("/") or _NOT_XML.search(disk.path) or _LINE_BREAKS.search(disk.path),
        f"the disk path {disk.path!r} is not an absolute path that XML can carry",
    )
    _refuse_if(disk.format not in _FORMATS, f"the disk format {disk.format!r} is neither qcow2 nor raw")
    for what, pattern, value in (
        ("target", _TARGET, disk.target),
        ("alias", _ALIAS, disk.alias),
        ("serial", _SERIAL, disk.serial),
    ):
        _refuse_if(not pattern.fullmatch(value), f"the disk {what} {value!r} does not match {pattern.pattern}")


def _refuse_if(unfit: object, why: str) -> None:
    if unfit:
        raise HostError(ErrorClass.PERMANENT, why)
