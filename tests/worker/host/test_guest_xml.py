"""Domain XML, whole documents compared, and accepted by libvirt's own schema."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import libvirt
import pytest
from lxml import etree

from models.states import ErrorClass
from tasks.host import (
    DirectBoot,
    Guest,
    GuestDisk,
    GuestInterface,
    GuestVolume,
    HostError,
    Identity,
    NetworkKind,
    Platform,
    Volume,
)
from tasks.requests.hardware import PCIE_PORTS
from tests.lab.hosts import LibvirtHost
from worker.host.device_xml import DiskSource
from worker.host.guest_xml import DEVICES_LIMIT, GuestSurroundings, domain_xml, identity_in

GOLDEN = Path(__file__).with_name("golden")
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
INSTANCE = UUID("0b6dd4a2-5d2c-4a3e-9a53-1d4f4f0d7a11")
CONSOLE = f"/var/lib/hostler/instances/{INSTANCE}/console.log"

HERE = GuestSurroundings("x86_64", CONSOLE)
OTHER_QEMU = GuestSurroundings("x86_64", CONSOLE, emulator="/usr/bin/qemu-system-x86_64")
EMULATED = Platform("qemu", "pc-q35-7.2")
ROOT = GuestDisk(f"/var/lib/hostler/instances/{INSTANCE}/root.qcow2", "qcow2", "vda", "ua-root", "root")
DATA = GuestDisk(f"/var/lib/hostler/instances/{INSTANCE}/data.raw", "raw", "vdb", "ua-data_1", "data-1")
CONFIG = GuestDisk(f"/var/lib/hostler/instances/{INSTANCE}/config.raw", "raw", "vdz", "ua-_config", "disk.config")
PLAIN = Guest(Identity(INSTANCE, "job-1"), "web & <db>", memory_mib=512, vcpus=2, disks=(ROOT,), platform=EMULATED)

VOLUME = GuestVolume(Volume("vol-1", "any", {}), "vdb", "ua-vol-1", "vol-1")
ARCHIVE = GuestVolume(Volume("vol-2", "any", {}, read_only=True), "vdc", "ua-vol-2", "vol-2")
NIC = GuestInterface("nic-1", "52:54:00:00:00:01", NetworkKind.BRIDGE, "br0", "ua-nic-1", "tap1")
OTHER_NIC = GuestInterface(
    "nic-2", "52:54:00:00:00:02", NetworkKind.NETWORK, "default", "ua-nic-2", "tap2", model="e1000e", mtu=9000
)


def describe(volume: Volume) -> DiskSource:
    """Every volume is a device of its name, past the host's cache."""
    return DiskSource("block", "raw", {"dev": f"/dev/{volume.id}"}, cache="none", io="native")


DOCUMENTS = {
    "tcg-one-disk": (PLAIN, HERE),
    "kvm-two-disks": (replace(PLAIN, disks=(ROOT, DATA), platform=Platform("kvm", "pc-q35-6.0")), OTHER_QEMU),
    "direct-boot": (
        replace(
            PLAIN, disks=(), name="", boot=DirectBoot("/images/vmlinuz", "/images/initrd", 'console=ttyS0 a="<b>"')
        ),
        HERE,
    ),
    "kernel-alone": (replace(PLAIN, boot=DirectBoot("/images/vmlinuz")), HERE),
    "volumes-and-interfaces": (replace(PLAIN, volumes=(VOLUME, ARCHIVE), interfaces=(NIC, OTHER_NIC)), HERE),
    "config-drive": (replace(PLAIN, disks=(ROOT, CONFIG)), HERE),
    "volume-alone": (replace(PLAIN, disks=(), volumes=(VOLUME,)), HERE),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_definition_is_the_document_that_was_agreed_on(name: str) -> None:
    """Every element and attribute, in order."""
    assert domain_xml(*DOCUMENTS[name], describe) == (GOLDEN / f"{name}.xml").read_text()


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.skipif(not SCHEMA.exists(), reason="libvirt's schemas are not installed")
def test_a_definition_obeys_libvirts_schema(name: str) -> None:
    """Also for domain types that this machine may lack."""
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    schema.assertValid(etree.fromstring(domain_xml(*DOCUMENTS[name], describe)))


@pytest.mark.real
def test_libvirt_defines_it_and_gives_back_name_title_and_identity(libvirt_host: LibvirtHost) -> None:
    """What was written is what libvirt keeps."""
    instance = uuid4()
    guest = replace(PLAIN, identity=Identity(instance, "job <1>"), name="ü \"quoted\" & 'more'")
    connection = libvirt.open(libvirt_host.uri)
    domain = connection.defineXMLFlags(domain_xml(guest, HERE), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    try:
        kept = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "urn:hostler:domain:1")
        assert identity_in(kept) == Identity(instance, "job <1>")
        assert domain.name() == str(instance)
        assert domain.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None) == guest.name
        devices = etree.fromstring(domain.XMLDesc()).find("devices")
        assert devices is not None
        assert [alias.get("name") for alias in devices.findall("disk/alias")] == ["ua-root"]
        assert devices.findall("interface") == devices.findall("graphics") == []
        # The disk's, the memory balloon's, and those for devices to come.
        assert len(devices.findall("controller[@model='pcie-root-port']")) == 2 + PCIE_PORTS
    finally:
        domain.undefine()


