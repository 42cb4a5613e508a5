"""The folders that a lab host covers with its own. A machine without libvirt lacks some: they are made, empty.

They cannot go when a host ends, since removing a mount point unmounts it in every other namespace too;
`make clean` removes those that were made here, are still empty, and that no process has mounted.
"""

import contextlib
from pathlib import Path

from tests.lab.places import CACHE

MOUNT_POINTS = tuple(
    Path(path)
    for path in ("/run/libvirt", "/var/lib/libvirt", "/etc/libvirt", "/var/log/libvirt", "/var/cache/libvirt")
)

_MADE = CACHE / "mount-points"


def ensure_mount_points() -> None:
    """Make those that the machine lacks, and remember which."""
    for point in MOUNT_POINTS:
        try:
            point.mkdir()
        except FileExistsError:
            continue
        CACHE.mkdir(exist_ok=True)
        with _MADE.open("a") as made:
            made.write(f"{point}\n")


def remove_mount_points() -> None:
    """Remove those that were made here and are of no use to anyone."""
    made = set(_MADE.read_text().split()) if _MADE.exists() else set()
    for point in MOUNT_POINTS:
        if str(point) in made and not _mounted_somewhere(point):
            with contextlib.suppress(OSError):
                point.rmdir()
    _MADE.unlink(missing_ok=True)


def _mounted_somewhere(point: Path) -> bool:
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):
            if any(line.split()[4] == str(point) for line in mounts.read_text().splitlines()):
                return True
    return False


if __name__ == "__main__":
    remove_mount_points()
