"""What an image is, by its own bytes, before any other program sees it; and what was found once need not be again."""

import os
import threading
import time
from dataclasses import dataclass
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError, Image
from worker.host.headers import UnfitImage, check_refers_to_nothing, detected_format, qcow2_header
from worker.host.images.qcow2_tables import check_tables
from worker.host.images.vmdk import check_grains, vmdk_size

#: What a file may turn out to be when it is declared so. A raw disk with a partition table is a raw disk.
FORMATS: Final = {"raw": frozenset({"raw", "gpt"}), "qcow2": frozenset({"qcow2"}), "vmdk": frozenset({"vmdk"})}
#: A file that changed less than this ago may change again without its times telling (they move with the kernel's
#: tick), so that what was found in it is not kept; in seconds.
SETTLED_AFTER_S: Final = 2.0
#: How many files are remembered.
REMEMBERED: Final = 256
_GIB: Final = 1024**3


@dataclass(frozen=True)
class _State:
    """What differs once a file was written: nobody but the kernel sets the time of its last change."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, descriptor: int) -> "_State":
        status = os.fstat(descriptor)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def settled(self) -> bool:
        return abs(time.time() - self.changed_ns / 1e9) > SETTLED_AFTER_S


class Inspector:
    """Inspects images; a virtual disk of more than ``max_bytes`` is refused."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._known: dict[tuple[_State, str], int] = {}  # the virtual size, in bytes

    def inspected(self, descriptor: int, path: str, declared_format: str, *, called: str) -> Image:
        """The image that is open, at ``path``; HostError(PERMANENT) says of ``called`` why it cannot be used."""
        state = _State.of(descriptor)
        with self._lock:
            size = self._known.get((state, declared_format))
        if size is None:
            size = self._size(descriptor, state.size, declared_format, called)
            if state.settled and _State.of(descriptor) == state:
                self._remember(state, declared_format, size)
        return Image(path, declared_format, size)

    def _remember(self, state: _State, declared_format: str, size: int) -> None:
        with self._lock:
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[state, declared_format] = size

    def _size(self, descriptor: int, file_bytes: int, declared_format: str, called: str) -> int:
        accepted = FORMATS.get(declared_format)
        if accepted is None:
            raise _refused(f"the declared format {declared_format!r} of {called} is none of {', '.join(FORMATS)}")
        try:
            found = detected_format(descriptor)
            if found not in accepted:
                raise _refused(f"{called} is declared {declared_format}, but it is {found}")
            size = _virtual_size(descriptor, file_bytes, declared_format)
            if size <= 0:
                raise _refused(f"{called} is empty")
            if size > self._max_bytes:
                raise _refused(
                    f"{called} is a disk of {-(-size // _GIB)} GiB, and HOSTLER_IMAGE_MAX_GIB permits "
                    f"{self._max_bytes // _GIB}"
                )
            if declared_format == "qcow2":
                check_tables(descriptor)
            elif declared_format == "vmdk":
                check_grains(descriptor)
        except UnfitImage as why:
            raise _refused(f"{called} cannot be used as an image: {why}") from why
        return size


def _virtual_size(descriptor: int, file_bytes: int, declared_format: str) -> int:
    """By its header. Raises UnfitImage when the file refers to another one."""
    if declared_format == "vmdk":
        return vmdk_size(descriptor)
    if declared_format != "qcow2":
        return file_bytes  # it refers to nothing: nobody reads a header in it
    check_refers_to_nothing(descriptor)
    header = qcow2_header(descriptor)
    return header.virtual_size_bytes if header else 0


def _refused(why: str) -> HostError:
    return HostError(ErrorClass.PERMANENT, why)
