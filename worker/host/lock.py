"""The host's lock: a kernel flock, held from a worker's start to its death.

A lease in a database does not stop a paused worker that wakes inside a libvirt call; this does: a stopped
process still holds its lock, a dead one cannot.
"""

import fcntl
import os
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID


class HostLockedError(Exception):
    """Another worker of this libvirt driver is alive; the message is one sentence."""


class HostLock:
    """The lock file of one libvirt driver. It is never removed: a removed file could be locked twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @classmethod
    def of_driver(cls, folder: Path, host_uuid: UUID, uri: str) -> "HostLock":
        """The lock of a driver that every process of the machine can reach.

        However it is reached (``qemu:///system``, ``qemu+unix://…``, ``qemu+tcp://…``), it is one driver: what names it
        is the host's UUID, the driver and the path.
        """
        parts = urlsplit(uri)
        driver = f"{parts.scheme.partition('+')[0]}-{parts.path.strip('/')}"
        return cls(folder / f"{host_uuid}-{driver}.lock")

    @classmethod
    def of_embedded(cls, root: Path) -> "HostLock":
        """The lock of the driver embedded with this root."""
        return cls(root / "hostler.lock")

    def acquire(self, worker: UUID) -> None:
        """Take the lock and write who holds it; raises HostLockedError if somebody else does."""
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "an unknown process"
            os.close(descriptor)
            raise HostLockedError(f"another worker serves this libvirt already ({self.path}: {holder}).") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"pid {os.getpid()} worker {worker}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; the process's death does as well."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