@pytest.mark.real
def test_libvirt_finds_a_slot_for_as_many_devices_as_a_guest_may_have(libvirt_host: LibvirtHost) -> None:
    """And for those to come."""
    volumes = tuple(
        GuestVolume(Volume(f"vol-{letters}", "any", {}), f"vd{letters}", f"ua-vol-{letters}", f"vol-{letters}")
        for letters in (f"{first}{second}" for first in "abcdefgh" for second in "abcdefghijklmnop")
    )
    assert len(volumes) == DEVICES_LIMIT
    guest = replace(PLAIN, identity=Identity(uuid4(), "job-1"), disks=(), volumes=volumes)
    domain = libvirt.open(libvirt_host.uri).defineXML(domain_xml(guest, HERE, describe))
    domain.undefine()


@pytest.mark.parametrize(
    "guest",
    [
        replace(PLAIN, name="control \x01"),
        replace(PLAIN, name="two\nlines"),
        replace(PLAIN, name="unpaired \udc80"),
        replace(PLAIN, identity=Identity(INSTANCE, "job\0")),
        replace(PLAIN, boot=DirectBoot("/k", cmdline="a\x1bb")),
        replace(PLAIN, memory_mib=0),
        replace(PLAIN, vcpus=0),
        replace(PLAIN, disks=(replace(ROOT, alias="root"),)),
        replace(PLAIN, disks=(replace(ROOT, alias="ua-a b"),)),
        replace(PLAIN, disks=(replace(ROOT, target="sda"),)),
        replace(PLAIN, disks=(replace(ROOT, serial='a"b'),)),
        replace(PLAIN, disks=(replace(ROOT, format="vmdk"),)),
        replace(PLAIN, disks=(replace(ROOT, path="relative"),)),
        replace(PLAIN, disks=(replace(ROOT, path="/a\nb"),)),
        replace(PLAIN, disks=(ROOT, replace(DATA, target="vda"))),
        replace(PLAIN, disks=(ROOT, replace(DATA, serial="root"))),
        replace(PLAIN, volumes=(replace(VOLUME, target="vda"),)),
        replace(PLAIN, volumes=(replace(VOLUME, serial="root"),)),
        replace(PLAIN, volumes=(VOLUME, replace(ARCHIVE, alias="ua-vol-1"))),
        replace(PLAIN, volumes=(VOLUME,), interfaces=(replace(NIC, alias="ua-vol-1"),)),
        replace(PLAIN, interfaces=(NIC, replace(OTHER_NIC, mac=NIC.mac))),
        replace(PLAIN, interfaces=(NIC, replace(OTHER_NIC, tap=NIC.tap))),
        replace(PLAIN, interfaces=(NIC,) * (DEVICES_LIMIT + 1)),
    ],
)
def test_a_guest_that_no_definition_can_carry_is_refused(guest: Guest) -> None:
    """For good, in one sentence."""
    with pytest.raises(HostError) as caught:
        domain_xml(guest, HERE, describe)
    assert caught.value.error_class is ErrorClass.PERMANENT
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "<domain/>",
        "<domain instance='x' job='j'/>",
        "<domain",
        f"<!DOCTYPE a [<!ENTITY e '{INSTANCE}'>]><a>&e;</a>",
    ],
)
def test_metadata_that_are_not_ours_name_nobody(metadata: str) -> None:
    """Whatever somebody wrote there."""
    assert identity_in(metadata) is None
