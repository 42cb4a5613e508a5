"""Domain XML from a guest, and a domain's identity from XML. Pure: nothing here asks a host."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from lxml import etree

from models.states import ErrorClass
from tasks.host import DirectBoot, Guest, GuestDisk, GuestInterface, GuestVolume, HostError, Identity, Volume
from worker.host.device_xml import DiskSource, disk_element, interface_element, volume_element
from worker.host.hardware_xml import (
    clock_element,
    cpu_element,
    device_elements,
    features_element,
    firmware_element,
    limit_disk,
    placement_elements,
    ports_taken,
)
from worker.host.unfit import refuse_if, refuse_text

METADATA_NAMESPACE = "urn:hostler:domain:1"
METADATA_PREFIX = "hostler"

#: One root port takes one device; the root complex has room for more ports than these and all that may be spare.
DEVICES_LIMIT: Final = 128


@dataclass(frozen=True)
class GuestSurroundings:
    """What a definition takes from its host."""

    architecture: str
    console_log: str
    emulator: str | None = None  #: None leaves the choice to libvirt
    virtualized: bool = False  #: the host is itself a guest


def _undescribed(volume: Volume) -> DiskSource:
    raise HostError(ErrorClass.INTERNAL, f"nothing tells where the volume {volume.id} is")


def domain_xml(
    guest: Guest, surroundings: GuestSurroundings, describe: Callable[[Volume], DiskSource] = _undescribed
) -> str:
    """The whole definition of the domain; ``describe`` tells where a volume is, and is needed where there is one.

    Raises HostError(PERMANENT) for a value that no definition can carry.
    """
    _refuse_unfit(guest)
    uuid = str(guest.identity.instance)
    platform = guest.platform
    if platform is None:
        raise HostError(ErrorClass.INTERNAL, f"nothing tells what the guest {uuid} runs on")
    domain = etree.Element("domain", type=platform.virt_type)
    _text(domain, "name", uuid)
    _text(domain, "uuid", uuid)
    if guest.name:
        _text(domain, "title", guest.name)
    _metadata(domain, guest.identity)
    _text(domain, "memory", str(guest.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(guest.vcpus))
    domain.extend(placement_elements(guest.hardware))
    _boot(domain, guest, platform.machine_type, surroundings.architecture)
    domain.append(features_element(guest.hardware, platform.virt_type))
    cpu = cpu_element(guest.hardware, guest.vcpus, platform.virt_type, virtualized=surroundings.virtualized)
    if cpu is not None:
        domain.append(cpu)
    domain.append(clock_element(guest.hardware, platform.virt_type))
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "destroy")
    _devices(domain, guest, surroundings, describe, has_pcie="q35" in platform.machine_type)
    return etree.tostring(domain, encoding="unicode", pretty_print=True)


def identity_in(metadata: str) -> Identity | None:
    """Whose the domain is, from its metadata element as libvirt returns it; None when it is not one of ours."""
    try:
        element = etree.fromstring(metadata.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        return None
    return identity_of(element)


def identity_of(element: etree._Element) -> Identity | None:
    """Whose the domain is, from its metadata element; None when nobody's can be read there."""
    try:
        return Identity(UUID(element.get("instance", "")), element.get("job", ""))
    except ValueError:
        return None


def _metadata(domain: etree._Element, identity: Identity) -> None:
    metadata = etree.SubElement(domain, "metadata")
    owner = etree.SubElement(metadata, f"{{{METADATA_NAMESPACE}}}domain", nsmap={METADATA_PREFIX: METADATA_NAMESPACE})
    owner.set("instance", str(identity.instance))
    owner.set("job", identity.job)


def _boot(domain: etree._Element, guest: Guest, machine: str, architecture: str) -> None:
    system = etree.SubElement(domain, "os")
    _text(system, "type", "hvm", arch=architecture, machine=machine)
    firmware_element(system, guest.hardware)
    boot = guest.boot
    if boot is not None:
        _text(system, "kernel", boot.kernel)
        if boot.initrd is not None:
            _text(system, "initrd", boot.initrd)
        if boot.cmdline is not None:
            _text(system, "cmdline", boot.cmdline)
    elif guest.disks or guest.volumes:
        etree.SubElement(system, "boot", dev="hd")


