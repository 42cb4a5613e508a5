"""Config drives: small disks that tell a guest's cloud-init what it is to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID


class Layout(StrEnum):
    """Where on the drive cloud-init finds what."""

    NOCLOUD = "nocloud"
    OPENSTACK = "openstack"


@dataclass(frozen=True)
class Text:
    """What a guest is told: the bytes themselves, or the name of a secret of the host that holds them."""

    content: bytes = field(default=b"", repr=False)
    secret: str | None = None


@dataclass(frozen=True)
class ConfigDrive:
    """Everything that a config drive is made from."""

    instance: UUID  #: it is cloud-init's instance-id, too: the guest is set up once
    layout: Layout
    name: str
    hostname: str
    ssh_keys: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    user_data: Text | None = None
    vendor_data: Text | None = None
    network: Mapping[str, Any] | None = None  #: in the layout's own words


class ConfigDrives(Protocol):
    """Config drives of this host's instances."""

    def write(self, drive: ConfigDrive, path: str, *, epoch: int) -> None:
        """Make the drive, a raw disk that only its owner reads, and publish it by rename, as `Disks.create` does.

        ``path`` is one of the instance's disks, of the format raw; a file already there is HostError(CONFLICT).
        A secret that is not there, or that others could read, is HostError(PERMANENT) with one sentence naming it.
        """
        ...
