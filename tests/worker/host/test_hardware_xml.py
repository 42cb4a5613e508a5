"""Every field of a spawn's hardware: in a golden document, with an effect, and taken by libvirt."""

import shutil
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
import pytest
from lxml import etree
from pydantic import BaseModel

from models.records import Device, DeviceAdded
from models.states import ErrorClass
from tasks.host import Guest, HostError, Platform, Volume
from tasks.operation import Work
from tasks.requests import BadRequestError, parse
from tasks.requests.devices import Interface
from tasks.requests.disks import Ephemeral, RootDisk
from tasks.requests.hardware import Hardware
from tasks.requests.placement import NumaNode, Placement
from tasks.requests.quota import Quota
from tasks.requests.spawn import SpawnRequest
from tasks.steps.disk import EphemeralDisksCreated, RootDiskCreated
from tasks.steps.domain import DomainDefined
from tasks.steps.interface import InterfacesPlugged
from tasks.steps.volume import VolumesConnected
from tests.contract.fake_files import STATE
from tests.fake_host import FakeHost
from tests.lab.hosts import LibvirtHost
from worker.host.device_xml import DiskSource
from worker.host.event_loop import start_event_loop
from worker.host.guest_xml import GuestSurroundings, domain_xml
from worker.host.hardware_xml import cpu_element
from worker.host.hypervisor import Hypervisor

GOLDEN = Path(__file__).with_name("golden")
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
INSTANCE = UUID("0b6dd4a2-5d2c-4a3e-9a53-1d4f4f0d7a12")
HERE = GuestSurroundings("x86_64", f"/var/lib/hostler/instances/{INSTANCE}/console.log")
EMULATED = Platform("qemu", "pc-q35-7.2")
WITH_IDE = Platform("qemu", "pc-i440fx-7.2")
KVM = Platform("kvm", "pc-q35-7.2")
#: Between them they set every field of the hardware, of an interface and of disks.
REQUESTS: Mapping[str, dict[str, Any]] = {
    "hardware-of-a-server": {
        "name": "server",
        "memory_mib": 2048,
        "vcpus": 4,
        "disk_gib": 1,
        "interfaces": [
            {"id": "nic-1", "bridge": "br0", "mac": "52:54:00:00:00:01", "mtu": 9000, "queues": 4},
            {"id": "nic-2", "network": "default", "model": "e1000e"},
        ],
        "hardware": {
            "cpu_mode": "custom",
            "cpu_model": "Nehalem",
            "cpu_model_extra_flags": ["pcid", "+aes", "-vmx"],
            "cpu_sockets": 1,
            "cpu_cores": 2,
            "cpu_threads": 2,
            "machine_type": "q35",
            "pmu": False,
            "time_hpet": True,
            "rng_allowed": True,
            "rng_rate_bytes": 4096,
            "rng_rate_period_ms": 500,
            "watchdog_action": "poweroff",
            "mem_stats_period_s": 10,
            "video_ram_mib": 32,
            "vnc": True,
            "qemu_guest_agent": True,
            "pcie_ports": 8,
            "quota": {
                "cpu_shares": 2048,
                "cpu_period_us": 50_000,
                "cpu_quota_us": 25_000,
                "disk_read_bytes_sec": 10_240_000,
                "disk_write_bytes_sec": 5_120_000,
                "disk_read_iops_sec": 500,
                "disk_write_iops_sec": 250,
            },
            "placement": {
                "cpu_policy": "dedicated",
                "dedicated_cpus": [0, 1, 2, 3],
                "mem_page_size_kib": 2048,
                "numa_nodes": [
                    {"cpus": [0, 1], "mem_mib": 1024, "host_node": 0},
                    {"cpus": [2, 3], "mem_mib": 1024, "host_node": 0},
                ],
            },
        },
    },
    "hardware-for-windows": {
        "name": "windows",
        "memory_mib": 1024,
        "vcpus": 2,
        "disk_gib": 1,
        "hardware": {
            "cpu_mode": "maximum",
            "os_type": "windows",
            "hide_hypervisor_id": True,
            "firmware_type": "uefi",
            "secure_boot": True,
            "mem_balloon": False,
            "video_model": "virtio",
            "quota": {"disk_total_bytes_sec": 1_000_000, "disk_total_iops_sec": 100},
        },
    },
    "hardware-with-a-tpm": {
        "name": "sealed",
        "memory_mib": 64,
        "disk_gib": 1,
        "hardware": {"tpm_version": "2.0", "tpm_model": "tpm-crb"},
    },
    "disks-on-virtio": {
        "name": "disks",
        "memory_mib": 64,
        "disk_gib": 1,
        "ephemerals": [{"size_gib": 2, "guest_format": "vfat"}],
        "volumes": [{"id": "swap", "kind": "nbd", "host": "storage"}],
        "swap_mib": 64,
        "preallocate_images": "space",
        "hardware": {"quota": {"disk_total_iops_sec": 100}},
    },
    "disks-on-scsi": {
        "name": "disks",
        "memory_mib": 64,
        "image": {"path": "/fake/images/a.qcow2"},
        "root_disk": {"format": "raw", "flat": True},
        "ephemerals": [{"size_gib": 1}, {"size_gib": 1, "guest_format": None}],
        "swap_mib": 64,
        "hardware": {"disk_bus": "scsi"},
    },
    "disks-on-sata": {
        "name": "disks",
        "memory_mib": 64,
        "disk_gib": 1,
        "ephemerals": [{"size_gib": 1}] * 8,
        "swap_mib": 64,
        "hardware": {"disk_bus": "sata"},
    },
    "disks-on-ide": {
        "name": "disks",
        "memory_mib": 64,
        "disk_gib": 1,
        "swap_mib": 64,
        "hardware": {"machine_type": "pc", "disk_bus": "ide"},
    },
    "disks-on-usb": {"name": "disks", "memory_mib": 64, "disk_gib": 1, "hardware": {"disk_bus": "usb"}},
}
#: libvirt looks for swtpm when such a guest is defined.
NEEDS_SWTPM = "hardware-with-a-tpm"
#: What is the same when it is left out: the fake host has one machine, and the sockets follow from the rest; the
#: rest of a disk is in its file.
AS_WITHOUT = {"hardware.machine_type", "hardware.cpu_sockets", "root_disk.flat"}
AS_WITHOUT |= {"ephemerals.size_gib", "ephemerals.guest_format"}


