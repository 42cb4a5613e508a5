"""The port: what a step may ask of a host, waiting included.

Declared by its user; ``worker.host`` fits it, and so does the fake in the tests: both pass one contract suite.
Every method may raise `HostError`; no other exception tells of the host's condition.
"""

from typing import Protocol

from tasks.host.config_drives import ConfigDrive, ConfigDrives, Text
from tasks.host.devices import (
    Devices,
    GuestDevice,
    GuestInterface,
    GuestVolume,
    Interfaces,
    NetworkKind,
    ShownDevice,
    ShownDevices,
    Volume,
    Volumes,
)
from tasks.host.domains import DirectBoot, Domain, Domains, DomainState, Guest, GuestDisk, Identity, Platform
from tasks.host.earlier_work import EarlierWork
from tasks.host.errors import HostError
from tasks.host.files import Disk, Disks, FetchWatch, FileSystem, Image, Images, ImageSource, unwatched
from tasks.host.migrations import (
    Departure,
    Half,
    LocalDisk,
    MigrationPlan,
    MigrationProgress,
    Migrations,
    OnTimeout,
    Peer,
    Watch,
    Wish,
    ignore_progress,
)
from tasks.host.power import Power

__all__ = [
    "ConfigDrive",
    "ConfigDrives",
    "Departure",
    "Devices",
    "DirectBoot",
    "Disk",
    "Disks",
    "Domain",
    "DomainState",
    "Domains",
    "EarlierWork",
    "FetchWatch",
    "FileSystem",
    "Guest",
    "GuestDevice",
    "GuestDisk",
    "GuestInterface",
    "GuestVolume",
    "Half",
    "Host",
    "HostError",
    "Identity",
    "Image",
    "ImageSource",
    "Images",
    "Interfaces",
    "LocalDisk",
    "MigrationPlan",
    "MigrationProgress",
    "Migrations",
    "NetworkKind",
    "OnTimeout",
    "Peer",
    "Platform",
    "Power",
    "ShownDevice",
    "ShownDevices",
    "Text",
    "Volume",
    "Volumes",
    "Watch",
    "Wish",
    "ignore_progress",
    "unwatched",
]


class Host(Protocol):
    """One hypervisor host."""

    @property
    def domains(self) -> Domains:
        """Its domains."""
        ...

    @property
    def devices(self) -> Devices:
        """The devices of its domains."""
        ...

    @property
    def power(self) -> Power:
        """The power of its domains."""
        ...

    @property
    def images(self) -> Images:
        """Its image files."""
        ...

    @property
    def disks(self) -> Disks:
        """Its instances' files."""
        ...

    @property
    def config_drives(self) -> ConfigDrives:
        """Its instances' config drives."""
        ...

    @property
    def volumes(self) -> Volumes:
        """Volumes as it reaches them."""
        ...

    @property
    def interfaces(self) -> Interfaces:
        """Its side of guests' interfaces."""
        ...

    @property
    def migrations(self) -> Migrations:
        """Guests on their way from and to it."""
        ...

    @property
    def earlier_work(self) -> EarlierWork:
        """What other jobs still do there."""
        ...
