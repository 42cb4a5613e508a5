"""The config drives of the fake host, and the secrets that they may hold."""

from models.states import ErrorClass
from tasks.host import ConfigDrive, Disk, HostError
from tests.contract.fake_files import FakeDisks
from tests.contract.faults import Room, Script, port

SIZE_BYTES = 64 * 1024


class FakeConfigDrives(Room):
    """The port's `ConfigDrives`; ``written`` are those that were, by their path."""

    def __init__(self, script: Script, disks: FakeDisks) -> None:
        super().__init__(script)
        self._disks = disks
        self.secrets: set[str] = set()
        self.written: dict[str, ConfigDrive] = {}

    @port("config_drives.write")
    def write(self, drive: ConfigDrive, path: str, *, epoch: int) -> None:
        """Note it."""
        if path != self._disks.path_for(drive.instance, path.rpartition("/")[2].partition(".")[0], "raw"):
            raise HostError(ErrorClass.PERMANENT, f"{path} does not name a raw disk")
        for text in (drive.user_data, drive.vendor_data):
            if text is not None and text.secret is not None and text.secret not in self.secrets:
                raise HostError(ErrorClass.PERMANENT, f"the secret {text.secret!r} cannot be used")
        self._disks.make("config_drives.write", drive.instance, Disk(path, "raw", SIZE_BYTES, None), epoch)
        self.written[path] = drive
