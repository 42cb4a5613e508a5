"""Volumes that are files below a volume root, or block devices. Connecting them makes nothing."""

import os
import re
from typing import Final

from tasks.host import Volume
from worker.host.device_xml import DiskSource
from worker.host.errors import os_errors
from worker.host.headers import UnfitImage, check_refers_to_nothing, detected_format
from worker.host.roots import FileType, Roots
from worker.host.unfit import refuse_text
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
    """Kind ``block``: a block device, whatever is on it, of those that are listed by name.

    In a name on the list ``*`` stands for any part of it between two slashes.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._listed = [re.compile(re.escape(name).replace(r"\*", "[^/]*")) for name in names]

    def connected(self, volume: Volume) -> bool:
        """Whether the device is there, and a block device."""
        if not os.path.lexists(self._name(volume)):
            return False
        self.connect(volume)
        return True

    def held(self, volume: Volume) -> bool:
        """Never: connecting makes nothing."""
        return False

    def connect(self, volume: Volume) -> None:
        """See that it can be read: a device cannot be brought nearer."""
        path = self._name(volume)
        with os_errors(f"read {path}"):
            try:
                # Names of devices are links; where they lead is the system's business, as the list is its operator's.
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise refused(volume, f"{path} cannot be found") from error
            try:
                FileType.BLOCK.refuse_other(path, os.fstat(descriptor).st_mode)
            finally:
                os.close(descriptor)

    def disconnect(self, volume: Volume) -> None:
        """Connecting made nothing."""

    def source(self, volume: Volume) -> DiskSource:
        """The device, by its name: what that led to may have another number after a boot.

        Past the host's cache, so that another host that has it too sees what a guest wrote.
        """
        return DiskSource("block", "raw", {"dev": self._name(volume)}, cache="none", io="native")

    def _name(self, volume: Volume) -> str:
        """The device's name, if it is listed."""
        path = text_of(volume, "path")
        refuse_text("the path", path)
        if os.path.normpath(path) != path or not any(name.fullmatch(path) for name in self._listed):
            raise refused(volume, f"{path} is no block device that HOSTLER_VOLUME_DEVICES lists")
        return path


def _format(volume: Volume) -> str:
    image_format = text_of(volume, "format")
    if image_format not in _FORMATS:
        raise refused(volume, f"its format {image_format!r} is neither qcow2 nor raw")
    return image_format
