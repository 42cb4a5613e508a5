"""Whether a file system can read and write past the host's cache."""

import errno
import mmap
import os
import tempfile
from typing import Final

_BLOCK_BYTES: Final = 4096
#: What file systems answer that cannot; anything else is an error of its own.
_CANNOT: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})


def works_in(folder: str) -> bool:
    """Whether a file in the folder can be opened, and written, with O_DIRECT. Raises OSError when that cannot be told.

    Some file systems open such a file and refuse to write it: it is written, and is gone afterwards.
    """
    with tempfile.TemporaryFile(dir=folder) as file, mmap.mmap(-1, _BLOCK_BYTES) as block:
        try:
            direct = os.open(f"/proc/self/fd/{file.fileno()}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _CANNOT:
                return False
            raise
        try:
            os.write(direct, block)
        except OSError as error:
            if error.errno in _CANNOT:
                return False
            raise
        finally:
            os.close(direct)
    return True
