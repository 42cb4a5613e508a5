"""Disks of every kind, on a real guest, and what it gains by writing into a raw one what other formats begin with."""

import hashlib
import subprocess
from base64 import b64encode
from pathlib import Path
from uuid import UUID

import libvirt
import pytest

from tests.end_to_end.guests import BOOT_WITHIN_S, booting, domain, done, label_of
from tests.lab.guest_console import disks_seen, writings
from tests.lab.guest_image import GuestImage, base_image
from tests.lab.hosts import LibvirtHost
from tests.lab.places import program
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

BLOCK_BYTES = 4096
GIB = 1024**3


def run(name: str, *arguments: str) -> str:
    """What the program says."""
    command = [program(name), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def header_that_names(file: Path, folder: Path) -> bytes:
    """What a qcow2 disk begins with whose bytes are those of another file."""
    overlay = folder / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(file), "-F", "raw", str(overlay), "64M")
    header = overlay.read_bytes()[:BLOCK_BYTES].rstrip(b"\0")
    overlay.unlink()
    return header


def checksum(beginning: bytes) -> str:
    """Of a disk's first block that begins so."""
    return hashlib.md5(beginning.ljust(BLOCK_BYTES, b"\0"), usedforsecurity=False).hexdigest()


def files_open_in(pid: int) -> set[str]:
    """The files that a process has open."""
    return {str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}


def test_a_guest_has_its_disks_and_gains_nothing_by_a_header_in_a_raw_one(
    site: Site, libvirt_host: LibvirtHost, instance: UUID, guest_image: GuestImage
) -> None:
    """A copied and grown root, an ephemeral and a swap disk; what it writes is bytes, also started again or grown."""
    secret = site.images / "secret"
    secret.write_bytes(b"secret" * BLOCK_BYTES)
    header = header_that_names(secret, site.images)
    site.start_worker()
    guest = booting(guest_image, write=f"root:{b64encode(header).decode()}", still=1)
    disks = {
        "image": {"path": str(base_image(site.images / "base.qcow2"))},
        "disk_gib": 1,
        "root_disk": {"format": "raw"},
        "ephemerals": [{"size_gib": 1, "guest_format": "vfat"}],
        "swap_mib": 16,
    }
    done(site, "spawn", instance, guest | disks)
    folder = site.state / "instances" / str(instance)
    root = folder / "root.raw"

    eventually(lambda: writings(site.console(instance)), "the guest has written", BOOT_WITHIN_S)
    assert writings(site.console(instance)) == [(checksum(b""), checksum(header))]
    assert disks_seen(site.console(instance))[-1] == {"vda": "root", "vdb": "disk.ephemeral0", "vdc": "disk.swap"}
    assert label_of(folder / "ephemeral0.raw") == "EPHEMERAL0"
    assert label_of(folder / "swap.raw") == "swap"
    # Whoever guesses is led to the secret.
    assert str(secret) in run("qemu-img", "info", "--force-share", str(root))

    done(site, "reboot", instance, {"type": "hard"})
    eventually(lambda: len(writings(site.console(instance))) > 1, "the guest has written again", BOOT_WITHIN_S)
    assert writings(site.console(instance))[-1] == (checksum(header), checksum(header))
    [qemu] = site.qemu_pids(instance)
    assert str(secret) not in files_open_in(qemu)
    with domain(libvirt_host, instance) as there:
        assert there.blockInfo("vda")[0] == GIB
        there.blockResize("vda", 2 * GIB, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        assert there.blockInfo("vda")[0] == 2 * GIB
    assert str(secret) not in files_open_in(qemu)
    with root.open("rb") as disk:
        assert (root.stat().st_size, disk.read(len(header))) == (2 * GIB, header)
    done(site, "destroy", instance, {})
    assert site.files() == []
