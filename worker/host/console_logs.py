"""Console logs, kept within bounds: a guest writes as much as it likes, and QEMU writes all of it down.

Beside the log stands one older one, ``console.log.0``. QEMU has the file open for appending, so that it goes on at
the beginning of one that was cut. Where virtlogd writes the logs it keeps bounds of its own, which are in its settings.
"""

import os
import stat
from contextlib import suppress
from typing import Final
from uuid import UUID

from tasks.host import HostError
from worker.host.errors import from_os_error
from worker.host.folders import CONSOLE_LOG, Folders

OLDER: Final = f"{CONSOLE_LOG}.0"
#: The older log while it is being written; what a killed worker left of it is written over.
_UNFINISHED: Final = f"{CONSOLE_LOG}.unfinished"
_OPEN_LOG: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_OLDER: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class ConsoleLogs:
    """The logs of all instances that have a folder here, each of at most ``max_bytes``, and as much of an older one."""

    def __init__(self, folders: Folders, max_bytes: int) -> None:
        self._folders = folders
        self._max_bytes = max_bytes

    def keep_within_bounds(self) -> tuple[HostError, ...]:
        """Cut each that has grown too long, its end kept aside. Returned is what was in the way, of which logs."""
        errors = []
        for instance in self._folders.instances():
            try:
                self._keep(instance)
            except OSError as error:
                errors.append(from_os_error(error, f"cut the console log of {instance}"))
        return tuple(errors)

    def _keep(self, instance: UUID) -> None:
        with self._folders.existing(instance) as folder:
            if folder is None or _size(folder) <= self._max_bytes:
                return
            log = os.open(CONSOLE_LOG, _OPEN_LOG, dir_fd=folder)
            try:
                self._set_aside(log, folder)
                os.ftruncate(log, 0)
            finally:
                os.close(log)

    def _set_aside(self, log: int, folder: int) -> None:
        """The end of the log as the older one, whole or not at all."""
        older = os.open(_UNFINISHED, _OPEN_OLDER, 0o600, dir_fd=folder)
        try:
            size = os.fstat(log).st_size
            at, left = max(0, size - self._max_bytes), min(size, self._max_bytes)
            while left > 0:  # each round copies something, or ends
                copied = os.sendfile(older, log, at, left)
                if copied == 0:
                    break
                at, left = at + copied, left - copied
        finally:
            os.close(older)
        os.rename(_UNFINISHED, OLDER, src_dir_fd=folder, dst_dir_fd=folder)


def _size(folder: int) -> int:
    """The log's length in bytes; 0 where there is none, or something else stands in its place."""
    with suppress(FileNotFoundError):
        found = os.stat(CONSOLE_LOG, dir_fd=folder, follow_symlinks=False)
        return found.st_size if stat.S_ISREG(found.st_mode) else 0
    return 0
