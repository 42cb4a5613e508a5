"""Which machine this is, and since when."""

import uuid
from pathlib import Path

#: systemd's machine id, and where D-Bus kept it before; see machine-id(5).
_SYSTEM_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


#: The kernel's, new with every boot; see random(4).
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The id of the boot that this machine is in."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def machine_id(state_folder: Path) -> str:
    """The machine's id; where the system has none, one that is made once and kept in the state folder."""
    for file in _SYSTEM_FILES:
        try:
            found = file.read_text(encoding="ascii").strip()
        except (FileNotFoundError, PermissionError):
            continue
        if found and found != "uninitialized":
            return found
    own = state_folder / "machine-id"
    try:
        return own.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        made = uuid.uuid4().hex
        own.write_text(f"{made}\n", encoding="ascii")
        return made
