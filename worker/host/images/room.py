"""The port's `Images`: files below the image roots, and the cache of those that are fetched."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.states import ErrorClass
from tasks.host import FetchWatch, HostError, Image, ImageSource
from worker.host.folders import Folders
from worker.host.images.addresses import PermittedUrls
from worker.host.images.cache import ImageCache
from worker.host.images.fetching import Fetcher, Limits
from worker.host.images.inspecting import Inspector
from worker.host.images.local import FileImages
from worker.host.images.sources import Sources
from worker.host.roots import Roots
from worker.host.space import Space

_GIB = 1024**3


@dataclass(frozen=True)
class ImageRules:
    """What a host permits of images."""

    roots: tuple[str, ...] = ()  #: folders that files may be used from
    urls: tuple[str, ...] = ()  #: prefixes of http and https URLs that may be fetched
    max_gib: int = 1024  #: of a file that is fetched, and of any image's virtual disk
    cache_max_gib: int = 100
    timeout_s: float = 3600.0  #: of one fetch


class HostImages:
    """The port's `Images`."""

    def __init__(self, state_folder: str, folders: Folders, rules: ImageRules, space: Space) -> None:
        roots = Roots(rules.roots, called="an image root", setting="HOSTLER_IMAGE_ROOTS")
        self.cache = ImageCache(state_folder, folders.all, rules.cache_max_gib * _GIB)
        self._inspector = Inspector(rules.max_gib * _GIB)
        self._files = FileImages(roots, self._inspector)
        self._sources = Sources(roots, PermittedUrls(rules.urls))
        limits = Limits(rules.max_gib * _GIB, rules.timeout_s)
        self._fetcher = Fetcher(self.cache, self._sources, self._inspector, space, limits)

    def inspect(self, path: str, declared_format: str) -> Image:
        """The image, by the path that it has once all links are followed."""
        return self._files.inspect(path, declared_format)

    def require_file(self, path: str) -> None:
        """Open it once: that tells all."""
        self._files.require_file(path)

    def identify(self, source: ImageSource) -> str:
        """The image's key."""
        return self._sources.key(source)

    def cached(self, key: str, declared_format: str) -> Image | None:
        """The image as the cache has it."""
        with self.cache.opened(key) as descriptor:
            if descriptor is None:
                return None
            path = self.cache.path(key)
            return self._inspector.inspected(descriptor, path, declared_format, called=path)

    def fetch(self, source: ImageSource, key: str, watch: FetchWatch) -> None:
        """Fetch it, unless it is there."""
        self._fetcher.fetch(source, key, watch)

    @contextmanager
    def held(self, image: Image) -> Iterator[None]:
        """Within it a disk may be made from the image: it is inspected once more, and is not removed meanwhile.

        Raises HostError(TRANSIENT) when it is no longer what it was.
        """
        folder, _, name = image.path.rpartition("/")
        if folder != self.cache.folder:
            self._same(image, self.inspect(image.path, image.format))
            yield
            return
        with self.cache.kept():
            self._same(image, self.cached(name, image.format))
            yield

    @contextmanager
    def opened(self, image: Image) -> Iterator[int]:
        """A descriptor of the image, to be copied from, whatever becomes of its name; it is inspected once more.

        Raises HostError(TRANSIENT) when it is no longer what it was.
        """
        folder, _, name = image.path.rpartition("/")
        if folder != self.cache.folder:
            with self._files.opened(image.path, image.format) as (descriptor, now):
                self._same(image, now)
                yield descriptor
            return
        with self.cache.opened(name) as descriptor:
            if descriptor is None:
                raise _changed(image)
            self._same(image, self._inspector.inspected(descriptor, image.path, image.format, called=image.path))
            yield descriptor

    def _same(self, image: Image, now: Image | None) -> None:
        if now != image:
            raise _changed(image)


def _changed(image: Image) -> HostError:
    message = f"the image {Path(image.path).name} changed while a disk was to be made from it"
    return HostError(ErrorClass.TRANSIENT, message)
