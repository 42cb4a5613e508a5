"""Disks: the files of an instance."""

from dataclasses import dataclass
from itertools import islice

from models.records import NOTHING, Change, Device, DeviceAdded, DeviceRemoved, InstanceIs, Json, Progress
from models.states import DeviceKind, InstanceState
from tasks.host import FileSystem, Host, Wish
from tasks.operation import Absent, NotNeeded, NotOurs, Sight, There, Work
from tasks.requests.destroy import DestroyRequest
from tasks.requests.spawn import SpawnRequest
from tasks.steps.devices import disk_targets
from tasks.steps.image import image_of

ROOT = "root"
EPHEMERAL = "ephemeral"
SWAP = "swap"
_BYTES_PER_MIB = 1024**2
_BYTES_PER_GIB = 1024**3


class RootDiskCreated:
    """The instance's root disk is published: made from the image, or empty, of the size asked for."""

    name = "RootDiskCreated"

    def plan(self, work: Work[SpawnRequest], host: Host) -> Json:
        """Where the disk will be, and how the guest will know it."""
        bus = work.request.hardware.disk_bus
        return {
            "path": _root_path(work, host),
            "format": work.request.root_disk.format,
            "target": next(iter(disk_targets(bus))),
            "bus": bus,
            "alias": f"ua-{ROOT}",
            "serial": ROOT,
            "preallocate": work.request.preallocate,
        }

    def look(self, work: Work[SpawnRequest], host: Host) -> Sight:
        """A disk that stands there without an intent of this job is somebody else's data."""
        if not work.request.has_root_disk:
            return NotNeeded()
        path = _root_path(work, host)
        if host.disks.find(work.instance, path) is None:
            return Absent()
        return There() if work.intended else _not_ours(path)

    def do(self, work: Work[SpawnRequest], host: Host) -> None:
        """Makes the disk under a name of this epoch, and publishes it by link."""
        request, path, epoch = work.request, work.intent["path"], work.epoch
        image = image_of(work, host)
        size = (request.disk_gib or 0) * _BYTES_PER_GIB
        if image is None or not request.root_disk.is_copy:
            size = size or (0 if image is None else image.virtual_size_bytes)
            host.disks.create(
                work.instance, path, size_bytes=size, backing=image, epoch=epoch, preallocate=request.preallocate
            )
            return

        def watch(done_bytes: int, total_bytes: int) -> bool:
            return work.report(Progress("copying", done_bytes, total_bytes)) is not Wish.CANCEL

        host.disks.copy(
            work.instance,
            path,
            image=image,
            size_bytes=size,
            epoch=epoch,
            preallocate=request.preallocate,
            watch=watch,
        )

    def undo(self, work: Work[SpawnRequest], host: Host) -> None:
        """Removes the disk and every unpublished half of it."""
        host.disks.remove(work.instance, work.intent["path"])

    def changes(self, work: Work[SpawnRequest]) -> tuple[Change, ...]:
        """The instance has a root disk."""
        return (DeviceAdded(Device(DeviceKind.DISK, ROOT, work.intent)),)


def _root_path(work: Work[SpawnRequest], host: Host) -> str:
    return host.disks.path_for(work.instance, ROOT, work.request.root_disk.format)


def _not_ours(path: str) -> NotOurs:
    return NotOurs(f"there is a disk at {path} that this job did not make")


