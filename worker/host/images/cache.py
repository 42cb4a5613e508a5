"""The image cache: a folder with one file per image, verified before it gets its name and never written again.

What is still being fetched has ``.part`` behind its name, and is locked by whoever fetches it. The folder's own
lock is held, shared, while an overlay is made on an image, and alone while images are removed: none is removed
between the look for its overlays and the making of another one.
"""

import fcntl
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.errors import os_errors
from worker.host.images.holders import holders

#: Whoever removes images looks at each overlay of the host once; whoever makes an overlay runs one qemu-img.
LOCK_DEADLINE_S: Final = 60.0
_LOCK_PAUSE_S: Final = 0.02
#: QEMU may run as another user: it passes through, and reads.
FOLDER_MODE: Final = 0o711
IMAGE_MODE: Final = 0o444
PART: Final = ".part"
_LOCK_FILE: Final = "lock"
_KEY: Final = re.compile(r"(sha256|url)-[0-9a-f]{64}")
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GIB: Final = 1024**3


@dataclass(frozen=True)
class Entry:
    """An image in the cache."""

    key: str
    path: str
    size_bytes: int
    fetched_at: float  #: seconds since 1970
    held_by: tuple[str, ...]  #: the instances with overlays on it


@dataclass(frozen=True)
class Removed:
    """What a prune took."""

    images: tuple[Entry, ...]
    parts: tuple[str, ...]  #: fetches that nobody goes on with


