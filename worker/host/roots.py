"""Configured folders, and what may be used of them: found with links followed, then opened with none followed."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.errors import os_errors
from worker.host.unfit import refuse_text

_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class FileType(Enum):
    """What must be at a path."""

    REGULAR = (stat.S_IFREG, "a regular file")
    BLOCK = (stat.S_IFBLK, "a block device")
    SOCKET = (stat.S_IFSOCK, "a UNIX socket")

    def refuse_other(self, path: str, mode: int) -> None:
        """Raise HostError(PERMANENT) unless a file of that mode is one."""
        wanted, words = self.value
        if stat.S_IFMT(mode) != wanted:
            raise _refused(f"{path} is not {words}")


class Roots:
    """The folders below which something may be used. Without one nothing can be.

    ``called`` is one of them in words, ``setting`` where they are configured.
    """

    def __init__(self, folders: tuple[str, ...], *, called: str, setting: str) -> None:
        self._folders = folders
        self._called = called
        self._setting = setting

    def path_of(self, path: str) -> str:
        """The path with its links followed, whether or not anything is there.

        Raises HostError(PERMANENT) unless it lies below a root.
        """
        if not self._folders:
            raise _refused(f"{path} cannot be used without {self._called}: set {self._setting}")
        refuse_text("the path", path)
        if not Path(path).is_absolute():
            raise _refused(f"{path!r} is not an absolute path")
        with os_errors(f"read {path}"):
            real_path = os.path.realpath(path)
            roots = (os.path.realpath(root) for root in self._folders)
            if not any(real_path.startswith(root.rstrip("/") + "/") for root in roots):
                raise _refused(f"{path} does not lie below {self._called}")
        return real_path

    def found(self, path: str, file_type: FileType) -> str:
        """The path with its links followed. Raises HostError(PERMANENT) unless that type of file is there."""
        real_path = self.path_of(path)
        with os_errors(f"look at {path}"):
            try:
                mode = Path(real_path).stat().st_mode
            except OSError as error:
                if error.errno in _NOT_THERE:
                    raise _refused(f"{path} cannot be found: {error.strerror}") from error
                raise
        file_type.refuse_other(path, mode)
        return real_path

    @contextmanager
    def opened(self, path: str, file_type: FileType = FileType.REGULAR) -> Iterator[tuple[int, str]]:
        """A descriptor of the file, for reading, and its path with links followed."""
        real_path = self.found(path, file_type)
        with os_errors(f"read {path}"):
            descriptor = os.open(real_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                # A folder on the way may have become a link since; the kernel knows what was opened.
                if str(Path(f"/proc/self/fd/{descriptor}").readlink()) != real_path:
                    raise _refused(f"{path} changed while it was opened")
                file_type.refuse_other(path, os.fstat(descriptor).st_mode)
                yield descriptor, real_path
            finally:
                os.close(descriptor)


def _refused(why: str) -> HostError:
    return HostError(ErrorClass.PERMANENT, why)
