"""Config drives as ISO 9660 files, made in memory: what is in them is written down nowhere else."""

import io
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from tasks.host import ConfigDrive, Text
from worker.host.cloud_init import LABELS, files
from worker.host.disks import FileDisks
from worker.host.secret_files import SecretFiles

#: A drive is a multiple of this, in bytes: of the blocks of any disk that it may lie on.
_WHOLE_BYTES: Final = 1024**2
_JOLIET_LEVEL: Final = 3
_INTERCHANGE_LEVEL: Final = 3
_ROCK_RIDGE: Final = "1.09"


class HostConfigDrives:
    """The port's `ConfigDrives`."""

    def __init__(self, disks: FileDisks, secrets: SecretFiles) -> None:
        self._disks = disks
        self._secrets = secrets

    def write(self, drive: ConfigDrive, path: str, *, epoch: int) -> None:
        """Secrets are read last, and kept no longer than this takes."""
        found = files(drive, self._bytes(drive.user_data), self._bytes(drive.vendor_data))
        self._disks.publish(drive.instance, path, iso9660(LABELS[drive.layout], found), epoch=epoch)

    def _bytes(self, text: Text | None) -> bytes | None:
        if text is None:
            return None
        return text.content if text.secret is None else self._secrets.read(text.secret)


def iso9660(label: str, contents: Mapping[str, bytes]) -> bytes:
    """A file system of that label with the files: whole names for Linux (Rock Ridge) and for Windows (Joliet)."""
    from pycdlib.pycdlib import PyCdlib  # noqa: PLC0415  # 80 ms that no other job waits for

    image = PyCdlib()
    image.new(
        interchange_level=_INTERCHANGE_LEVEL,
        joliet=_JOLIET_LEVEL,
        rock_ridge=_ROCK_RIDGE,
        vol_ident=label,
        app_ident_str="HOSTLER",
    )
    try:
        short: dict[PurePosixPath, str] = {PurePosixPath("/"): ""}
        for number, (name, content) in enumerate(contents.items()):
            path = PurePosixPath("/") / name
            for folder in reversed(path.parents):
                if folder not in short:
                    short[folder] = f"{short[folder.parent]}/D{len(short)}"
                    image.add_directory(short[folder], rr_name=folder.name, joliet_path=str(folder))
            image.add_fp(
                io.BytesIO(content),
                len(content),
                f"{short[path.parent]}/F{number}.;1",
                rr_name=path.name,
                joliet_path=str(path),
            )
        written = io.BytesIO()
        image.write_fp(written)
    finally:
        image.close()
    # Seen with QEMU 7.2: with a drive of 60 KiB a guest could not move, its block node being read-only there.
    return written.getvalue() + bytes(-written.tell() % _WHOLE_BYTES)
