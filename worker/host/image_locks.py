"""QEMU's locks on disk files: a process that has one open holds them while it lives, whatever libvirt believes.

libvirt takes a guest for shut off once its monitor is closed; a process that hangs in its storage may then still write.
"""

import errno
import fcntl
import os
import stat
import struct
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError

#: The bytes that QEMU locks: the permissions it has from 100 on, those it leaves to others from 200 on.
_FIRST_BYTE: Final = 100
_BYTES: Final = 200
#: ``struct flock``: type, whence, start, length, and no process, as open file descriptions want it.
_FLOCK: Final = "hhqqi4x"
#: A file system that knows no locks tells nothing.
_NO_LOCKS: Final = frozenset({errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


def refuse_held(file: str, folder: int | None, path: str) -> None:
    """Raise HostError(TRANSIENT) while a process has the disk ``file`` of the open ``folder`` open.

    Its blocks would go with that process, not with their name. What is no regular file is nobody's disk.
    """
    if folder is None or not _is_regular(file, folder):
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        held = _is_held(descriptor)
    finally:
        os.close(descriptor)
    if held:
        message = f"a process still has {path} open, and may write to it: end the QEMU that `fuser -v {path}` shows"
        raise HostError(ErrorClass.TRANSIENT, message)


def _is_regular(file: str, folder: int) -> bool:
    try:
        return stat.S_ISREG(os.stat(file, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _is_held(descriptor: int) -> bool:
    """Whether somebody holds a lock of QEMU's on the open file."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _FIRST_BYTE, _BYTES, 0)
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    held: int = struct.unpack(_FLOCK, answer)[0]
    return held != fcntl.F_UNLCK
