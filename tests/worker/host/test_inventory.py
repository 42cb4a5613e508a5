"""What a host has to give, as it registers it."""

import os
from pathlib import Path

import pytest

from tests.lab.hosts import LibvirtHost
from worker.host.hypervisor import Hypervisor
from worker.host.inventory import cells_in, pci_devices

CAPABILITIES = """
<capabilities><host><topology><cells num='2'>
  <cell id='0'>
    <memory unit='KiB'>8388608</memory>
    <pages unit='KiB' size='4'>1835008</pages>
    <pages unit='KiB' size='2048'>512</pages><pages unit='KiB' size='1048576'>1</pages>
    <cpus num='2'><cpu id='0' socket_id='0' core_id='0' siblings='0'/><cpu id='2'/></cpus>
  </cell>
  <cell id='1'>
    <memory unit='KiB'>4194304</memory><pages unit='KiB' size='2048'>100</pages>
    <cpus num='2'><cpu id='1'/><cpu id='3'/></cpus>
  </cell>
</cells></topology></host></capabilities>"""


def test_numa_cells_and_their_huge_pages() -> None:
    """Pages of the ordinary size are memory; the others are counted by their size in KiB."""
    assert cells_in(CAPABILITIES) == [
        {"id": 0, "cpus": [0, 2], "memory_mib": 8192, "huge_pages": {"2048": 512, "1048576": 1}},
        {"id": 1, "cpus": [1, 3], "memory_mib": 4096, "huge_pages": {"2048": 100}},
    ]


def test_pci_devices(tmp_path: Path) -> None:
    """As the kernel shows them, also one that says little."""
    device = tmp_path / "devices/0000:00:1f.0"
    device.mkdir(parents=True)
    (tmp_path / "groups/7").mkdir(parents=True)
    for name, value in (("vendor", "0x8086"), ("device", "0x1521"), ("class", "0x020000"), ("numa_node", "1")):
        (device / name).write_text(f"{value}\n")
    (device / "iommu_group").symlink_to(tmp_path / "groups/7")
    (tmp_path / "devices/0000:00:20.0").mkdir()

    first, second = pci_devices(tmp_path / "devices")

    assert first == {
        "address": "0000:00:1f.0",
        "vendor_id": "8086",
        "product_id": "1521",
        "class": "020000",
        "numa_cell": 1,
        "iommu_group": 7,
    }
    assert (second["vendor_id"], second["numa_cell"], second["iommu_group"]) == ("", None, None)
    assert pci_devices(tmp_path / "none") == []


@pytest.mark.real
def test_a_real_host_tells_what_it_has(libvirt_host: LibvirtHost, tmp_path: Path) -> None:
    """The kernel's own numbers."""
    hypervisor = Hypervisor(uri=libvirt_host.uri, state_folder=str(tmp_path))
    try:
        found, facts = hypervisor.inventory(), hypervisor.facts().document
    finally:
        hypervisor.close()

    memory_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    assert found["vcpus"] == os.cpu_count()
    assert abs(found["memory_mib"] - memory_mib) <= 1
    assert sum(len(cell["cpus"]) for cell in found["numa_cells"]) == found["vcpus"]
    assert found["disk_gib"] >= found["disk_free_gib"] >= 0
    assert len(found["pci_devices"]) == len(list(Path("/sys/bus/pci/devices").glob("*")))
    assert str(facts["qemu_version"]).count(".") == 2
