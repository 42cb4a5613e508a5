"""Fetching: one download per image, however many ask for it, into a part that a later one goes on with."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from models.states import ErrorClass
from tasks.host import FetchWatch, HostError, ImageSource
from worker.host.errors import os_errors
from worker.host.images.addresses import without_query
from worker.host.images.cache import ImageCache
from worker.host.images.inspecting import Inspector
from worker.host.images.sources import CannotGoOnError, Opened, Sources, key_of
from worker.host.space import Space

CHUNK_BYTES: Final = 1024**2
#: How often a watch is told, in seconds.
TOLD_EVERY_S: Final = 1.0
_GIB: Final = 1024**3


@dataclass
class _UnderWay:
    """How far the fetch of one image has come."""

    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True)
class Limits:
    """What a fetch may take."""

    max_bytes: int
    timeout_s: float


class _Watched:
    """A fetch's watch, told about once a second; and its deadline."""

    def __init__(self, url: str, watch: FetchWatch, limits: Limits, progress: _UnderWay) -> None:
        self._url = url
        self._watch = watch
        self._timeout_s = limits.timeout_s
        self._end = time.monotonic() + limits.timeout_s
        self._next = 0.0
        self.progress = progress

    def tell(self) -> None:
        """Raise HostError when the fetch is to end."""
        now = time.monotonic()
        if now > self._end:
            message = f"fetching {self._url} took longer than {self._timeout_s:g} s (HOSTLER_IMAGE_TIMEOUT_S)"
            raise HostError(ErrorClass.PERMANENT, message)
        if now >= self._next:
            self._next = now + TOLD_EVERY_S
            if not self._watch(self.progress.done_bytes, self.progress.total_bytes):
                raise HostError(ErrorClass.TRANSIENT, f"fetching {self._url} was ended before it was done")


class Fetcher:
    """Brings images from their sources into the cache."""

    def __init__(self, cache: ImageCache, sources: Sources, inspector: Inspector, space: Space, limits: Limits) -> None:
        self._cache = cache
        self._sources = sources
        self._inspector = inspector
        self._space = space
        self._limits = limits
        self._changed = threading.Condition()
        self._under_way: dict[str, _UnderWay] = {}

    def fetch(self, source: ImageSource, key: str, watch: FetchWatch) -> None:
        """See `tasks.host.Images.fetch`."""
        watched = _Watched(without_query(source.url), watch, self._limits, _UnderWay())
        with self._turn(key, watched), self._cache.part(key) as part:
            if part is None:
                return  # somebody else was faster
            try:
                went_on = self._fill(source, key, part, watched)
                self._verify(source, key, part, watched, went_on=went_on)
            except CannotGoOnError as error:
                self._cache.discard(key)
                message = f"what was fetched of {without_query(source.url)} is not of it, and was removed"
                raise HostError(ErrorClass.TRANSIENT, message) from error
            except HostError as error:
                if error.error_class is ErrorClass.PERMANENT:
                    self._cache.discard(key)
                raise
            self._cache.publish(key, part)

    @contextmanager
    def _turn(self, key: str, watched: _Watched) -> Iterator[None]:
        """Be the one who fetches the image; who waits for that tells of the other's progress."""
        with self._changed:
            while (other := self._under_way.get(key)) is not None:
                watched.progress = other
                self._changed.release()
                try:
                    watched.tell()  # it may write to the journal: nobody else waits for that
                finally:
                    self._changed.acquire()
                if key in self._under_way:
                    self._changed.wait(TOLD_EVERY_S)
            watched.progress = self._under_way[key] = _UnderWay()
        try:
            yield
        finally:
            with self._changed:
                del self._under_way[key]
                self._changed.notify_all()

    def _fill(self, source: ImageSource, key: str, part: int, watched: _Watched) -> bool:
        """Fetch what the part lacks; whether an earlier fetch had begun it."""
        url, have = without_query(source.url), os.fstat(part).st_size
        if source.sha256 is None and have:
            have = 0  # after a power cut it may hold anything, and nothing would tell
        with self._sources.opened(source, have) as opened:
            if source.sha256 is None and key_of(source.url, opened.validator) != key:
                raise HostError(ErrorClass.PERMANENT, f"{url} has changed since the job began")
            if opened.total > self._limits.max_bytes:
                raise HostError(
                    ErrorClass.PERMANENT,
                    f"{url} has {-(-opened.total // _GIB)} GiB, and HOSTLER_IMAGE_MAX_GIB permits "
                    f"{self._limits.max_bytes // _GIB}",
                )
            os.ftruncate(part, opened.offset)
            os.lseek(part, opened.offset, os.SEEK_SET)
            watched.progress.done_bytes, watched.progress.total_bytes = opened.offset, opened.total
            with self._cache.room_for(key, opened.total):
                self._write(url, part, opened, watched)
            return opened.offset > 0

    def _write(self, url: str, part: int, opened: Opened, watched: _Watched) -> None:
        missing = opened.total - opened.offset
        with self._space.reserved(self._cache.folder, missing, f"fetch {url}") as promise:
            watched.tell()
            while missing:
                chunk = opened.read(min(CHUNK_BYTES, missing))
                if not chunk:
                    raise HostError(ErrorClass.TRANSIENT, f"{url} ended {missing} bytes too early")
                with os_errors(f"write what {url} gives"):
                    _write_all(part, chunk)
                missing -= len(chunk)
                promise.written(len(chunk))
                watched.progress.done_bytes += len(chunk)
                watched.tell()

    def _verify(self, source: ImageSource, key: str, part: int, watched: _Watched, *, went_on: bool) -> None:
        """The part is what was asked for, and fit to be used."""
        url = without_query(source.url)
        found = None if source.sha256 is None else _sha256(part, watched)
        if found != source.sha256:
            self._cache.discard(key)
            # What an earlier fetch left may have met a power cut: from the beginning it may come out right.
            error_class = ErrorClass.TRANSIENT if went_on else ErrorClass.PERMANENT
            message = f"what {url} gives has the SHA-256 {found}, and {source.sha256} was asked for"
            raise HostError(error_class, message)
        self._inspector.inspected(part, self._cache.path(key), source.format, called=url)


def _sha256(part: int, watched: _Watched) -> str:
    digest = hashlib.sha256()
    os.lseek(part, 0, os.SEEK_SET)
    with os_errors("read what was fetched"):
        while chunk := os.read(part, CHUNK_BYTES):
            digest.update(chunk)
            watched.tell()
    return digest.hexdigest()


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
