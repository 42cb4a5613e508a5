"""Image files below the configured roots, inspected."""

import os
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError, Image
from worker.host.headers import UnfitImage, check_refers_to_nothing, detected_format, qcow2_header
from worker.host.roots import Roots

#: What a file may turn out to be when it is declared so. A raw disk with a partition table is a raw disk.
_DECLARED: Final = {"raw": frozenset({"raw", "gpt"}), "qcow2": frozenset({"qcow2"})}


class FileImages:
    """The port's `Images`. Without a root no image can be used."""

    def __init__(self, roots: tuple[str, ...]) -> None:
        self._roots = Roots(roots, called="an image root", setting="HOSTLER_IMAGE_ROOTS")

    def inspect(self, path: str, declared_format: str) -> Image:
        """The image, by the path that it has once all links are followed."""
        if declared_format not in _DECLARED:
            raise _refused(f"the declared format {declared_format!r} of {path} is neither qcow2 nor raw")
        with self._roots.opened(path) as (descriptor, real_path):
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
        with self._roots.opened(path):
            pass


def _refused(why: str) -> HostError:
    return HostError(ErrorClass.PERMANENT, why)
