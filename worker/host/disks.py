"""Disk files: made as halves, and published once they are whole; found, and removed with all that is left of them."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from models.states import ErrorClass
from tasks.host import Disk, FetchWatch, FileSystem, HostError, Image, unwatched
from worker.host import children, direct_io, file_systems, halves, qemu_img
from worker.host.errors import os_errors
from worker.host.folders import FOLDER_MODE, Folders
from worker.host.halves import Half
from worker.host.headers import qcow2_header
from worker.host.image_locks import refuse_held
from worker.host.space import Space

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FILE: Final = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]{0,62})\.(?P<format>qcow2|raw)")

#: What a new qcow2 file takes until a guest writes to it: its tables (measured: 196 to 260 KiB up to 1 TiB).
NEW_DISK_BYTES: Final = 1024**2
#: One byte in so many of a qcow2 file that is full is of its tables: 8 for an address and 2 for a count of 64 KiB.
_TABLES: Final = 4096


def _unheld(_image: Image) -> AbstractContextManager[None]:
    return nullcontext()


@contextmanager
def _opened(image: Image) -> Iterator[int]:
    with os_errors(f"read {image.path}"):
        descriptor = os.open(image.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class FileDisks:
    """The port's `Disks`, as files below the state folder."""

    def __init__(
        self,
        folders: Folders,
        *,
        qemu_img_program: str = "qemu-img",
        space: Space | None = None,
        held: Callable[[Image], AbstractContextManager[None]] = _unheld,
        opened: Callable[[Image], AbstractContextManager[int]] = _opened,
    ) -> None:
        """``held`` keeps an image as it is while a disk is made on it, ``opened`` gives a descriptor of just it."""
        self._folders = folders
        self._space = space or Space()
        self._held = held
        self._opened = opened
        self._program = qemu_img_program
        self._direct_io: dict[int, bool] = {}  # by file system

    def path_for(self, instance: UUID, name: str, disk_format: str) -> str:
        """``<state>/instances/<uuid>/<name>.<format>``; a name or format that does not fit is refused."""
        if not _NAME.fullmatch(name) or not _FILE.fullmatch(f"{name}.{disk_format}"):
            message = f"a disk cannot be named {name!r} with the format {disk_format!r}"
            raise HostError(ErrorClass.PERMANENT, message)
        return f"{self._folders.path(instance)}/{name}.{disk_format}"

    def find(self, instance: UUID, path: str) -> Disk | None:
        """The disk as its own header describes it."""
        file, disk_format = self._file(instance, path)
        with os_errors(f"look at the disk {path}"), self._folders.existing(instance) as folder:
            descriptor = None if folder is None else _open_disk(file, folder)
            if descriptor is None:
                return None
            try:
                return _described(descriptor, path, disk_format)
            finally:
                os.close(descriptor)

    def create(  # noqa: PLR0913  # as the port has it
        self,
        instance: UUID,
        path: str,
        *,
        size_bytes: int,
        backing: Image | None,
        epoch: int,
        preallocate: bool = False,
    ) -> None:
        """One qemu-img for qcow2, none for raw, which is a sparse file."""
        size = max(size_bytes, backing.virtual_size_bytes if backing else 0)
        if backing is not None and self._file(instance, path)[1] == "raw":
            raise HostError(ErrorClass.PERMANENT, f"{path} names a raw disk, which is no overlay of an image")
        space = _with_tables(size) if preallocate else NEW_DISK_BYTES
        with (
            nullcontext() if backing is None else self._held(backing),
            self._making(instance, path, size, space, epoch) as half,
        ):
            self._make_empty(half, size, backing)
            if preallocate:
                file_systems.allocate(half.path, space)

    def copy(  # noqa: PLR0913  # as the port has it
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
        """An empty disk, and one qemu-img that copies into it."""
        size = max(size_bytes, image.virtual_size_bytes)
        space = _with_tables(size if preallocate else image.virtual_size_bytes)
        with self._opened(image) as source, self._making(instance, path, size, space, epoch) as half:
            self._make_empty(half, size, None)
            written = 0

            def told(part: float) -> None:
                nonlocal written
                written, before = half.allocated_bytes(), written
                half.promise.written(max(written - before, 0))
                if not watch(int(part * image.virtual_size_bytes), image.virtual_size_bytes):
                    message = f"copying {image.path} into {path} was ended before it was done"
                    raise HostError(ErrorClass.TRANSIENT, message)

            qemu_img.copy(source, image, half.path, half.format, watch=told, program=self._program)
            if preallocate:
                file_systems.allocate(half.path, space)

    def format(  # noqa: PLR0913  # as the port has it
        self,
        instance: UUID,
        path: str,
        *,
        size_bytes: int,
        file_system: FileSystem,
        epoch: int,
        preallocate: bool = False,
    ) -> None:
        """A sparse file, and the tool that formats it."""
        if self._file(instance, path)[1] != "raw":
            raise HostError(ErrorClass.PERMANENT, f"{path} does not name a raw disk, and no other is formatted")
        space = size_bytes if preallocate else file_systems.space_of(file_system, size_bytes) + NEW_DISK_BYTES
        with self._making(instance, path, size_bytes, space, epoch) as half:
            self._make_empty(half, size_bytes, None)
            file_systems.make(half.path, file_system, size_bytes)
            if preallocate:  # only now: what formats a file may give back what it does not use
                file_systems.allocate(half.path, size_bytes)

    def publish(self, instance: UUID, path: str, content: bytes, *, epoch: int) -> None:
        """A raw disk with that content, made and refused as `create` does."""
        if self._file(instance, path)[1] != "raw":
            raise HostError(ErrorClass.PERMANENT, f"{path} does not name a raw disk")
        with self._making(instance, path, len(content), len(content), epoch) as half:
            half.make_raw(len(content), content)

    def _make_empty(self, half: Half, size_bytes: int, backing: Image | None) -> None:
        if half.format == "raw":
            half.make_raw(size_bytes)
        else:
            qemu_img.create_qcow2(half.path, size_bytes, backing, program=self._program)

    @contextmanager
    def _making(self, instance: UUID, path: str, size_bytes: int, space_bytes: int, epoch: int) -> Iterator[Half]:
        """The disk's half, to be made within.

        Then it is synced, linked to its name, which never overwrites, and the folder synced.
        """
        file, disk_format = self._file(instance, path)
        if size_bytes <= 0:
            raise HostError(ErrorClass.PERMANENT, f"the disk {path} cannot be {size_bytes} bytes large")
        name = halves.name_of(file, epoch)
        with os_errors(f"create the disk {path}"), self._folders.made(instance) as folder:
            if halves.is_there(file, folder):
                raise HostError(ErrorClass.CONFLICT, f"{path} exists already")
            # Halves of this epoch and earlier ones have no owner any more; one of a later epoch would have.
            halves.remove(self._folders.path(instance), folder, file, up_to=epoch)
            try:
                with self._space.reserved(self._folders.all, space_bytes, f"create the disk {path}") as promise:
                    yield Half(f"{self._folders.path(instance)}/{name}", name, folder, disk_format, promise)
                    halves.publish(name, file, folder)
            except (HostError, OSError):
                with suppress(OSError):  # the first error is the one to tell; a later removal takes the half
                    os.unlink(name, dir_fd=folder)
                raise

    def cache_mode(self) -> str:
        """Tried once for each file system that the folders were on."""
        with os_errors(f"try O_DIRECT in {self._folders.all}"):
            Path(self._folders.all).mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            device = Path(self._folders.all).stat().st_dev
            if device not in self._direct_io:
                self._direct_io[device] = direct_io.works_in(self._folders.all)
        return "none" if self._direct_io[device] else "writeback"

    def remove(self, instance: UUID, path: str) -> None:
        """The disk and its halves gone, and the folder with them when nothing else is in it."""
        file, _ = self._file(instance, path)
        with os_errors(f"remove the disk {path}"), self._folders.existing(instance) as folder:
            if folder is None:
                return
            halves.remove(self._folders.path(instance), folder, file, up_to=None)
            refuse_held(file, folder, path)
            with suppress(FileNotFoundError):
                os.unlink(file, dir_fd=folder)
            os.fsync(folder)
        self._folders.remove_if_empty(instance)

    def end_all_children(self) -> int:
        """End every child in the folder of any instance, where none is our own; how many there were."""
        with os_errors("end the children that an earlier worker left"):
            return children.end_all(self._folders.all)

    def epochs(self) -> dict[UUID, int]:
        """By instance, the highest epoch in the name of a file that was not published."""
        found = {}
        for instance in self._folders.instances():
            with os_errors(f"look into the folder of {instance}"), self._folders.existing(instance) as folder:
                epochs = () if folder is None else halves.epochs_in(folder)
            if epochs:
                found[instance] = max(epochs)
        return found

    def end_children(self, instance: UUID) -> None:
        """Every program of ours in the instance's folder."""
        with os_errors(f"end the children that work for {instance}"):
            children.end_all(self._folders.path(instance))

    def folder_exists(self, instance: UUID) -> bool:
        """Whether the folder, or a half-removed one, is there."""
        return self._folders.exists(instance)

    def remove_folder(self, instance: UUID) -> None:
        """The folder gone, once no child writes in it, and no QEMU has a disk of it open, any more."""
        with os_errors(f"look into the folder of {instance}"), self._folders.existing(instance) as folder:
            names = [] if folder is None else halves.names_in(folder)
            for name in filter(_FILE.fullmatch, names):
                refuse_held(name, folder, f"{self._folders.path(instance)}/{name}")
        if any(map(halves.is_one, names)):
            children.end_all(self._folders.path(instance))
        self._folders.remove(instance)

    def _file(self, instance: UUID, path: str) -> tuple[str, str]:
        """The file's name within the instance's folder, and its format; a path of anything else is refused."""
        folder, _, name = path.rpartition("/")
        match = _FILE.fullmatch(name)
        if folder != self._folders.path(instance) or match is None:
            raise HostError(ErrorClass.PERMANENT, f"{path!r} is not the path of a disk of the instance {instance}")
        return name, match["format"]


def _with_tables(size_bytes: int) -> int:
    """What a disk of that size takes once it is full, at most."""
    return size_bytes + size_bytes // _TABLES + NEW_DISK_BYTES


def _open_disk(file: str, folder: int) -> int | None:
    try:
        return os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None


def _described(descriptor: int, path: str, disk_format: str) -> Disk:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise HostError(ErrorClass.CONFLICT, f"{path} is not a regular file")
    if disk_format == "raw":
        return Disk(path, "raw", status.st_size, None)
    header = qcow2_header(descriptor)
    if header is None:
        raise HostError(ErrorClass.CONFLICT, f"{path} is not a qcow2 file")
    return Disk(path, "qcow2", header.virtual_size_bytes, header.backing_path)
