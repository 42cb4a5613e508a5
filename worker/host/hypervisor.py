"""The hypervisor of a host: the rooms of this package, tied together."""

import threading
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from worker.host.config_drives import HostConfigDrives
from worker.host.connections import ConnectionClass, Connections
from worker.host.console_logs import ConsoleLogs
from worker.host.devices import LibvirtDevices
from worker.host.disks import FileDisks
from worker.host.domains import LibvirtDomains
from worker.host.embedded import is_embedded
from worker.host.errors import Call
from worker.host.facts import HostFacts, read_facts
from worker.host.folders import Folders
from worker.host.guest_xml import GuestSurroundings
from worker.host.images.room import HostImages, ImageRules
from worker.host.interfaces import HostInterfaces
from worker.host.inventory import read_inventory
from worker.host.migrations.room import LibvirtMigrations
from worker.host.platforms import Platforms
from worker.host.power import LibvirtPower
from worker.host.roots import Roots
from worker.host.secret_files import SecretFiles
from worker.host.space import Space
from worker.host.volumes.local import BlockVolumes, FileVolumes
from worker.host.volumes.nbd import NbdVolumes
from worker.host.volumes.room import HostVolumes

#: As long as virtlogd lets one become.
CONSOLE_LOG_MAX_BYTES: Final = 2 * 1024**2


class Hypervisor:
    """The rooms of `tasks.host.Host`; what a worker has in hand is the worker's to add.

    Nothing is opened before it is first asked for something.
    ``virt_type`` of None is KVM, and emulation where there is none and libvirt's driver is embedded; ``emulator`` of
    None leaves the choice to libvirt.
    """

    def __init__(  # noqa: PLR0913 - values of one host, each by name
        self,
        *,
        uri: str,
        state_folder: str,
        image_rules: ImageRules = ImageRules(),  # noqa: B008 - a frozen value
        volume_roots: tuple[str, ...] = (),
        volume_devices: tuple[str, ...] = (),
        nbd_servers: tuple[str, ...] = (),
        secrets_folder: str | None = None,
        virt_type: str | None = None,
        emulator: str | None = None,
        qemu_img_program: str = "qemu-img",
        console_log_max_bytes: int = CONSOLE_LOG_MAX_BYTES,
    ) -> None:
        self._emulator = emulator
        self._facts_lock = threading.Lock()
        self._facts: HostFacts | None = None
        folders = Folders(state_folder)
        self._folders = folders
        self.console_logs = ConsoleLogs(folders, console_log_max_bytes)
        self._state_folder = Path(state_folder)
        self.connections = Connections(uri)
        self._volumes = _volumes(self.connections, volume_roots, volume_devices, nbd_servers)
        self._platforms = Platforms(self.facts, virt_type, may_emulate=is_embedded(uri))
        self._domains = LibvirtDomains(
            self.connections, folders, self._platforms.choose, self._surroundings, self._volumes.source
        )
        self._devices = LibvirtDevices(self.connections, self._volumes)
        self._power = LibvirtPower(self.connections)
        self._interfaces = HostInterfaces(self.connections)
        self._space = Space()
        self._images = HostImages(state_folder, folders, image_rules, self._space)
        self._disks = FileDisks(
            folders,
            qemu_img_program=qemu_img_program,
            space=self._space,
            held=self._images.held,
            opened=self._images.opened,
        )
        secrets = SecretFiles(secrets_folder or f"{state_folder}/secrets")
        self._config_drives = HostConfigDrives(self._disks, secrets)
        self._migrations = LibvirtMigrations(self.connections, folders, self.facts, self._images.require_file)

    @property
    def domains(self) -> LibvirtDomains:
        """Its domains."""
        return self._domains

    @property
    def devices(self) -> LibvirtDevices:
        """The devices of its domains."""
        return self._devices

    @property
    def power(self) -> LibvirtPower:
        """The power of its domains."""
        return self._power

    @property
    def images(self) -> HostImages:
        """Its image files."""
        return self._images

    @property
    def disks(self) -> FileDisks:
        """Its instances' files."""
        return self._disks

    @property
    def config_drives(self) -> HostConfigDrives:
        """Its instances' config drives."""
        return self._config_drives

    @property
    def volumes(self) -> HostVolumes:
        """Volumes as it reaches them."""
        return self._volumes

    @property
    def interfaces(self) -> HostInterfaces:
        """Its side of guests' interfaces."""
        return self._interfaces

    @property
    def migrations(self) -> LibvirtMigrations:
        """Guests on their way from and to it."""
        return self._migrations

    def console_log(self, instance: UUID) -> str:
        """Where the guest's console is written."""
        return self._folders.console_log(instance)

    def facts(self) -> HostFacts:
        """What the host is; asked of libvirt once."""
        with self._facts_lock:
            if self._facts is None:
                self._facts = read_facts(self.connections)
            return self._facts

    def inventory(self) -> dict[str, Any]:
        """What the host has to give now, as JSON; see `worker.host.inventory`."""
        return read_inventory(self.connections, self._state_folder)

    def require_answer(self) -> None:
        """Ask libvirt the least that it must answer; raises HostError where it does not."""
        with self.connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            connection.getLibVersion()

    def close(self) -> None:
        """Let go of libvirt; guests live on."""
        self._migrations.close()
        self.connections.close()

    def _surroundings(self, console_log: str) -> GuestSurroundings:
        facts = self.facts()
        return GuestSurroundings(facts.architecture, console_log, self._emulator, facts.virtualized)


def _volumes(
    connections: Connections, roots: tuple[str, ...], devices: tuple[str, ...], nbd_servers: tuple[str, ...]
) -> HostVolumes:
    below = Roots(roots, called="a volume root", setting="HOSTLER_VOLUME_ROOTS")
    return HostVolumes(
        connections,
        {"file": FileVolumes(below), "block": BlockVolumes(devices), "nbd": NbdVolumes(below, nbd_servers)},
    )
