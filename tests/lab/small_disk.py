"""A small file system of its own in a folder, so that a disk can be full without filling the machine's.

The name of what is mounted tells its maker, so that what a killed session left is known, and unmounted.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.places import program

COMMAND_WITHIN_S = 20.0
CHUNK_BYTES = 1024**2

_NAME = re.compile(r"hostler-(?P<pids>[0-9a-f]+)-(?P<pid>\d+)")


class SmallDisk:
    """The file system; whoever was started before it was mounted may not see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave no byte."""
        with self._filler.open("wb", buffering=0) as filler:
            size = CHUNK_BYTES
            while size:
                try:
                    filler.write(b"\0" * size)
                except OSError:
                    size //= 2

    def clear(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[SmallDisk]:
    """The file system, mounted in the folder for as long as the context."""
    remove_leftovers()
    name = f"hostler-{_own_pids()}-{os.getpid()}"
    _run("mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0755", name, str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        _run("umount", "--lazy", str(folder))


def remove_leftovers() -> None:
    """Unmount those of sessions that are dead; those of other people, and of other containers, are let be."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        made_by = _NAME.fullmatch(right.split()[1])
        if made_by and made_by["pids"] == _own_pids() and not Path(f"/proc/{made_by['pid']}").exists():
            _run("umount", "--lazy", left.split()[4])


def _own_pids() -> str:
    """Within which namespace of processes a pid of ours means something."""
    return f"{Path('/proc/self/ns/pid').stat().st_ino:x}"


def _run(name: str, *arguments: str) -> None:
    subprocess.run([program(name), *arguments], check=True, capture_output=True, timeout=COMMAND_WITHIN_S)
