"""Volumes that are files or block devices below a volume root. Connecting them makes nothing."""

import os
from typing import Final

from tasks.host import Volume
from worker.host.device_xml import DiskSource
from worker.host.headers import UnfitImage, check_refers_to_nothing, detected_format
from worker.host.roots import FileType, Roots
from worker.host.volumes.kind import refused, text_of

_FORMATS: Final = frozenset({"raw", "qcow2"})


class FileVolumes:
    """Kind ``file``: a regular file of the format that ``where`` says."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    def connected(self, volume: Volume) -> bool:
        """Whether the file is there, and what it is said to be."""
        path = text_of(volume, "path")
        if not os.path.lexists(self._roots.path_of(path)):
            return False
        self.connect(volume)
        return True

    def held(self, volume: Volume) -> bool:
        """Never: connecting makes nothing."""
        return False

    def connect(self, volume: Volume) -> None:
        """Inspect it: a file cannot be brought nearer."""
        image_format = _format(volume)
        with self._roots.opened(text_of(volume, "path")) as (descriptor, _):
            if image_format == "raw":
                return  # nobody reads a header in it: it may hold whatever its guest wrote
            try:
                found = detected_format(descriptor)
                if found != image_format:
                    raise refused(volume, f"it is declared {image_format}, but it is {found}")
                check_refers_to_nothing(descriptor)
            except UnfitImage as why:
                raise refused(volume, str(why)) from why

    def disconnect(self, volume: Volume) -> None:
        """Connecting made nothing."""

    def source(self, volume: Volume) -> DiskSource:
        """The file, by the path that it has once all links are followed."""
        path = self._roots.path_of(text_of(volume, "path"))
        return DiskSource("file", _format(volume), {"file": path})


class BlockVolumes:
    """Kind ``block``: a block device, whatever is on it."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    def connected(self, volume: Volume) -> bool:
        """Whether the device is there, and a block device."""
        path = text_of(volume, "path")
        if not os.path.lexists(self._roots.path_of(path)):
            return False
        self.connect(volume)
        return True

    def held(self, volume: Volume) -> bool:
        """Never: connecting makes nothing."""
        return False

    def connect(self, volume: Volume) -> None:
        """See that it can be read: a device cannot be brought nearer."""
        with self._roots.opened(text_of(volume, "path"), FileType.BLOCK):
            pass

    def disconnect(self, volume: Volume) -> None:
        """Connecting made nothing."""

    def source(self, volume: Volume) -> DiskSource:
        """The device. Past the host's cache, so that another host that has it too sees what a guest wrote."""
        path = self._roots.path_of(text_of(volume, "path"))
        return DiskSource("block", "raw", {"dev": path}, cache="none", io="native")


def _format(volume: Volume) -> str:
    image_format = text_of(volume, "format")
    if image_format not in _FORMATS:
        raise refused(volume, f"its format {image_format!r} is neither qcow2 nor raw")
    return image_format
