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


#: Told of a fetch's bytes, done and in all, about once a second; False ends it. What it raises leaves the fetch.
FetchWatch = Callable[[int, int], bool]


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

    def create(self, instance: UUID, path: str, *, size_bytes: int, backing: Image | None, epoch: int) -> None:
        """Make a qcow2 disk and publish it by rename; ``epoch`` marks the file until then.

        With ``backing`` it is an overlay of at least that image's virtual size. A file already at ``path`` is
        a HostError(CONFLICT); it is never written.
        """
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
