"""Halves of disk files: made under a name with the job's epoch, whole and synced before they have the disk's own."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from worker.host import children
from worker.host.space import Promise

_HALF: Final = re.compile(r"(?P<file>.+)\.(?P<epoch>[0-9]+)\.part")


@dataclass(frozen=True)
class Half:
    """A disk that is being made."""

    path: str
    name: str
    folder: int  #: the descriptor of the folder that it is in
    format: str
    promise: Promise

    def make_raw(self, size_bytes: int, content: bytes = b"") -> None:
        """Of that size, with the content at its beginning."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.name, flags, 0o600, dir_fd=self.folder)
        try:
            os.truncate(descriptor, size_bytes)
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
        finally:
            os.close(descriptor)

    def allocated_bytes(self) -> int:
        """What the file system has given it so far."""
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False).st_blocks * 512


def name_of(file: str, epoch: int) -> str:
    """What the half of the file is called that a job makes under this epoch."""
    return f"{file}.{epoch}.part"


def is_one(name: str) -> bool:
    """Whether a file of that name is somebody's half."""
    return _HALF.fullmatch(name) is not None


def names_in(folder: int) -> list[str]:
    """The names of all files in the open folder, halves or not."""
    return os.listdir(folder)


def epochs_in(folder: int) -> tuple[int, ...]:
    """The epochs of the halves in the open folder."""
    return tuple(int(half["epoch"]) for half in map(_HALF.fullmatch, names_in(folder)) if half)


def remove(path: str, folder: int, file: str, *, up_to: int | None) -> None:
    """End what makes halves in the open folder at the path, and remove those of the file up to the epoch, or all."""
    found = [
        match.string
        for match in map(_HALF.fullmatch, names_in(folder))
        if match and match["file"] == file and (up_to is None or int(match["epoch"]) <= up_to)
    ]
    if not found:
        return
    children.end_all(path)
    for half in found:
        with suppress(FileNotFoundError):
            os.unlink(half, dir_fd=folder)


def publish(half: str, file: str, folder: int) -> None:
    """Give the half, synced, the name of the file, which is never overwritten."""
    descriptor = os.open(half, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.link(half, file, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(half, dir_fd=folder)
    os.fsync(folder)


def is_there(file: str, folder: int) -> bool:
    """Whether the open folder has a file of that name, of whatever kind."""
    try:
        os.stat(file, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
