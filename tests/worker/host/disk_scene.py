"""One instance's disks as real files, and a qemu-img that hangs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from models.states import ErrorClass
from tasks.host import HostError
from worker.host import children
from worker.host.disks import FileDisks
from worker.host.folders import Folders

MIB = 1024**2


class Place:
    """A state folder with one instance in it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.instance = uuid4()
        self.folders = Folders(str(state))
        self.disks = FileDisks(self.folders)
        self.folder = Path(self.folders.path(self.instance))
        self.root = self.disks.path_for(self.instance, "root", "qcow2")

    def create(self, epoch: int = 1, disks: FileDisks | None = None) -> None:
        """Make the root disk."""
        (disks or self.disks).create(self.instance, self.root, size_bytes=MIB, backing=None, epoch=epoch)

    def names(self) -> list[str]:
        """What is in the instance's folder."""
        return sorted(path.name for path in self.folder.iterdir())


@contextmanager
def stuck_program(folder: Path) -> Iterator[str]:
    """A program that takes qemu-img's arguments and waits for ever."""
    never = folder / "never"
    os.mkfifo(never)
    stand_in = folder / "qemu-img"
    stand_in.write_text(f"#!/bin/sh\nread line < {never}\n")
    stand_in.chmod(0o755)
    yield str(stand_in)
    children.end_all(str(folder))


def class_of(error: pytest.ExceptionInfo[HostError]) -> ErrorClass:
    """What the caught error means."""
    return error.value.error_class
