"""What a host has to give: processors, memory, disk, NUMA cells, huge pages, PCI devices.

libvirt tells of processors and memory; PCI devices are read from sysfs, for the embedded driver has no node devices.
"""

import os
from pathlib import Path
from typing import Any, Final

import libvirt
from lxml import etree

from worker.host.connections import ConnectionClass, Connections
from worker.host.errors import Call

_PCI: Final = Path("/sys/bus/pci/devices")
_GIB: Final = 1024**3
_KIB_PER_MIB: Final = 1024


def read_inventory(connections: Connections, state_folder: Path, pci: Path = _PCI) -> dict[str, Any]:
    """The inventory as it is now, as JSON. Disk is that of the file system of the state folder."""
    with connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
        information, capabilities = connection.getInfo(), connection.getCapabilities()
        # getInfo's own number was seen to be less than half of it on a machine of one NUMA cell
        memory = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
    disk = os.statvfs(state_folder)
    cells = cells_in(capabilities)
    return {
        "vcpus": int(information[2]),
        "memory_mib": int(memory["total"]) // _KIB_PER_MIB,
        "disk_gib": disk.f_blocks * disk.f_frsize // _GIB,
        "disk_free_gib": disk.f_bavail * disk.f_frsize // _GIB,
        "numa_cells": cells,
        "huge_pages": _in_all(cells),
        "pci_devices": pci_devices(pci),
    }


def cells_in(capabilities: str) -> list[dict[str, Any]]:
    """The NUMA cells of a capabilities document: their processors, memory, and pages reserved of each huge size."""
    document = etree.fromstring(capabilities.encode())
    ordinary_kib = os.sysconf("SC_PAGE_SIZE") // 1024
    return [
        {
            "id": int(cell.get("id", "0")),
            "cpus": [int(cpu.get("id", "0")) for cpu in cell.findall("cpus/cpu")],
            "memory_mib": int(cell.findtext("memory") or 0) // _KIB_PER_MIB,
            "huge_pages": {
                size: int(pages.text or 0)
                for pages in cell.findall("pages")
                if int(size := pages.get("size", "0")) > ordinary_kib
            },
        }
        for cell in document.findall("host/topology/cells/cell")
    ]


def _in_all(cells: list[dict[str, Any]]) -> dict[str, int]:
    """Pages by their size in KiB, over all cells."""
    found: dict[str, int] = {}
    for cell in cells:
        for size, count in cell["huge_pages"].items():
            found[size] = found.get(size, 0) + count
    return found


def pci_devices(folder: Path) -> list[dict[str, Any]]:
    """The PCI devices, by address; empty where the machine has no such bus."""
    if not folder.is_dir():
        return []
    found = []
    for device in sorted(folder.iterdir()):
        group = device / "iommu_group"
        found.append(
            {
                "address": device.name,
                "vendor_id": _read(device / "vendor"),
                "product_id": _read(device / "device"),
                "class": _read(device / "class"),
                "numa_cell": _cell(_read(device / "numa_node")),
                "iommu_group": int(group.resolve().name) if group.exists() else None,
            }
        )
    return found


def _read(file: Path) -> str:
    """A device that is unplugged just now says nothing."""
    try:
        return file.read_text(encoding="ascii").strip().removeprefix("0x")
    except OSError:
        return ""


def _cell(told: str) -> int | None:
    """The kernel says -1 where it does not know."""
    return int(told) if told.isdigit() else None
