"""What new disks are formatted with, by the usual tools; and the space that is allocated to them."""

from typing import Final

from models.states import ErrorClass
from tasks.host import FileSystem, HostError
from worker.host import children
from worker.host.children import Limits

_GIB: Final = 1024**3
#: ext3 has each of its inode tables written: 16 MiB in a GiB.
FORMAT_S_PER_GIB: Final = 2
#: What is left to the guest's kernel costs neither time nor space now.
_EXT: Final = ("-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-L")
_COMMANDS: Final = {
    "ext3": ("mkfs.ext3", *_EXT),
    "ext4": ("mkfs.ext4", *_EXT),
    "vfat": ("mkfs.vfat", "-n"),
    "swap": ("mkswap", "-L"),
}
#: FAT keeps labels in capitals.
_IN_CAPITALS: Final = frozenset({"vfat"})
_ALLOCATED_OF_EXT: Final = 32  #: one byte in so many, at most, for its tables and its journal


def make(path: str, file_system: FileSystem, size_bytes: int) -> None:
    """Format the file at ``path``, which has that size. Raises HostError(PERMANENT) for a kind that is not known."""
    command = _COMMANDS.get(file_system.kind)
    if command is None:
        raise HostError(ErrorClass.PERMANENT, f"{path} cannot be formatted with {file_system.kind!r}")
    label = file_system.label.upper() if file_system.kind in _IN_CAPITALS else file_system.label
    more_s = FORMAT_S_PER_GIB * (size_bytes // _GIB)
    limits = Limits(children.DEADLINE_S + more_s, children.CPU_LIMIT_S + more_s)
    children.run([*command, label, path], f"format {path} with {file_system.kind}", limits=limits)


def space_of(file_system: FileSystem, size_bytes: int) -> int:
    """How many bytes formatting takes, at most."""
    return size_bytes // _ALLOCATED_OF_EXT if file_system.kind.startswith("ext") else size_bytes // 1024


def allocate(path: str, size_bytes: int) -> None:
    """Have so many bytes of the file's file system be the file's, also behind its end; what it holds stays."""
    arguments = ["fallocate", "--keep-size", "--length", str(size_bytes), path]
    children.run(arguments, f"allocate {size_bytes} bytes to {path}")
