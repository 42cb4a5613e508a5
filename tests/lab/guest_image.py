"""A guest that cooperates: Debian's cloud kernel and a 1 MB initramfs that says when it is up and keeps beating.

The guest wants 80 MiB, `GuestImage.cmdline` and its serial port in a file; it reaches userspace in 2 to 3 s under TCG.
On its console it prints `hostler-lab: userspace up boot=<boot id>` once per boot, and with `lab.hb=SECONDS` on its
command line a line `hostler-lab: heartbeat N boot=<boot id>` at that interval. It powers off when ACPI asks.
"""

import fcntl
import gzip
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.places import CACHE, LabIncompleteError, program

MEMORY_MIB = 80
CMDLINE = "console=ttyS0 quiet mitigations=off nokaslr lab.hb=0.2"
UP_MARK = "hostler-lab: userspace up boot="
HEARTBEAT_MARK = "hostler-lab: heartbeat "

#: In the order in which they need each other.
MODULES = (
    "failover", "net_failover", "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
    "virtio_pci", "virtio_blk", "virtio_net", "virtio_balloon", "button", "evdev",
)  # fmt: skip

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
for module in MODULES; do insmod /modules/$module.ko; done
boot=$(cat /proc/sys/kernel/random/boot_id)
echo "hostler-lab: userspace up boot=$boot"
acpid -l /dev/null
for word in $(cat /proc/cmdline); do
    case $word in lab.hb=*) beat=${word#lab.hb=} ;; esac
done
[ -n "$beat" ] || exec sleep 2147483647
n=0
while :; do
    n=$((n + 1))
    echo "hostler-lab: heartbeat $n boot=$boot"
    sleep "$beat"
done
"""

POWER_BUTTON = "#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n"

DIRECTORY, EXECUTABLE, PLAIN, CHARACTER_DEVICE = 0o040755, 0o100755, 0o100644, 0o020600


@dataclass(frozen=True)
class GuestImage:
    """What a guest boots from."""

    kernel: Path
    initrd: Path
    cmdline: str = CMDLINE


def guest_image() -> GuestImage:
    """The kernel that `make setup` fetched and an initramfs for it, built once and again when this file changes."""
    kernel = CACHE / "kernel" / "vmlinuz"
    if not kernel.exists():
        raise LabIncompleteError("the guests' kernel is not there: run `make setup`")
    image = GuestImage(kernel, CACHE / "initramfs.gz")
    with (CACHE / "initramfs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest_source = max(kernel.stat().st_mtime, Path(__file__).stat().st_mtime)
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


def boots_seen(console: str) -> list[str]:
    """The boot ids that a guest printed on its console, in order: one for each time that its userspace came up."""
    return [line.partition(UP_MARK)[2].strip() for line in console.splitlines() if UP_MARK in line]


def _initramfs(modules: Path) -> bytes:
    busybox = Path(program("busybox")).read_bytes()
    entries = [("dev", DIRECTORY, b"")]
    entries += [(folder, DIRECTORY, b"") for folder in ("bin", "proc", "sys", "modules", "etc", "etc/acpi")]
    entries += [("etc/acpi/PWRF", DIRECTORY, b""), ("dev/console", CHARACTER_DEVICE, b"")]
    entries += [("bin/busybox", EXECUTABLE, busybox), ("init", EXECUTABLE, _init())]
    entries += [("etc/acpi/PWRF/00000080", EXECUTABLE, POWER_BUTTON.encode())]
    entries += [(f"modules/{name}.ko", PLAIN, (modules / f"{name}.ko").read_bytes()) for name in MODULES]
    return b"".join(_cpio(*entry) for entry in [*entries, ("TRAILER!!!", 0, b"")])


def _init() -> bytes:
    return INIT.replace("MODULES", " ".join(MODULES)).encode()


def _cpio(name: str, mode: int, content: bytes) -> bytes:
    """One member of an archive in cpio's "newc" format."""
    device = os.makedev(5, 1) if mode == CHARACTER_DEVICE else 0
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, os.major(device), os.minor(device), len(name) + 1, 0]
    header = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
    return _padded(header) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
