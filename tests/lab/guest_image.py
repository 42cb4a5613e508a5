"""A guest that cooperates: Debian's cloud kernel and a 1 MB initramfs that says when it is up and keeps beating.

The guest wants 80 MiB, `GuestImage.cmdline` and its serial port in a file; it reaches userspace in 2 to 3 s under TCG.
It powers off when ACPI asks. The programs below `guest` say on its console, in lines that begin with `hostler-lab:`

    userspace up boot=<boot id>             once per boot
    disks vda:<serial> vdb …                at the start and at every change; `disks none`
    nics eth0 52:54:…                       at the start and at every change; `nics none`

and, with words on the kernel's command line (`GuestImage.cmdline_with`):

    lab.hb=SECONDS                          heartbeat N boot=<boot id>, at that interval
    lab.disk=SERIAL                         disk vdb checksum ok <md5>, when a pattern was written to it and read back
    lab.keep=1                              keeps N ok, with every beat: what it writes to that disk is kept
    lab.write=SERIAL:BASE64                 wrote SERIAL over <md5> now <md5>: of that disk's first 4096 bytes
    lab.ip=ADDRESS/BITS lab.ping=ADDRESS    ping N ok, or ping N lost, once a second
    lab.dirty=MIB                           nothing: it overwrites that much memory for ever
    lab.still=1                             nothing: it leaves the processor alone; not for a guest that migrates
"""

import fcntl
import gzip
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.places import CACHE, LabIncompleteError, program

MEMORY_MIB = 80
CMDLINE = "console=ttyS0 quiet loglevel=1 mitigations=off nokaslr lab.hb=0.2"
PROGRAMS = Path(__file__).with_name("guest")  #: what runs in it

#: In the order in which they need each other.
MODULES = (
    "failover", "net_failover", "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
    "virtio_pci", "virtio_blk", "virtio_net", "virtio_balloon", "button", "evdev",
)  # fmt: skip

DIRECTORY, EXECUTABLE, PLAIN, CHARACTER_DEVICE = 0o040755, 0o100755, 0o100644, 0o020600


@dataclass(frozen=True)
class GuestImage:
    """What a guest boots from."""

    kernel: Path
    initrd: Path
    cmdline: str = CMDLINE

    def cmdline_with(self, **behaviours: str | int) -> str:
        """The command line of a guest that also does these: `disk=…, keep=1`."""
        return " ".join([self.cmdline, *(f"lab.{name}={value}" for name, value in behaviours.items())])


def guest_image() -> GuestImage:
    """The kernel that `make setup` fetched and an initramfs for it, built once and again when its sources change."""
    kernel = CACHE / "kernel" / "vmlinuz"
    if not kernel.exists():
        raise LabIncompleteError("the guests' kernel is not there: run `make setup`")
    image = GuestImage(kernel, CACHE / "initramfs.gz")
    with (CACHE / "initramfs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest_source = max(source.stat().st_mtime for source in (kernel, Path(__file__), *PROGRAMS.iterdir()))
        if not image.initrd.exists() or image.initrd.stat().st_mtime < newest_source:
            unfinished = image.initrd.with_suffix(".new")
            unfinished.write_bytes(gzip.compress(_initramfs(kernel.parent / "modules"), 6))
            unfinished.replace(image.initrd)
    return image


def base_image(path: Path, size_mib: int = 64) -> Path:
    """An empty qcow2 image, as the base of overlays."""
    subprocess.run(
        [program("qemu-img"), "create", "-q", "-f", "qcow2", str(path), f"{size_mib}M"],
        check=True,
        timeout=30,
    )
    return path


def _initramfs(modules: Path) -> bytes:
    entries = [
        (folder, DIRECTORY, b"") for folder in ("bin", "dev", "etc", "etc/acpi", "lab", "modules", "proc", "sys")
    ]
    entries += [("etc/acpi/PWRF", DIRECTORY, b""), ("dev/console", CHARACTER_DEVICE, b"")]
    entries += [("bin/busybox", EXECUTABLE, Path(program("busybox")).read_bytes())]
    entries += [(_place(source), EXECUTABLE, source.read_bytes()) for source in sorted(PROGRAMS.glob("*.sh"))]
    entries += [(f"modules/{name}.ko", PLAIN, (modules / f"{name}.ko").read_bytes()) for name in MODULES]
    entries += [("modules/order", PLAIN, "\n".join(MODULES).encode())]
    return b"".join(_cpio(*entry) for entry in [*entries, ("TRAILER!!!", 0, b"")])


def _place(source: Path) -> str:
    """Where a program of the guest lies there."""
    return {"init.sh": "init", "power-button.sh": "etc/acpi/PWRF/00000080"}.get(source.name, f"lab/{source.name}")


def _cpio(name: str, mode: int, content: bytes) -> bytes:
    """One member of an archive in cpio's "newc" format."""
    device = os.makedev(5, 1) if mode == CHARACTER_DEVICE else 0
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, os.major(device), os.minor(device), len(name) + 1, 0]
    header = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
    return _padded(header) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
