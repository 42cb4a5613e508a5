"""The XML of a disk, a volume or an interface. Pure: nothing here asks a host."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lxml import etree

from tasks.host import GuestDisk, GuestInterface, GuestVolume
from worker.host.unfit import ALIAS, DISK_TARGETS, INTERFACE_NAME, SERIAL, refuse_if, refuse_mismatch, refuse_text

_CACHES: Final = frozenset({None, "none", "writeback"})
_FORMATS: Final = frozenset({"qcow2", "raw"})
_MAC: Final = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")  # an odd first byte would be a group's address
_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
#: The least that IPv4 can live with, and the most that a Linux interface can be set to.
_MTU: Final = range(68, 65536)
#: A tap so named is libvirt's to name anew.
_LIBVIRTS_TAPS: Final = ("vnet", "vif", "macvtap", "macvlan")


@dataclass(frozen=True)
class DiskSource:
    """Where a disk's bytes are, in the words of libvirt's ``<source>``."""

    disk_type: str  #: ``file``, ``block`` or ``network``
    image_format: str
    attributes: Mapping[str, str]
    hosts: tuple[Mapping[str, str], ...] = ()
    cache: str | None = None  #: None is QEMU's default: write-back, honouring the guest's flushes
    io: str | None = None


def disk_element(disk: GuestDisk) -> etree._Element:
    """A disk of the instance's own. Raises HostError(PERMANENT) for a value that no XML can carry."""
    refuse_text("the disk path", disk.path)
    refuse_if(not disk.path.startswith("/"), f"the disk path {disk.path!r} is not an absolute path")
    refuse_if(disk.format not in _FORMATS, f"the disk format {disk.format!r} is neither qcow2 nor raw")
    refuse_if(disk.bus not in DISK_TARGETS, f"the disk bus {disk.bus!r} is none of {', '.join(DISK_TARGETS)}")
    refuse_if(disk.cache not in _CACHES, f"the cache mode {disk.cache!r} is neither none nor writeback")
    source = DiskSource("file", disk.format, {"file": disk.path}, cache=disk.cache)
    return _disk(source, disk.target, disk.serial, disk.alias, bus=disk.bus)


def volume_element(volume: GuestVolume, source: DiskSource) -> etree._Element:
    """A volume whose kind describes it so. Raises HostError(PERMANENT) for a value that no XML can carry."""
    for attributes in (source.attributes, *source.hosts):
        for name, value in attributes.items():
            refuse_text(f"the {name} of the volume {volume.volume.id}", value)
    return _disk(source, volume.target, volume.serial, volume.alias, read_only=volume.volume.read_only)


def interface_element(interface: GuestInterface) -> etree._Element:
    """An interface. Raises HostError(PERMANENT) for a value that no XML can carry."""
    _refuse_unfit_interface(interface)
    element = etree.Element("interface", type=interface.kind.value)
    etree.SubElement(element, "mac", address=interface.mac)
    etree.SubElement(element, "source", {interface.kind.value: interface.network})
    etree.SubElement(element, "target", dev=interface.tap)
    etree.SubElement(element, "model", type=interface.model)
    if interface.queues is not None:
        etree.SubElement(element, "driver", queues=str(interface.queues))
    if interface.mtu is not None:
        etree.SubElement(element, "mtu", size=str(interface.mtu))
    etree.SubElement(element, "alias", name=interface.alias)
    return element


def _disk(  # noqa: PLR0913  # values of one element, each by name
    source: DiskSource, target: str, serial: str, alias: str, *, bus: str = "virtio", read_only: bool = False
) -> etree._Element:
    refuse_mismatch("disk target", target, DISK_TARGETS[bus])
    refuse_mismatch("disk serial", serial, SERIAL)
    refuse_mismatch("disk alias", alias, ALIAS)
    element = etree.Element("disk", type=source.disk_type, device="disk")
    driver = etree.SubElement(element, "driver", name="qemu", type=source.image_format)
    for name, value in (("cache", source.cache), ("io", source.io)):
        if value is not None:
            driver.set(name, value)
    where = etree.SubElement(element, "source", dict(source.attributes))
    for host in source.hosts:
        etree.SubElement(where, "host", dict(host))
    etree.SubElement(element, "target", dev=target, bus=bus)
    if read_only:
        etree.SubElement(element, "readonly")
    etree.SubElement(element, "serial").text = serial
    etree.SubElement(element, "alias", name=alias)
    return element


def _refuse_unfit_interface(interface: GuestInterface) -> None:
    refuse_mismatch("interface's MAC address", interface.mac, _MAC)
    refuse_mismatch("interface's tap", interface.tap, INTERFACE_NAME)
    refuse_if(interface.tap.startswith(_LIBVIRTS_TAPS), f"the tap {interface.tap!r} has a name that libvirt keeps")
    refuse_mismatch("interface's alias", interface.alias, ALIAS)
    refuse_mismatch("interface's model", interface.model, _MODEL)
    refuse_text(f"the {interface.kind.value}", interface.network)
    refuse_if(not interface.network, f"the interface {interface.id} names no {interface.kind.value}")
    mtu = interface.mtu
    refuse_if(
        mtu is not None and mtu not in _MTU,
        f"the interface's MTU {mtu} is not between {_MTU.start} and {_MTU.stop - 1}",
    )
