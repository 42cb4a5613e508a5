"""Config drives: what the guest's cloud-init is told."""

import re
from base64 import b64decode
from typing import Final

from models.records import Change, Device, DeviceAdded, Json
from models.states import DeviceKind
from tasks.host import ConfigDrive, Host, Text
from tasks.host.config_drives import Layout
from tasks.operation import Absent, NotNeeded, NotOurs, Sight, There, Work
from tasks.requests.config_drive import SecretName
from tasks.requests.spawn import SpawnRequest

#: Its alias begins with an underscore, and its serial has a dot, as no volume's does.
CONFIG: Final = "config"
#: The last letter, as in nova: whichever disks and volumes come and go, none of their names changes.
_TARGET: Final = "vdz"
#: A label of a host name has at most so many characters (RFC 1035).
_LABEL_MAX_LENGTH: Final = 63


class ConfigDriveWritten:
    """The instance has a disk that its cloud-init reads, of the layout, and with the contents, that were asked for."""

    name = "ConfigDriveWritten"

    def plan(self, work: Work[SpawnRequest], host: Host) -> Json:
        """Where the disk will be. It is writable: libvirt copies no read-only disk when the guest moves."""
        return {
            "path": host.disks.path_for(work.instance, CONFIG, "raw"),
            "format": "raw",
            "target": _TARGET,
            "bus": "virtio",
            "alias": f"ua-_{CONFIG}",
            "serial": f"disk.{CONFIG}",
        }

    def look(self, work: Work[SpawnRequest], host: Host) -> Sight:
        """A disk that stands there without an intent of this job is somebody else's data."""
        if work.request.layout is None:
            return NotNeeded()
        path = host.disks.path_for(work.instance, CONFIG, "raw")
        if host.disks.find(work.instance, path) is None:
            return Absent()
        return There() if work.intended else NotOurs(f"there is a disk at {path} that this job did not make")

    def do(self, work: Work[SpawnRequest], host: Host) -> None:
        """Writes it whole, and publishes it by rename."""
        request = work.request
        drive = ConfigDrive(
            instance=work.instance,
            layout=Layout(request.layout or ""),
            name=request.name,
            hostname=request.hostname or _hostname(request.name, str(work.instance)),
            ssh_keys=tuple(request.ssh_keys),
            metadata=request.metadata,
            user_data=_user_data(request),
            vendor_data=_text(request.vendor_data),
            network=request.network_config or request.network_data,
        )
        host.config_drives.write(drive, work.intent["path"], epoch=work.epoch)

    def undo(self, work: Work[SpawnRequest], host: Host) -> None:
        """Removes the disk and every unpublished half of it."""
        host.disks.remove(work.instance, work.intent["path"])

    def changes(self, work: Work[SpawnRequest]) -> tuple[Change, ...]:
        """The instance has a config drive."""
        return (DeviceAdded(Device(DeviceKind.DISK, CONFIG, work.intent)),)


def _user_data(request: SpawnRequest) -> Text | None:
    if request.user_data_base64 is not None:
        return Text(b64decode(request.user_data_base64, validate=True))
    return _text(request.user_data)


def _text(told: str | SecretName | None) -> Text | None:
    if told is None:
        return None
    return Text(told.encode()) if isinstance(told, str) else Text(secret=told.secret)


def _hostname(name: str, instance: str) -> str:
    """The name in the characters that a host name may have; the instance's id where nothing is left of it."""
    label = re.sub(r"[^a-z0-9-]", "", re.sub(r"[\s_.]+", "-", name.lower()))
    return label[:_LABEL_MAX_LENGTH].strip("-") or f"server-{instance}"
