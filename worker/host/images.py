"""Image files below the configured roots: found with links followed, then opened with none followed, and inspected."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError, Image
from worker.host.errors import os_errors
from worker.host.headers import UnfitImage, check_refers_to_nothing, detected_format, qcow2_header

#: What a file may turn out to be when it is declared so. A raw disk with a partition table is a raw disk.
_DECLARED: Final = {"raw": frozenset({"raw", "gpt"}), "qcow2": frozenset({"qcow2"})}
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class FileImages:
    """The port's `Images`. Without a root no image can be used."""

    def __init__(self, roots: tuple[str, ...]) -> None:
        self._roots = roots

    def inspect(self, path: str, declared_format: str) -> Image:
        """The image, by the path that it has once all links are followed."""
        if declared_format not in _DECLARED:
            raise _refused(f"the declared format {declared_format!r} of {path} is neither qcow2 nor raw")
        with self._opened(path) as (descriptor, real_path):
            try:
                found = detected_format(descriptor)
                if found not in _DECLARED[declared_format]:
                    raise _refused(f"{path} is declared {declared_format}, but it is {found}")
                # A file that is used as raw refers to nothing: nobody reads a header in it.
                if declared_format != "raw":
                    check_refers_to_nothing(descriptor)
            except UnfitImage as why:
                raise _refused(f"{path} cannot be used as an image: {why}") from why
            header = qcow2_header(descriptor) if declared_format == "qcow2" else None
            size = header.virtual_size_bytes if header else os.fstat(descriptor).st_size
        if size <= 0:
            raise _refused(f"{path} is empty")
        return Image(real_path, declared_format, size)

    def require_file(self, path: str) -> None:
        """Open it once: that tells all."""
        with self._opened(path):
            pass

    @contextmanager
    def _opened(self, path: str) -> Iterator[tuple[int, str]]:
        if not self._roots:
            raise _refused(f"{path} cannot be used, for no image root is configured: set HOSTLER_IMAGE_ROOTS")
        if not Path(path).is_absolute() or "\0" in path:
            raise _refused(f"{path!r} is not an absolute path")
        with os_errors(f"read {path}"):
            real_path = _real_path(path)
            if not self._is_below_a_root(real_path):
                raise _refused(f"{path} does not lie below an image root")
            descriptor = os.open(real_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                # A folder on the way may have become a link since; the kernel knows what was opened.
                if str(Path(f"/proc/self/fd/{descriptor}").readlink()) != real_path:
                    raise _refused(f"{path} changed while it was opened")
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise _refused(f"{path} is not a regular file")
                yield descriptor, real_path
            finally:
                os.close(descriptor)

    def _is_below_a_root(self, real_path: str) -> bool:
        roots = (os.path.realpath(root) for root in self._roots)
        return any(real_path.startswith(root.rstrip("/") + "/") for root in roots)


def _real_path(path: str) -> str:
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise _refused(f"{path} cannot be found: {error.strerror}") from error
        raise


def _refused(why: str) -> HostError:
    return HostError(ErrorClass.PERMANENT, why)
