"""Disks: the files of an instance."""

from models.records import NOTHING, Change, Device, DeviceAdded, DeviceRemoved, InstanceIs, Json
from models.states import DeviceKind, InstanceState
from tasks.host import Host
from tasks.operation import Absent, NotNeeded, NotOurs, Sight, There, Work
from tasks.requests.destroy import DestroyRequest
from tasks.requests.spawn import SpawnRequest
from tasks.steps.image import image_of

ROOT = "root"
_BYTES_PER_GIB = 1024**3


class RootDiskCreated:
    """The instance's root disk is published: an overlay of the image, or empty, of the size asked for."""

    name = "RootDiskCreated"

    def plan(self, work: Work[SpawnRequest], host: Host) -> Json:
        """Where the disk will be, and how the guest will know it."""
        return {
            "path": host.disks.path_for(work.instance, ROOT, "qcow2"),
            "format": "qcow2",
            "target": "vda",
            "alias": f"ua-{ROOT}",
            "serial": ROOT,
        }

    def look(self, work: Work[SpawnRequest], host: Host) -> Sight:
        """A disk that stands there without an intent of this job is somebody else's data."""
        if not work.request.has_root_disk:
            return NotNeeded()
        path = host.disks.path_for(work.instance, ROOT, "qcow2")
        if host.disks.find(work.instance, path) is None:
            return Absent()
        return There() if work.intended else NotOurs(f"there is a disk at {path} that this job did not make")

    def do(self, work: Work[SpawnRequest], host: Host) -> None:
        """Makes the disk under a name of this epoch, and publishes it by rename."""
        request = work.request
        image = image_of(work, host)
        size = (request.disk_gib or 0) * _BYTES_PER_GIB
        if image is not None:
            size = size or image.virtual_size_bytes
        host.disks.create(work.instance, work.intent["path"], size_bytes=size, backing=image, epoch=work.epoch)

    def undo(self, work: Work[SpawnRequest], host: Host) -> None:
        """Removes the disk and every unpublished half of it."""
        host.disks.remove(work.instance, work.intent["path"])

    def changes(self, work: Work[SpawnRequest]) -> tuple[Change, ...]:
        """The instance has a root disk."""
        return (DeviceAdded(Device(DeviceKind.DISK, ROOT, work.intent)),)


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
