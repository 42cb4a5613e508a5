"""Free space, promised to whoever is about to write: two that begin at once do not both count on the last of it."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.errors import os_errors

_MIB: Final = 1024**2


class Promise:
    """So many bytes of a file system that nobody else is given; less with each byte that was written."""

    def __init__(self, promised: Counter[int], lock: threading.Lock, device: int, size_bytes: int) -> None:
        self._promised, self._lock, self._device, self._left = promised, lock, device, size_bytes

    def written(self, size_bytes: int) -> None:
        """The file system knows of these by itself now."""
        with self._lock:
            size_bytes = min(size_bytes, self._left)
            self._left -= size_bytes
            self._promised[self._device] -= size_bytes

    def end(self) -> None:
        """Give back what was not written."""
        self.written(self._left)


class Space:
    """The free space of a host's file systems, as one worker hands it out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._promised: Counter[int] = Counter()  # bytes, by file system

    @contextmanager
    def reserved(self, folder: str, size_bytes: int, doing: str) -> Iterator[Promise]:
        """The bytes are free below the folder, which exists, and are not promised to others meanwhile.

        Raises HostError(RESOURCE) when there are fewer.
        """
        with self._lock, os_errors(f"look for free space in {folder}"):
            device, file_system = Path(folder).stat().st_dev, os.statvfs(folder)
            free = file_system.f_bavail * file_system.f_frsize - self._promised[device]
            if size_bytes > free:
                raise HostError(
                    ErrorClass.RESOURCE,
                    f"could not {doing}: it takes {-(-size_bytes // _MIB)} MiB, and {folder} has "
                    f"{max(free, 0) // _MIB} MiB that nobody else was promised; free some space there",
                )
            self._promised[device] += size_bytes
        promise = Promise(self._promised, self._lock, device, size_bytes)
        try:
            yield promise
        finally:
            promise.end()