class EphemeralDisksCreated:
    """Each ephemeral disk of the instance, and its swap disk, is published: empty, formatted and labelled."""

    name = "EphemeralDisksCreated"

    def plan(self, work: Work[SpawnRequest], host: Host) -> Json:
        """Where each will be, and how the guest will know it: by names that no volume can have."""
        request = work.request
        bus = request.hardware.disk_bus
        targets = islice(disk_targets(bus), 1 if request.has_root_disk else 0, None)
        return {
            "disks": [
                {
                    "name": new.name,
                    "path": host.disks.path_for(work.instance, new.name, "raw"),
                    "format": "raw",
                    "target": target,
                    "bus": bus,
                    "alias": f"ua-_{new.name}",
                    "serial": f"disk.{new.name}",
                    "preallocate": request.preallocate,
                }
                for new, target in zip(_wanted(request), targets, strict=False)
            ]
        }

    def look(self, work: Work[SpawnRequest], host: Host) -> Sight:
        """One that stands there without an intent of this job is somebody else's data."""
        wanted = _wanted(work.request)
        if not wanted:
            return NotNeeded()
        paths = [host.disks.path_for(work.instance, new.name, "raw") for new in wanted]
        there = [path for path in paths if host.disks.find(work.instance, path) is not None]
        if there and not work.intended:
            return _not_ours(there[0])
        return There() if len(there) == len(paths) else Absent()

    def do(self, work: Work[SpawnRequest], host: Host) -> None:
        """Makes those that are missing, each whole before it is published."""
        preallocate = work.request.preallocate
        for new, disk in zip(_wanted(work.request), work.intent["disks"], strict=True):
            path = disk["path"]
            if host.disks.find(work.instance, path) is not None:
                continue
            if new.file_system is None:
                host.disks.create(
                    work.instance,
                    path,
                    size_bytes=new.size_bytes,
                    backing=None,
                    epoch=work.epoch,
                    preallocate=preallocate,
                )
            else:
                host.disks.format(
                    work.instance,
                    path,
                    size_bytes=new.size_bytes,
                    file_system=new.file_system,
                    epoch=work.epoch,
                    preallocate=preallocate,
                )

    def undo(self, work: Work[SpawnRequest], host: Host) -> None:
        """Removes each, and every unpublished half."""
        for disk in work.intent["disks"]:
            host.disks.remove(work.instance, disk["path"])

    def changes(self, work: Work[SpawnRequest]) -> tuple[Change, ...]:
        """The instance has them."""
        return tuple(DeviceAdded(Device(DeviceKind.DISK, disk["name"], disk)) for disk in work.intent["disks"])


@dataclass(frozen=True)
class _New:
    """An ephemeral or swap disk that is asked for."""

    name: str  #: of its file, and its label
    size_bytes: int
    file_system: FileSystem | None


def _wanted(request: SpawnRequest) -> tuple[_New, ...]:
    """In the order in which the guest sees them."""
    named = [(f"{EPHEMERAL}{number}", each) for number, each in enumerate(request.ephemerals)]
    disks = [
        _New(
            name,
            each.size_gib * _BYTES_PER_GIB,
            None if each.guest_format is None else FileSystem(each.guest_format, name),
        )
        for name, each in named
    ]
    if request.swap_mib is not None:
        disks.append(_New(SWAP, request.swap_mib * _BYTES_PER_MIB, FileSystem(SWAP, SWAP)))
    return tuple(disks)


class FilesRemoved:
    """Nothing of the instance's files is left on this host, and the inventory lists no device of it."""

    name = "FilesRemoved"

    def plan(self, work: Work[DestroyRequest], host: Host) -> Json:
        """What is removed is named by the instance."""
        return NOTHING

    def look(self, work: Work[DestroyRequest], host: Host) -> Sight:
        """A half-removed folder is not gone."""
        return Absent() if host.disks.folder_exists(work.instance) else There()

    def do(self, work: Work[DestroyRequest], host: Host) -> None:
        """Renames the folder aside, then removes it."""
        host.disks.remove_folder(work.instance)

    def undo(self, work: Work[DestroyRequest], host: Host) -> None:
        """Never asked for: a destroy only goes forward."""

    def changes(self, work: Work[DestroyRequest]) -> tuple[Change, ...]:
        """The instance is gone, with all its devices."""
        removed = tuple(DeviceRemoved(device.kind, device.key) for device in work.devices)
        return (*removed, InstanceIs(InstanceState.DELETED))
