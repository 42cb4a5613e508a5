"""Disk files: made under a name with the job's epoch, whole and synced before they are published under their own."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Final
from uuid import UUID

from models.states import ErrorClass
from tasks.host import Disk, HostError, Image
from worker.host import qemu_img
from worker.host.errors import os_errors
from worker.host.folders import Folders
from worker.host.headers import qcow2_header
from worker.host.space import Space

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FILE: Final = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]{0,62})\.(?P<format>qcow2|raw)")
_HALF: Final = re.compile(r"(?P<file>.+)\.(?P<epoch>[0-9]+)\.part")


#: What a new qcow2 file takes until a guest writes to it: its tables (measured: 196 to 260 KiB up to 1 TiB).
NEW_DISK_BYTES: Final = 1024**2


def _unheld(_image: Image) -> AbstractContextManager[None]:
    return nullcontext()


class FileDisks:
    """The port's `Disks`, as files below the state folder."""

    def __init__(
        self,
        folders: Folders,
        *,
        qemu_img_program: str = "qemu-img",
        space: Space | None = None,
        held: Callable[[Image], AbstractContextManager[None]] = _unheld,
    ) -> None:
        """``held`` keeps an image as it is while a disk is made from it."""
        self._folders = folders
        self._space = space or Space()
        self._held = held
        self._program = qemu_img_program

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

    def create(self, instance: UUID, path: str, *, size_bytes: int, backing: Image | None, epoch: int) -> None:
        """One qemu-img; then the file is synced, linked to its name, which never overwrites, and the folder synced."""
        file, disk_format = self._file(instance, path)
        if disk_format != "qcow2":
            raise HostError(ErrorClass.PERMANENT, f"{path} does not name a qcow2 disk")
        size = max(size_bytes, backing.virtual_size_bytes if backing else 0)
        if size <= 0:
            raise HostError(ErrorClass.PERMANENT, f"the disk {path} cannot be {size} bytes large")
        half = f"{file}.{epoch}.part"
        with os_errors(f"create the disk {path}"), self._folders.made(instance) as folder:
            if _is_there(file, folder):
                raise HostError(ErrorClass.CONFLICT, f"{path} exists already")
            # Halves of this epoch and earlier ones have no owner any more; one of a later epoch would have.
            self._remove_halves(instance, folder, file, up_to=epoch)
            try:
                with self._base_and_space(backing, path):
                    qemu_img.create_qcow2(
                        f"{self._folders.path(instance)}/{half}", size, backing, program=self._program
                    )
                    _publish(half, file, folder)
            except (HostError, OSError):
                with suppress(OSError):  # the first error is the one to tell; a later removal takes the half
                    os.unlink(half, dir_fd=folder)
                raise

    def remove(self, instance: UUID, path: str) -> None:
        """The disk and its halves gone, and the folder with them when nothing else is in it."""
        file, _ = self._file(instance, path)
        with os_errors(f"remove the disk {path}"), self._folders.existing(instance) as folder:
            if folder is None:
                return
            self._remove_halves(instance, folder, file, up_to=None)
            with suppress(FileNotFoundError):
                os.unlink(file, dir_fd=folder)
            os.fsync(folder)
        self._folders.remove_if_empty(instance)

    def end_children(self, instance: UUID) -> None:
        """Every qemu-img in the instance's folder."""
        with os_errors(f"end the children that work for {instance}"):
            qemu_img.end_children(self._folders.path(instance))

    def folder_exists(self, instance: UUID) -> bool:
        """Whether the folder, or a half-removed one, is there."""
        return self._folders.exists(instance)

    def remove_folder(self, instance: UUID) -> None:
        """The folder gone, once no child writes in it any more."""
        with os_errors(f"look into the folder of {instance}"), self._folders.existing(instance) as folder:
            halves = folder is not None and any(map(_HALF.fullmatch, _names(folder)))
        if halves:
            qemu_img.end_children(self._folders.path(instance))
        self._folders.remove(instance)

    @contextmanager
    def _base_and_space(self, backing: Image | None, path: str) -> Iterator[None]:
        with (
            nullcontext() if backing is None else self._held(backing),
            self._space.reserved(self._folders.all, NEW_DISK_BYTES, f"create the disk {path}"),
        ):
            yield

    def _file(self, instance: UUID, path: str) -> tuple[str, str]:
        """The file's name within the instance's folder, and its format; a path of anything else is refused."""
        folder, _, name = path.rpartition("/")
        match = _FILE.fullmatch(name)
        if folder != self._folders.path(instance) or match is None:
            raise HostError(ErrorClass.PERMANENT, f"{path!r} is not the path of a disk of the instance {instance}")
        return name, match["format"]

    def _remove_halves(self, instance: UUID, folder: int, file: str, *, up_to: int | None) -> None:
        halves = [
            match.string
            for match in map(_HALF.fullmatch, _names(folder))
            if match and match["file"] == file and (up_to is None or int(match["epoch"]) <= up_to)
        ]
        if not halves:
            return
        qemu_img.end_children(self._folders.path(instance))
        for half in halves:
            with suppress(FileNotFoundError):
                os.unlink(half, dir_fd=folder)


def _publish(half: str, file: str, folder: int) -> None:
    descriptor = os.open(half, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.link(half, file, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(half, dir_fd=folder)
    os.fsync(folder)


def _names(folder: int) -> list[str]:
    return os.listdir(folder)


def _is_there(file: str, folder: int) -> bool:
    try:
        os.stat(file, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


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
