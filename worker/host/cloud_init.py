"""The files that cloud-init reads, for each layout. Pure: nothing here asks a host.

Layouts: cloud-init's datasources NoCloud (``meta-data``, ``user-data``, …) and ConfigDrive (``openstack/latest/…``).
"""

import json
from collections.abc import Mapping
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError
from tasks.host.config_drives import ConfigDrive, Layout

#: The volume label by which cloud-init finds each.
LABELS: Final[Mapping[Layout, str]] = {Layout.NOCLOUD: "cidata", Layout.OPENSTACK: "config-2"}


def files(drive: ConfigDrive, user_data: bytes | None, vendor_data: bytes | None) -> dict[str, bytes]:
    """Each file's content by its path on the drive. Those of NoCloud are JSON, too, which is YAML.

    Raises HostError(PERMANENT) for vendor data that the layout has no place for.
    """
    if drive.layout is Layout.NOCLOUD:
        return _nocloud(drive, user_data, vendor_data)
    return _openstack(drive, user_data, vendor_data)


def _nocloud(drive: ConfigDrive, user_data: bytes | None, vendor_data: bytes | None) -> dict[str, bytes]:
    metadata = {
        "instance-id": str(drive.instance),
        "local-hostname": drive.hostname,
        "public-keys": list(drive.ssh_keys),
        "meta": dict(drive.metadata),
    }
    # Without this file cloud-init does not take the drive for one of its own.
    found = {"meta-data": _json(metadata), "user-data": user_data or b""}
    if vendor_data is not None:
        found["vendor-data"] = vendor_data
    if drive.network is not None:
        found["network-config"] = _json(drive.network)
    return found


def _openstack(drive: ConfigDrive, user_data: bytes | None, vendor_data: bytes | None) -> dict[str, bytes]:
    metadata = {
        "uuid": str(drive.instance),
        "name": drive.name,
        "hostname": drive.hostname,
        "public_keys": {f"key-{number}": key for number, key in enumerate(drive.ssh_keys)},
        "meta": dict(drive.metadata),
        "launch_index": 0,
    }
    found = {"meta_data.json": _json(metadata)}
    if user_data is not None:
        found["user_data"] = user_data
    if vendor_data is not None:
        found["vendor_data.json"] = _json({"cloud-init": _text(vendor_data)})
    if drive.network is not None:
        found["network_data.json"] = _json(drive.network)
    return {f"openstack/latest/{name}": content for name, content in found.items()}


def _text(vendor_data: bytes) -> str:
    try:
        return vendor_data.decode()
    except UnicodeDecodeError:
        message = "vendor_data is not text (UTF-8), and a config drive of the layout openstack holds it as text"
        raise HostError(ErrorClass.PERMANENT, message) from None


def _json(document: object) -> bytes:
    return json.dumps(document, indent=1).encode()