class ImageCache:
    """The folder ``<state>/image-cache``, of at most ``max_bytes``, and the overlays below ``instances_folder``."""

    def __init__(self, state_folder: str, instances_folder: str, max_bytes: int) -> None:
        self.folder = f"{state_folder.rstrip('/')}/image-cache"
        self._instances = instances_folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._coming: dict[str, int] = {}  # what is being fetched here, and how large it will be

    def path(self, key: str) -> str:
        """Where the image is, or will be."""
        if not _KEY.fullmatch(key):
            raise HostError(ErrorClass.PERMANENT, f"{key!r} is no key of the image cache")
        return f"{self.folder}/{key}"

    @contextmanager
    def opened(self, key: str) -> Iterator[int | None]:
        """A descriptor of the image; None when there is none."""
        path = self.path(key)
        with os_errors(f"read {path}"):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                yield None
                return
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise HostError(ErrorClass.CONFLICT, f"{path} is not a regular file")
                yield descriptor
            finally:
                os.close(descriptor)

    @contextmanager
    def part(self, key: str) -> Iterator[int | None]:
        """A descriptor of what was fetched of the image so far, for this thread alone; None once the image is there.

        Raises HostError(TRANSIENT) while another process fetches it.
        """
        path = self.path(key)
        with os_errors(f"fetch an image into {path}"):
            self._make_folder()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path + PART, flags, 0o600)
            try:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise HostError(ErrorClass.TRANSIENT, f"another process is at {path}") from error
                if not _is_at(descriptor, path + PART):
                    raise HostError(ErrorClass.TRANSIENT, f"another process was at {path}")
                if os.path.lexists(path):
                    Path(path + PART).unlink()
                    yield None
                else:
                    yield descriptor
            finally:
                os.close(descriptor)

    def publish(self, key: str, descriptor: int) -> None:
        """Give the part, which is whole and locked by its caller, the image's name."""
        path = self.path(key)
        with os_errors(f"publish the image {path}"):
            os.fchmod(descriptor, IMAGE_MODE)
            os.fsync(descriptor)
            Path(path + PART).rename(path)
            self._sync()

    def discard(self, key: str) -> None:
        """Remove the part, which its caller has locked."""
        with os_errors(f"remove what was fetched of {key}"), suppress(FileNotFoundError):
            Path(self.path(key) + PART).unlink()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within it no image is removed."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def room_for(self, key: str, size_bytes: int) -> Iterator[None]:
        """The image, of that size in all, fits in the cache; what no overlay needs is removed for it, oldest first.

        Raises HostError(RESOURCE) when that is not enough.
        """
        with self._lock:
            self._coming[key] = size_bytes
        try:
            if self._used() > self._max_bytes:
                self._make_room()
            yield
        finally:
            with self._lock:
                self._coming.pop(key, None)

    def entries(self) -> tuple[Entry, ...]:
        """The images, oldest first, each with who needs it."""
        needed = holders(self._instances)
        found = [
            Entry(
                name,
                path := f"{self.folder}/{name}",
                size,
                fetched_at,
                tuple(sorted(needed.get(os.path.realpath(path), ()))),
            )
            for name, (size, fetched_at) in self._files().items()
            if _KEY.fullmatch(name)
        ]
        return tuple(sorted(found, key=lambda entry: (entry.fetched_at, entry.key)))

    def prune(self, *, dry_run: bool = False) -> Removed:
        """Remove every image that no overlay needs, and what was fetched by halves and is nobody's now."""
        if not Path(self.folder).is_dir():
            return Removed((), ())
        with self._locked(fcntl.LOCK_EX), os_errors(f"prune {self.folder}"):
            unneeded = tuple(entry for entry in self.entries() if not entry.held_by)
            parts = self._abandoned(remove=not dry_run)
            if not dry_run:
                for entry in unneeded:
                    Path(entry.path).unlink()
                self._sync()
        return Removed(unneeded, parts)

    def _make_room(self) -> None:
        with self._locked(fcntl.LOCK_EX), os_errors(f"make room in {self.folder}"):
            self._abandoned(remove=True)
            entries = self.entries()
            for entry in entries:
                if self._used() <= self._max_bytes:
                    break
                if not entry.held_by:
                    Path(entry.path).unlink()
            self._sync()
            if (used := self._used()) > self._max_bytes:
                held = sum(1 for entry in entries if entry.held_by)
                raise HostError(
                    ErrorClass.RESOURCE,
                    f"the image cache would have {-(-used // _GIB)} GiB, and HOSTLER_IMAGE_CACHE_MAX_GIB permits "
                    f"{self._max_bytes // _GIB}: guests need {held} of its images, and others are being fetched",
                )

    def _used(self) -> int:
        """The bytes of the images and of what is being fetched, as large as it will be."""
        with self._lock:
            coming = dict(self._coming)
        files = {name.removesuffix(PART): size for name, (size, _) in self._files().items()}
        return sum((files | coming).values())

    def _abandoned(self, *, remove: bool) -> tuple[str, ...]:
        """The parts that nobody has locked."""
        found = []
        for name in self._files():
            if not name.endswith(PART):
                continue
            descriptor = os.open(f"{self.folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if remove:
                    Path(f"{self.folder}/{name}").unlink()
                found.append(name)
            except (BlockingIOError, FileNotFoundError):
                continue  # somebody is at it
            finally:
                os.close(descriptor)
        return tuple(found)

    def _files(self) -> dict[str, tuple[int, float]]:
        found = {}
        with os_errors(f"look into {self.folder}"), suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if _KEY.fullmatch(entry.name.removesuffix(PART)) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        found[entry.name] = (status.st_size, status.st_mtime)
        return found

    def _make_folder(self) -> None:
        if not Path(self.folder).is_dir():
            Path(self.folder).mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            Path(self.folder).chmod(FOLDER_MODE)  # the umask may have taken what QEMU's user needs

    def _sync(self) -> None:
        descriptor = os.open(self.folder, _OPEN_FOLDER)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Hold the folder's lock."""
        with os_errors(f"lock {self.folder}"):
            self._make_folder()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(f"{self.folder}/{_LOCK_FILE}", flags, 0o600)
        try:
            end = time.monotonic() + LOCK_DEADLINE_S
            while not _flocked(descriptor, how):
                if time.monotonic() > end:
                    message = f"{self.folder} has been locked for {LOCK_DEADLINE_S:g} s"
                    raise HostError(ErrorClass.TRANSIENT, message)
                time.sleep(_LOCK_PAUSE_S)
            yield
        finally:
            os.close(descriptor)


def _flocked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: str) -> bool:
    """Whether the open file still has that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
