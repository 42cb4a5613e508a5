"""The hypervisor of a host: the rooms of this package, tied together."""

import threading
from uuid import UUID

from worker.host.connections import Connections
from worker.host.disks import FileDisks
from worker.host.domains import LibvirtDomains
from worker.host.facts import HostFacts, read_facts
from worker.host.folders import Folders
from worker.host.guest_xml import GuestSurroundings
from worker.host.images import FileImages


class Hypervisor:
    """The domains, images and disks of `tasks.host.Host`; what a worker has in hand is the worker's to add.

    Nothing is opened before it is first asked for something.
    ``virt_type`` and ``emulator`` of None leave the choice to what the host offers.
    """

    def __init__(  # noqa: PLR0913 - values of one host, each by name
        self,
        *,
        uri: str,
        state_folder: str,
        image_roots: tuple[str, ...] = (),
        virt_type: str | None = None,
        emulator: str | None = None,
        qemu_img_program: str = "qemu-img",
    ) -> None:
        self._virt_type = virt_type
        self._emulator = emulator
        self._facts_lock = threading.Lock()
        self._facts: HostFacts | None = None
        folders = Folders(state_folder)
        self._folders = folders
        self.connections = Connections(uri)
        self._domains = LibvirtDomains(self.connections, folders, self._surroundings)
        self._images = FileImages(image_roots)
        self._disks = FileDisks(folders, qemu_img_program=qemu_img_program)

    @property
    def domains(self) -> LibvirtDomains:
        """Its domains."""
        return self._domains

    @property
    def images(self) -> FileImages:
        """Its image files."""
        return self._images

    @property
    def disks(self) -> FileDisks:
        """Its instances' files."""
        return self._disks

    def console_log(self, instance: UUID) -> str:
        """Where the guest's console is written."""
        return self._folders.console_log(instance)

    def facts(self) -> HostFacts:
        """What the host is; asked of libvirt once."""
        with self._facts_lock:
            if self._facts is None:
                self._facts = read_facts(self.connections)
            return self._facts

    def close(self) -> None:
        """Let go of libvirt; guests live on."""
        self.connections.close()

    def _surroundings(self, console_log: str) -> GuestSurroundings:
        facts = self.facts()
        return GuestSurroundings(self._virt_type or facts.virt_type, facts.architecture, console_log, self._emulator)