def _devices(
    domain: etree._Element,
    guest: Guest,
    surroundings: GuestSurroundings,
    describe: Callable[[Volume], DiskSource],
    *,
    has_pcie: bool,
) -> None:
    devices = etree.SubElement(domain, "devices")
    if surroundings.emulator is not None:
        _text(devices, "emulator", surroundings.emulator)
    for disk in guest.disks:
        element = disk_element(disk)
        limit_disk(element, guest.hardware)
        devices.append(element)
    devices.extend(volume_element(volume, describe(volume.volume)) for volume in guest.volumes)
    buses = {disk.bus for disk in guest.disks}
    etree.SubElement(devices, "controller", type="usb", model="qemu-xhci" if "usb" in buses else "none")
    if "scsi" in buses:
        etree.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    if has_pcie:
        _pcie_ports(devices, guest)
    devices.extend(interface_element(interface) for interface in guest.interfaces)
    serial = etree.SubElement(devices, "serial", type="file")
    etree.SubElement(serial, "source", path=surroundings.console_log, append="on")
    etree.SubElement(serial, "target", type="isa-serial", port="0")
    devices.extend(device_elements(guest.hardware))


def _pcie_ports(devices: etree._Element, guest: Guest) -> None:
    """One for each device that is plugged into one, and those that are asked for."""
    buses = [disk.bus for disk in guest.disks]
    controllers = len({"scsi", "usb"}.intersection(buses))
    taken = ports_taken(guest.hardware) + buses.count("virtio") + len(guest.volumes) + len(guest.interfaces)
    etree.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
    for index in range(1, taken + controllers + guest.hardware.pcie_ports + 1):
        etree.SubElement(devices, "controller", type="pci", index=str(index), model="pcie-root-port")


def _text(parent: etree._Element, tag: str, text: str, **attributes: str) -> None:
    etree.SubElement(parent, tag, attributes).text = text


# --- what no definition can carry


def _count(guest: Guest) -> int:
    return len(guest.disks) + len(guest.volumes) + len(guest.interfaces)


def _refuse_unfit(guest: Guest) -> None:
    boot = guest.boot or DirectBoot("/")
    for what, value in (
        ("name", guest.name),
        ("job", guest.identity.job),
        ("kernel", boot.kernel),
        ("initrd", boot.initrd or ""),
        ("kernel command line", boot.cmdline or ""),
    ):
        refuse_text(f"the guest's {what}", value)
    refuse_if(guest.memory_mib < 1, f"memory_mib is {guest.memory_mib}, and must be at least 1")
    refuse_if(guest.vcpus < 1, f"vcpus is {guest.vcpus}, and must be at least 1")
    count = _count(guest)
    refuse_if(count > DEVICES_LIMIT, f"the guest has {count} devices, and there is room for {DEVICES_LIMIT}")
    drives: tuple[GuestDisk | GuestVolume, ...] = (*guest.disks, *guest.volumes)
    devices: tuple[GuestDisk | GuestVolume | GuestInterface, ...] = (*drives, *guest.interfaces)
    _refuse_twice("disks", "path", [disk.path for disk in guest.disks])
    _refuse_twice("disks", "target", [drive.target for drive in drives])
    _refuse_twice("disks", "serial", [drive.serial for drive in drives])
    _refuse_twice("devices", "alias", [device.alias for device in devices])
    _refuse_twice("interfaces", "MAC address", [interface.mac for interface in guest.interfaces])
    _refuse_twice("interfaces", "tap", [interface.tap for interface in guest.interfaces])


def _refuse_twice(devices: str, what: str, values: list[str]) -> None:
    refuse_if(len(set(values)) != len(values), f"two {devices} of the guest have the same {what}")