def guest_of(document: Mapping[str, Any], platform: Platform = EMULATED, cache: str | None = None) -> Guest:
    """The guest that a spawn's steps make of the request."""
    host, request = FakeHost(), parse(SpawnRequest, document)
    intent: dict[str, Any] = {"platform": vars(platform), "disk_cachemode": cache}
    devices: tuple[Device, ...] = ()
    for step in (RootDiskCreated(), EphemeralDisksCreated()):
        work = Work("job-1", "h1", INSTANCE, 1, request)
        planned = replace(work, intent=step.plan(work, host))
        devices += tuple(at_home(change.device) for change in step.changes(planned) if isinstance(change, DeviceAdded))
    for reserving in (VolumesConnected(), InterfacesPlugged()):
        work = Work("job-1", "h1", INSTANCE, 1, request, devices)
        planned = replace(work, intent=reserving.plan(work, host))
        devices += tuple(each.device for each in reserving.reserves(planned) if isinstance(each, DeviceAdded))
    DomainDefined().do(Work("job-1", "h1", INSTANCE, 1, request, devices, intent=intent), host)
    return host.domains.guests[INSTANCE]


def at_home(device: Device) -> Device:
    """The device in the folder of a real host."""
    path = device.details["path"].replace(STATE, "/var/lib/hostler/instances")
    return replace(device, details={**device.details, "path": path})


def describe(volume: Volume) -> DiskSource:
    """Every volume is an export of its name."""
    return DiskSource("network", "raw", {"protocol": "nbd", "name": volume.id}, ({"name": "storage", "port": "10809"},))


def document_of(request: Mapping[str, Any]) -> str:
    """The definition; that of Windows is for KVM, without which there is nothing of Hyper-V."""
    hardware = request["hardware"]
    platform = WITH_IDE if hardware.get("machine_type") == "pc" else EMULATED
    cache = {"scsi": "none", "ide": "writeback"}.get(hardware.get("disk_bus"))
    return domain_xml(
        guest_of(request, KVM if hardware.get("os_type") == "windows" else platform, cache), HERE, describe
    )


def leaves(model: type[BaseModel]) -> Iterator[str]:
    """Every field, with the parts that it is in."""
    parts: dict[str, type[BaseModel]] = {"quota": Quota, "placement": Placement, "numa_nodes": NumaNode}
    for name in model.model_fields:
        if name in parts:
            yield from (f"{name}.{leaf}" for leaf in leaves(parts[name]))
        else:
            yield name


