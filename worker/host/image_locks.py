"""QEMU's locks on disk files: a process that has one open holds them while it lives, whatever libvirt believes.

libvirt takes a guest for shut off once its monitor is closed; a process that hangs in its storage may then still write.
"""

import errno
import fcntl
import os
import struct
from typing import Final

#: The bytes that QEMU locks: the permissions it has from 100 on, those it leaves to others from 200 on.
_FIRST_BYTE: Final = 100
_BYTES: Final = 200
#: ``struct flock``: type, whence, start, length, and no process, as open file descriptions want it.
_FLOCK: Final = "hhqqi4x"
#: A file system that knows no locks tells nothing.
_NO_LOCKS: Final = frozenset({errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


def is_held(descriptor: int) -> bool:
    """Whether somebody holds a lock of QEMU's on the open file. Raises OSError."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _FIRST_BYTE, _BYTES, 0)
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    held: int = struct.unpack(_FLOCK, answer)[0]
    return held != fcntl.F_UNLCK
