"""What a guest's XML says of its way to another host, and the XML that it has there. Pure: nothing here asks a host."""

from dataclasses import dataclass
from ipaddress import ip_address
from posixpath import normpath
from typing import Final
from uuid import UUID

from lxml import etree

from models.states import ErrorClass
from tasks.host import HostError
from tasks.host.devices import Paths

#: Children of ``<os>`` that name a file which QEMU reads when the guest starts, and again where it arrives.
_BOOT_FILES: Final = ("kernel", "initrd", "dtb", "loader")
#: Text that is the user's, whatever it looks like.
_USERS_TEXT: Final = frozenset({"cmdline", "initarg", "initenv"})


@dataclass(frozen=True)
class FileDisk:
    """A disk of the instance, in a file of its folder."""

    target: str
    path: str
    format: str


@dataclass(frozen=True)
class Traveller:
    """What a guest is, and what it must find where it arrives."""

    uuid: UUID
    name: str
    virt_type: str
    architecture: str
    memory_mib: int
    console_log: str
    files: tuple[str, ...]


def traveller(document: str) -> Traveller:
    """The guest of a domain's XML."""
    domain = _parsed(document)
    files = (domain.findtext(f"os/{name}") for name in _BOOT_FILES)
    return Traveller(
        uuid=UUID(domain.findtext("uuid") or ""),
        name=domain.findtext("name") or "",
        virt_type=domain.get("type", ""),
        architecture=_attribute(domain, "os/type", "arch"),
        memory_mib=-(-int(domain.findtext("memory") or 0) // 1024),  # libvirt shows KiB, whatever it was given
        console_log=_attribute(domain, "devices/serial[@type='file']/source", "path"),
        files=tuple(file for file in files if file),
    )


def disks_to_copy(document: str, folder: str) -> tuple[FileDisk, ...]:
    """The disks of a domain's XML that are writable files in the instance's ``folder``.

    Raises HostError(PERMANENT) with one sentence that names a disk which is neither that, nor reached by network.
    """
    disks = _parsed(document).iterfind("devices/disk")
    return tuple(disk for element in disks if (disk := _file_disk(element, folder)) is not None)


def relocated(
    document: str, paths: Paths, copied_disks: tuple[str, ...] = (), disk_cachemode: str | None = None
) -> str:
    """The XML with each path that is a key of ``paths`` replaced, wherever a device or the boot names it.

    A copied disk is whole in its own file: what its backing files were here is left out. It is opened as the other
    host can; None leaves that as it is.
    """
    domain = _parsed(document)
    for part in (*domain.iterfind("os"), *domain.iterfind("devices")):
        for element in part.iter(etree.Element):
            _replace(element, paths)
    for disk in domain.iterfind("devices/disk"):
        if _attribute(disk, "target", "dev") in copied_disks:
            for backing in disk.findall("backingStore"):
                disk.remove(backing)
            driver = disk.find("driver")
            if driver is not None and disk_cachemode is not None:
                driver.set("cache", disk_cachemode)
    return etree.tostring(domain, encoding="unicode")


def host_cpu(capabilities: str) -> str:
    """The host's own CPU, as libvirt compares it; empty where the capabilities name none."""
    cpu = _parsed(capabilities).find("host/cpu")
    return "" if cpu is None else etree.tostring(cpu, encoding="unicode", with_tail=False)


def _replace(element: etree._Element, paths: Paths) -> None:
    for name, value in element.attrib.items():
        if value in paths:
            element.set(name, paths[str(value)])
    text = (element.text or "").strip()
    if text in paths and element.tag not in _USERS_TEXT:
        element.text = paths[text]


def _file_disk(disk: etree._Element, folder: str) -> FileDisk | None:
    """The disk, if it must be copied; None when there is nothing to copy."""
    target, kind, source = _attribute(disk, "target", "dev"), disk.get("type"), disk.find("source")
    if source is None or not source.attrib:
        return None
    if kind == "network":
        _refuse_server_of_this_host(target, source)
        return None
    path = source.get("file", "")
    where = path or next(iter(source.attrib.values()))
    if kind != "file" or not normpath(path).startswith(f"{folder}/"):
        raise _stays(f"its disk {target} is {where}, which no other host sees")
    if disk.find("readonly") is not None or disk.find("shareable") is not None:
        raise _stays(f"its disk {target}, {where}, is read-only or shared, and libvirt copies no such disk")
    return FileDisk(target, path, _attribute(disk, "driver", "type") or "raw")


def _refuse_server_of_this_host(target: str, source: etree._Element) -> None:
    """A server that is named by this host alone is another one, or none, where the guest arrives."""
    for server in source.iterfind("host"):
        if server.get("transport") == "unix":
            raise _stays(f"its disk {target} is served on the socket {server.get('socket')}, which no other host sees")
        if _is_loopback(server.get("name", "")):
            raise _stays(f"its disk {target} is served by {server.get('name')}, which is this very host")


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost" or name.startswith("localhost.")


def _stays(why: str) -> HostError:
    return HostError(ErrorClass.PERMANENT, f"the guest cannot go to another host: {why}")


def _attribute(element: etree._Element, tag: str, name: str) -> str:
    found = element.find(tag)
    return "" if found is None else found.get(name, "")


def _parsed(document: str) -> etree._Element:
    return etree.fromstring(document.encode(), etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