def set_in(value: object, path: str = "") -> Iterator[str]:
    """Every field that the document sets; a list's are those of its parts."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from set_in(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for each in value:
            yield from set_in(each, path)
    else:
        yield path


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_the_document_that_was_agreed_on(name: str) -> None:
    """Every element and attribute, in order."""
    assert document_of(REQUESTS[name]) == (GOLDEN / f"{name}.xml").read_text()


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.skipif(not SCHEMA.exists(), reason="libvirt's schemas are not installed")
def test_a_request_obeys_libvirts_schema(name: str) -> None:
    """Also where this machine lacks what it asks for."""
    etree.RelaxNG(etree.parse(SCHEMA)).assertValid(etree.fromstring(document_of(REQUESTS[name])))


def test_every_field_is_in_a_golden_document() -> None:
    """A new field needs a place there."""
    told = {path for request in REQUESTS.values() for path in set_in(request)}
    assert {f"hardware.{leaf}" for leaf in leaves(Hardware)} <= told
    assert {f"interfaces.{leaf}" for leaf in leaves(Interface)} <= told
    assert {f"root_disk.{leaf}" for leaf in leaves(RootDisk)} <= told
    assert {f"ephemerals.{leaf}" for leaf in leaves(Ephemeral)} | {"swap_mib", "preallocate_images"} <= told


@pytest.mark.parametrize("name", REQUESTS)
def test_every_field_has_an_effect(name: str) -> None:
    """Left out, the request is refused or the definition is another."""
    whole = document_of(REQUESTS[name])
    without_effect = set()
    of_disks = {
        field: REQUESTS[name][field] for field in ("root_disk", "ephemerals", "swap_mib") if field in REQUESTS[name]
    }
    for path in set(set_in({"hardware": REQUESTS[name]["hardware"], **of_disks})) - AS_WITHOUT:
        changed = deepcopy(REQUESTS[name])
        *parents, last = path.split(".")
        part: Any = changed
        for parent in parents:
            part = part[parent][0] if isinstance(part[parent], list) else part[parent]
        del part[last]
        try:
            if document_of(changed) == whole:
                without_effect.add(path)
        except BadRequestError:
            continue  # another field needs it
    assert not without_effect


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in REQUESTS if name != NEEDS_SWTPM])
def test_libvirt_defines_it(libvirt_host: LibvirtHost, name: str) -> None:
    """After its own schema has been satisfied; with the machine that was fixed. This machine may lack KVM."""
    connection = libvirt.open(libvirt_host.uri)
    document = document_of(REQUESTS[name]).replace('<domain type="kvm"', '<domain type="qemu"')
    domain = connection.defineXMLFlags(document, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    try:
        machine = etree.fromstring(domain.XMLDesc()).find("os/type")
        assert machine is not None
        asked = REQUESTS[name]["hardware"].get("machine_type")
        assert machine.get("machine") == (WITH_IDE if asked == "pc" else EMULATED).machine_type
    finally:
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


@pytest.mark.real
def test_a_tpm_is_defined_or_refused_for_good_where_swtpm_is_missing(libvirt_host: LibvirtHost, tmp_path: Path) -> None:
    """By the word of libvirt, which looks for swtpm; nothing is left of what was refused."""
    host = Hypervisor(uri=libvirt_host.uri, state_folder=str(tmp_path), virt_type="qemu")
    start_event_loop()
    try:
        guest = replace(guest_of(REQUESTS[NEEDS_SWTPM]), platform=host.domains.platform("q35"))
        if shutil.which("swtpm"):
            host.domains.define(guest)
            assert host.domains.find(INSTANCE) is not None
        else:
            with pytest.raises(HostError, match=r"TPM version '2\.0' is not supported") as refusal:
                host.domains.define(guest)
            assert refusal.value.error_class is ErrorClass.PERMANENT
            assert host.domains.find(INSTANCE) is None
        host.domains.undefine(INSTANCE)
        assert not (tmp_path / "instances" / str(INSTANCE)).exists()
    finally:
        host.close()


@pytest.mark.parametrize(
    ("hardware", "virt_type", "virtualized", "disabled"),
    [
        ({}, "kvm", True, ["arch-capabilities"]),
        ({}, "kvm", False, []),
        ({}, "qemu", True, []),
        ({"cpu_mode": "host-model"}, "kvm", True, []),
    ],
    ids=["a host that is a guest", "a host of its own", "emulation", "as the request says"],
)
def test_a_host_that_is_a_guest_leaves_out_what_its_kvm_offers_and_cannot_set(
    hardware: dict[str, Any], virt_type: str, *, virtualized: bool, disabled: list[str]
) -> None:
    """Of the CPU that nobody asked for; what a request names it gets."""
    cpu = cpu_element(Hardware.model_validate(hardware), 1, virt_type, virtualized=virtualized)
    features = [] if cpu is None else cpu.findall("feature[@policy='disable']")
    assert [feature.get("name") for feature in features] == disabled
