"""Image files below the configured roots, inspected."""

from collections.abc import Iterator
from contextlib import contextmanager

from models.states import ErrorClass
from tasks.host import HostError, Image
from worker.host.images.inspecting import FORMATS, Inspector
from worker.host.roots import Roots


class FileImages:
    """Files that are used where they lie. Without a root none can be."""

    def __init__(self, roots: Roots, inspector: Inspector) -> None:
        self._roots = roots
        self._inspector = inspector

    def inspect(self, path: str, declared_format: str) -> Image:
        """The image, by the path that it has once all links are followed."""
        with self.opened(path, declared_format) as (_, image):
            return image

    @contextmanager
    def opened(self, path: str, declared_format: str) -> Iterator[tuple[int, Image]]:
        """The image, open, and inspected through that descriptor."""
        if declared_format not in FORMATS:
            message = f"the declared format {declared_format!r} of {path} is none of {', '.join(FORMATS)}"
            raise HostError(ErrorClass.PERMANENT, message)
        with self._roots.opened(path) as (descriptor, real_path):
            yield descriptor, self._inspector.inspected(descriptor, real_path, declared_format, called=path)

    def require_file(self, path: str) -> None:
        """Open it once: that tells all."""
        with self._roots.opened(path):
            pass
