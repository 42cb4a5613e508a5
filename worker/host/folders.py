"""The folder of each instance, ``<state>/instances/<uuid>/``, and what every instance has in it.

All work below goes through descriptors of the folders, opened without following links: a path is only ever printed,
or given to QEMU.
"""

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.errors import os_errors

CONSOLE_LOG = "console.log"
#: A folder on its way out has this after its name: whatever is in it belongs to nobody.
REMOVING = ".removing"
#: QEMU may run as another user: it passes through, and lists nothing.
FOLDER_MODE = 0o711

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folders:
    """The instances' folders below one state folder, which must be absolute."""

    def __init__(self, state_folder: str) -> None:
        if not Path(state_folder).is_absolute():
            raise HostError(ErrorClass.PERMANENT, f"the state folder {state_folder!r} is not an absolute path")
        self._instances = f"{state_folder.rstrip('/')}/instances"

    @property
    def all(self) -> str:
        """The folder that they are in, made or not."""
        return self._instances

    def path(self, instance: UUID) -> str:
        """The instance's folder, made or not."""
        return f"{self._instances}/{instance}"

    def console_log(self, instance: UUID) -> str:
        """Where the guest's console is written."""
        return f"{self.path(instance)}/{CONSOLE_LOG}"

    def make_console_log(self, instance: UUID) -> None:
        """An empty console log that only its owner reads; one that is there stays as it is."""
        with os_errors(f"make the console log of {instance}"), self.made(instance) as folder:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(CONSOLE_LOG, flags, 0o600, dir_fd=folder))

    def remove_console_log(self, instance: UUID) -> None:
        """The console log gone, and the folder with it when nothing else is in it."""
        with os_errors(f"remove the console log of {instance}"), self.existing(instance) as folder:
            if folder is None:
                return
            for name in os.listdir(folder):  # noqa: PTH208  # of a descriptor
                if name.startswith(CONSOLE_LOG):  # the older ones too
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
        self.remove_if_empty(instance)

    @contextmanager
    def existing(self, instance: UUID) -> Iterator[int | None]:
        """A descriptor of the instance's folder, or None."""
        with self._all() as instances:
            folder = None if instances is None else _opened(str(instance), instances)
            try:
                yield folder
            finally:
                if folder is not None:
                    os.close(folder)

    @contextmanager
    def made(self, instance: UUID) -> Iterator[int]:
        """A descriptor of the instance's folder, which is made if need be, and then stays after a power cut."""
        Path(self._instances).mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        with self._all() as instances:
            if instances is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._instances)
            try:
                os.mkdir(str(instance), FOLDER_MODE, dir_fd=instances)
            except FileExistsError:
                pass
            else:
                # The process's umask may have taken what QEMU's user needs.
                os.chmod(str(instance), FOLDER_MODE, dir_fd=instances)
                os.fsync(instances)
            folder = os.open(str(instance), _OPEN_FOLDER, dir_fd=instances)
            try:
                yield folder
            finally:
                os.close(folder)

    def instances(self) -> tuple[UUID, ...]:
        """All that have a folder here; other things are passed over, and so is what is on its way out."""
        with os_errors("list the folders of instances"), self._all() as instances:
            names = () if instances is None else os.listdir(instances)  # noqa: PTH208  # of a descriptor
        return tuple(UUID(name) for name in names if _UUID.fullmatch(name))

    def exists(self, instance: UUID) -> bool:
        """Whether the folder is there, or a half-removed one."""
        with os_errors(f"look for the folder of {instance}"), self._all() as instances:
            return instances is not None and any(
                _mode(name, instances) is not None for name in (str(instance), f"{instance}{REMOVING}")
            )

    def remove(self, instance: UUID) -> None:
        """The folder gone with all in it: renamed first, so that half of it is never taken for a whole."""
        name, aside = str(instance), f"{instance}{REMOVING}"
        with os_errors(f"remove the folder of {instance}"), self._all() as instances:
            if instances is None:
                return
            _remove_tree(aside, instances)
            if _mode(name, instances) is None:
                return
            os.close(os.open(name, _OPEN_FOLDER, dir_fd=instances))  # refuses a link, or a file, in its place
            os.rename(name, aside, src_dir_fd=instances, dst_dir_fd=instances)
            os.fsync(instances)
            _remove_tree(aside, instances)

    def remove_if_empty(self, instance: UUID) -> None:
        """The folder gone if nothing is in it."""
        with os_errors(f"remove the folder of {instance}"), self._all() as instances:
            if instances is None:
                return
            try:
                os.rmdir(str(instance), dir_fd=instances)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
                    raise
            else:
                os.fsync(instances)

    @contextmanager
    def _all(self) -> Iterator[int | None]:
        try:
            instances = os.open(self._instances, _OPEN_FOLDER)
        except FileNotFoundError:
            yield None
            return
        try:
            yield instances
        finally:
            os.close(instances)


def _opened(name: str, parent: int) -> int | None:
    try:
        return os.open(name, _OPEN_FOLDER, dir_fd=parent)
    except FileNotFoundError:
        return None


def _mode(name: str, parent: int) -> int | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def _remove_tree(name: str, parent: int) -> None:
    mode = _mode(name, parent)
    if mode is None:
        return
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    shutil.rmtree(name, dir_fd=parent)
    os.fsync(parent)
