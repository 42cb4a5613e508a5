"""Files: the images that guests are made from, and the disks that they write."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True)
class Image:
    """A file that a guest is made from, as inspected (never as declared)."""

    path: str  #: with links resolved
    format: str
    virtual_size_bytes: int


@dataclass(frozen=True)
class ImageSource:
    """Where an image is fetched from, and what it must then be."""

    url: str  #: file, http or https
    format: str
    sha256: str | None = None  #: in lower-case hexadecimal


#: Told of the bytes of a fetch or a copy, done and in all, about once a second; False ends it, and so does what it
#: raises, which leaves the call.
FetchWatch = Callable[[int, int], bool]


def unwatched(_done_bytes: int, _total_bytes: int) -> bool:
    """Nobody watches."""
    return True


@dataclass(frozen=True)
class FileSystem:
    """What a new disk is formatted with."""

    kind: str  #: ``ext3``, ``ext4``, ``vfat`` or ``swap``
    label: str


@dataclass(frozen=True)
class Disk:
    """A published disk file of an instance."""

    path: str
    format: str
    virtual_size_bytes: int
    backing_path: str | None


class Images(Protocol):
    """Image files on this host."""

    def inspect(self, path: str, declared_format: str) -> Image:
        """The image at ``path``, which must lie below an image root and be of the declared format.

        Raises HostError(PERMANENT) with one sentence naming the path when it is missing, outside the roots,
        of another format, or refers to another file.
        """
        ...

    def require_file(self, path: str) -> None:
        """Raise HostError(PERMANENT) unless ``path`` is a readable file below an image root."""
        ...

    def identify(self, source: ImageSource) -> str:
        """The key that the image has in this host's cache: of its SHA-256, or of its URL and what tells a change there.

        Only without a SHA-256 is the source asked. Raises HostError(PERMANENT) when the URL is not permitted here.
        """
        ...

    def cached(self, key: str, declared_format: str) -> Image | None:
        """The image that the cache has under the key, inspected; None when it has none.

        Raises HostError(PERMANENT) when it is not of the declared format, or not fit to be used.
        """
        ...

    def fetch(self, source: ImageSource, key: str, watch: FetchWatch) -> None:
        """Have the image in the cache, under the key: verified, inspected, and then never written again.

        Many may ask for one key at once: it is fetched once. HostError(PERMANENT) when the source has it not, gives
        something else, too much, or takes too long; HostError(RESOURCE) when there is no room for it;
        HostError(TRANSIENT) when ``watch`` ended it, or the source does not answer. With a SHA-256 a later fetch
        goes on where this one ended.
        """
        ...


class Disks(Protocol):
    """The files of instances on this host: each instance has one folder."""

    def path_for(self, instance: UUID, name: str, disk_format: str) -> str:
        """Where the disk ``name`` of the instance is published; nothing is made."""
        ...

    def find(self, instance: UUID, path: str) -> Disk | None:
        """The published disk, or None; an unpublished half is not a disk."""
        ...

    def create(  # noqa: PLR0913  # values of one disk, each by name
        self,
        instance: UUID,
        path: str,
        *,
        size_bytes: int,
        backing: Image | None,
        epoch: int,
        preallocate: bool = False,
    ) -> None:
        """Make a disk, qcow2 or raw as its path says, and publish it whole; ``epoch`` marks the file until then.

        With ``backing``, which no raw disk can have, it is an overlay of at least that image's virtual size. With
        ``preallocate`` the space for all of it is allocated; HostError(RESOURCE) when there is less. A file already
        at ``path`` is a HostError(CONFLICT); it is never written.
        """
        ...

    def copy(  # noqa: PLR0913  # values of one disk, each by name
        self,
        instance: UUID,
        path: str,
        *,
        image: Image,
        size_bytes: int,
        epoch: int,
        preallocate: bool = False,
        watch: FetchWatch = unwatched,
    ) -> None:
        """Make a disk as `create` does that has the image's content in itself, and at least its virtual size.

        HostError(TRANSIENT) when ``watch`` ended it.
        """
        ...

    def format(  # noqa: PLR0913  # values of one disk, each by name
        self,
        instance: UUID,
        path: str,
        *,
        size_bytes: int,
        file_system: FileSystem,
        epoch: int,
        preallocate: bool = False,
    ) -> None:
        """Make an empty raw disk as `create` does that is formatted before it is published."""
        ...

    def cache_mode(self) -> str:
        """How QEMU is to open disks here, as libvirt calls it: ``none`` where O_DIRECT works, else ``writeback``."""
        ...

    def remove(self, instance: UUID, path: str) -> None:
        """Remove the disk and every unpublished half of it; absent is no error."""
        ...

    def end_children(self, instance: UUID) -> None:
        """End every child process that makes a file of the instance, whoever started it; none is no error.

        HostError(TRANSIENT) when one does not end.
        """
        ...

    def folder_exists(self, instance: UUID) -> bool:
        """Whether anything of the instance's files is left, a half-removed folder included."""
        ...

    def remove_folder(self, instance: UUID) -> None:
        """Remove all files of the instance: renamed aside first, so that a crash leaves what a replay finishes."""
        ...
