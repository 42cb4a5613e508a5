"""What a guest's XML says of its way to another host, and what it says over there."""

from uuid import UUID

import pytest
from lxml import etree

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.migrations.travelling import FileDisk, disks_to_copy, host_cpu, relocated, traveller

INSTANCE = UUID("6f1d1f0e-6d3c-4d3c-9d6e-0d6f6a1c2b3d")
HERE, THERE = f"/state-a/instances/{INSTANCE}", f"/state-b/instances/{INSTANCE}"
PATHS = {f"{HERE}/{name}": f"{THERE}/{name}" for name in ("root.qcow2", "console.log")}

ROOT = f"""
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2'/><source file='{HERE}/root.qcow2' index='1'/>
  <backingStore type='file'><format type='raw'/><source file='/images/base.raw'/><backingStore/></backingStore>
  <target dev='vda' bus='virtio'/><alias name='ua-root'/>
</disk>
"""
NBD = """
<disk type='network' device='disk'><driver name='qemu' type='raw'/>
  <source protocol='nbd' name='volume'><host name='storage' port='10809'/></source><target dev='vdb'/></disk>
"""
EMPTY_CDROM = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>"
DOMAIN = """
<domain type='qemu'>
  <name>{instance}</name><uuid>{instance}</uuid><title>{here}/root.qcow2</title>
  <memory unit='KiB'>66000</memory>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><kernel>/images/vmlinuz</kernel><initrd>/images/initrd</initrd>
    <cmdline>{here}/root.qcow2</cmdline></os>
  <devices>
    {disks}
    <serial type='file'><source path='{here}/console.log' append='on'/><target port='0'/></serial>
    <console type='file'><source path='{here}/console.log' append='on'/><target type='serial' port='0'/></console>
  </devices>
</domain>
"""


def domain(*disks: str) -> str:
    """A domain with these disks."""
    return DOMAIN.format(instance=INSTANCE, here=HERE, disks="".join(disks))


def test_a_guest_tells_what_it_is_and_what_it_must_find() -> None:
    """Memory is rounded up, and what it boots from is read again over there."""
    guest = traveller(domain(ROOT))
    assert (guest.uuid, guest.name, guest.virt_type, guest.architecture) == (INSTANCE, str(INSTANCE), "qemu", "x86_64")
    assert (guest.memory_mib, guest.console_log) == (65, f"{HERE}/console.log")
    assert guest.files == ("/images/vmlinuz", "/images/initrd")


def test_the_instances_own_files_are_copied_and_nothing_else() -> None:
    """What is reached by network is reached from there as well; an empty drive is nothing."""
    assert disks_to_copy(domain(ROOT, NBD, EMPTY_CDROM), HERE) == (FileDisk("vda", f"{HERE}/root.qcow2", "qcow2"),)


@pytest.mark.parametrize(
    ("disk", "named"),
    [
        ("<disk type='file'><source file='/volumes/v1'/><target dev='vdb'/></disk>", "/volumes/v1"),
        ("<disk type='block'><source dev='/dev/vg/v1'/><target dev='vdb'/></disk>", "/dev/vg/v1"),
        ("<disk type='dir'><source dir='/some/folder'/><target dev='vdb'/></disk>", "/some/folder"),
        (f"<disk type='file'><source file='{HERE}/../other/x'/><target dev='vdb'/></disk>", "other/x"),
        (f"<disk type='file'><source file='{HERE}-b/x'/><target dev='vdb'/></disk>", "-b/x"),
        (f"<disk type='file'><source file='{HERE}/x'/><target dev='vdb'/><readonly/></disk>", "read-only"),
        (f"<disk type='file'><source file='{HERE}/x'/><target dev='vdb'/><shareable/></disk>", "shared"),
        (NBD.replace("name='storage'", "name='127.0.0.1'"), "127.0.0.1"),
        (NBD.replace("name='storage'", "name='localhost'"), "localhost"),
        (NBD.replace("name='storage' port='10809'", "transport='unix' socket='/run/nbd'"), "/run/nbd"),
        ("<disk type='vhostuser'><source type='unix' path='/run/v1'/><target dev='vdb'/></disk>", "vdb"),
    ],
)
def test_a_disk_that_no_other_host_sees_keeps_its_guest(disk: str, named: str) -> None:
    """For good, and the sentence says which disk."""
    with pytest.raises(HostError, match="cannot go to another host") as caught:
        disks_to_copy(domain(ROOT, disk), HERE)
    assert caught.value.error_class is ErrorClass.PERMANENT
    assert named in str(caught.value)


def test_paths_are_replaced_wherever_a_device_names_them() -> None:
    """And nowhere else: titles and kernel command lines are the user's."""
    there = etree.fromstring(relocated(domain(ROOT, NBD), PATHS, ("vda",)).encode())
    assert there.xpath("string(devices/disk[1]/source/@file)") == f"{THERE}/root.qcow2"
    assert there.xpath("devices/*[self::serial or self::console]/source/@path") == [f"{THERE}/console.log"] * 2
    assert there.findtext("title") == there.findtext("os/cmdline") == f"{HERE}/root.qcow2"
    assert there.findtext("os/kernel") == "/images/vmlinuz"


def test_a_boot_file_may_be_elsewhere_as_well() -> None:
    """It is text, not an attribute."""
    there = etree.fromstring(relocated(domain(), {"/images/vmlinuz": "/srv/images/vmlinuz"}).encode())
    assert (there.findtext("os/kernel"), there.findtext("os/initrd")) == ("/srv/images/vmlinuz", "/images/initrd")


def test_a_copied_disk_has_no_backing_file_any_more() -> None:
    """It is copied whole; others keep theirs."""
    there = etree.fromstring(relocated(domain(ROOT), PATHS, ("vda",)).encode())
    assert there.find("devices/disk/backingStore") is None
    assert etree.fromstring(relocated(domain(ROOT), PATHS).encode()).find("devices/disk/backingStore") is not None


def test_a_copied_disk_is_opened_as_the_other_host_can() -> None:
    """And no other, nor where nothing is said of it."""
    there = etree.fromstring(relocated(domain(ROOT, NBD), PATHS, ("vda",), "writeback").encode())
    assert [driver.get("cache") for driver in there.iterfind("devices/disk/driver")] == ["writeback", None]
    assert "cache=" not in relocated(domain(ROOT, NBD), PATHS, ("vda",))


def test_nothing_else_is_changed() -> None:
    """Without paths the document says what it said."""
    document = domain(ROOT, NBD, EMPTY_CDROM)
    assert etree.canonicalize(relocated(document, {})) == etree.canonicalize(document)


def test_the_hosts_cpu_is_what_libvirt_compares() -> None:
    """The element alone."""
    capabilities = "<capabilities><host><uuid>u</uuid><cpu><arch>x86_64</arch></cpu> <power/></host></capabilities>"
    assert host_cpu(capabilities) == "<cpu><arch>x86_64</arch></cpu>"
    assert host_cpu("<capabilities><host/></capabilities>") == ""
