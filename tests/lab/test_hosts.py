"""The hosts of the lab are real, independent of each other, and leave nothing."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import libvirt
import pytest

from tests.lab.guest_console import boots_seen, heartbeats
from tests.lab.guest_image import MEMORY_MIB, GuestImage, base_image
from tests.lab.host_pair import HostPair
from tests.lab.hosts import LibvirtHost
from tests.lab.namespaces import inside
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

GUEST = """
<domain type='qemu'><name>{uuid}</name><uuid>{uuid}</uuid><memory unit='MiB'>{memory}</memory>
  <os><type machine='pc'>hvm</type>{boot}</os><features><acpi/></features><devices>{devices}</devices></domain>
"""


@contextmanager
def connected(host: LibvirtHost) -> Iterator[libvirt.virConnect]:
    """A connection for the length of a block."""
    with closing(libvirt.open(host.uri)) as connection:
        yield connection


def start_firmware_guest(host: LibvirtHost) -> UUID:
    """A guest without an operating system: its firmware idles."""
    guest = uuid4()
    with connected(host) as connection:
        connection.createXML(GUEST.format(uuid=guest, memory=40, boot="", devices=""))
    return guest


def is_gone(connection: libvirt.virConnect, guest: UUID) -> bool:
    """Whether the transient guest has ended."""
    return str(guest) not in {domain.UUIDString() for domain in connection.listAllDomains()}


def test_a_guest_outlives_its_libvirtd_and_ends_with_its_host() -> None:
    """It is the same process, found again; QEMU's log counts one start."""
    with LibvirtHost("lab-b") as host:
        guest = start_firmware_guest(host)
        pids = host.qemu_pids()
        assert len(pids) == 1
        host.kill()
        assert host.qemu_pids() == pids
        host.start()
        with connected(host) as connection:
            assert connection.lookupByUUIDString(str(guest)).isActive() == 1
        host.restart()
        assert (host.qemu_pids(), host.boots(guest)) == (pids, 1)
        assert f"-uuid {guest}" in host.qemu_log(guest)
        folder = host.folder
    assert not Path(f"/proc/{pids[0]}").exists()
    assert not folder.exists()


def test_two_hosts_know_nothing_of_each_other(libvirt_host: LibvirtHost) -> None:
    """Neither the guests, nor the name, nor the identity that a migration compares."""
    with LibvirtHost("lab-c") as other:
        guest = start_firmware_guest(other)
        with connected(libvirt_host) as here, connected(other) as there:
            with pytest.raises(libvirt.libvirtError, match="Domain not found"):
                here.lookupByUUIDString(str(guest))
            assert there.lookupByUUIDString(str(guest)).isActive()
            assert (here.getHostname(), there.getHostname()) == ("lab-shared", "lab-c")
            assert str(libvirt_host.uuid) in here.getCapabilities()
            assert str(other.uuid) in there.getCapabilities()


def test_a_host_that_listens_is_reached_by_tcp() -> None:
    """As the other host of a migration reaches it."""
    with LibvirtHost(listen_address="127.0.0.1") as host, closing(libvirt.open(host.tcp_uri)) as connection:
        assert connection.getHostname() == "lab-a"


def test_a_host_of_a_network_is_reached_there_and_comes_back_there(host_pair: HostPair) -> None:
    """By the other host, under the same address, also after its libvirtd was killed."""
    first, second = host_pair.first, host_pair.second
    asking = "import libvirt, sys; sys.stdout.write(libvirt.open(sys.argv[1]).getHostname())"
    for _ in range(2):
        asked = inside(first.network_namespace, [sys.executable, "-c", asking, second.tcp_uri])
        assert subprocess.run(asked, check=True, capture_output=True, timeout=30).stdout == b"lab-2"
        second.kill()
        second.start()


def test_a_guest_boots_beats_and_obeys_its_power_button(
    libvirt_host: LibvirtHost, guest_image: GuestImage, tmp_path: Path
) -> None:
    """The console is the guest's own word: one boot id for each time that its userspace came up."""
    guest, console, disk = uuid4(), tmp_path / "console", base_image(tmp_path / "disk.qcow2")
    boot = f"<kernel>{guest_image.kernel}</kernel><initrd>{guest_image.initrd}</initrd>"
    boot += f"<cmdline>{guest_image.cmdline}</cmdline>"
    devices = f"<serial type='file'><source path='{console}'/></serial>"
    devices += f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda'/></disk>"
    with connected(libvirt_host) as connection:
        domain = connection.createXML(GUEST.format(uuid=guest, memory=MEMORY_MIB, boot=boot, devices=devices))
        try:
            eventually(lambda: heartbeats(console.read_text()), "the guest's heart beats", 60.0)
            assert len(boots_seen(console.read_text())) == 1
            assert libvirt_host.boots(guest) == 1
            domain.shutdown()
            eventually(lambda: is_gone(connection, guest), "the guest is off", 30.0)
        finally:
            if not is_gone(connection, guest):
                domain.destroy()
