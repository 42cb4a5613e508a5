"""Secrets that requests name: files that nobody but this worker's user can read."""

import errno
import os
import re
import stat
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.errors import os_errors

#: No secret that a guest is told is larger: it is user data, at most.
LIMIT_BYTES: Final = 64 * 1024
SETTING: Final = "HOSTLER_SECRETS_DIR"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class SecretFiles:
    """The secrets in one folder. A secret's value is in no error and no log line."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes:
        """The secret of that name.

        Raises HostError(PERMANENT) unless it is a regular file in the folder, its owner's (0600 or less), which is
        this process's user, and not too large.
        """
        if not _NAME.fullmatch(name):
            raise _refused(name, "that is no name of a secret")
        with os_errors(f"read the secret {name}"):
            try:
                descriptor = os.open(f"{self._folder}/{name}", _OPEN)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise _refused(name, "it is a symbolic link") from error
                if error.errno in _NOT_THERE:
                    raise _refused(name, f"there is none of that name; put it below {SETTING}") from error
                raise
            try:
                _refuse_unfit(name, os.fstat(descriptor))
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    content = file.read(LIMIT_BYTES + 1)
            finally:
                os.close(descriptor)
        if len(content) > LIMIT_BYTES:
            raise _refused(name, f"it has more than {LIMIT_BYTES} bytes")
        return content


def _refuse_unfit(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(name, "it is not a regular file")
    if status.st_uid != os.geteuid():
        raise _refused(name, f"it belongs to the user {status.st_uid}, and must belong to the worker's, {os.geteuid()}")
    if stat.S_IMODE(status.st_mode) & 0o177:
        raise _refused(name, f"its mode is {stat.S_IMODE(status.st_mode):04o}, and must be 0600: others may read it")


def _refused(name: str, why: str) -> HostError:
    return HostError(ErrorClass.PERMANENT, f"the secret {name!r} cannot be used: {why}")
