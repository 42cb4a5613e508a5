"""A guest that only libvirt knows: what the lab's own tests, and measurements without Hostler, are made with."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from uuid import UUID, uuid4

import libvirt

from tests.lab.guest_image import MEMORY_MIB, GuestImage
from tests.lab.hosts import LibvirtHost
from tests.lab.nbd import NbdServer
from tests.lab.network import GUESTS_BRIDGE

LIVE_MIGRATION = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)
HOTPLUG_PORTS = 8

_DOMAIN = """
<domain type='qemu'><name>{uuid}</name><uuid>{uuid}</uuid><memory unit='MiB'>{memory}</memory>
  <os><type machine='q35'>hvm</type><kernel>{image.kernel}</kernel><initrd>{image.initrd}</initrd>
    <cmdline>{cmdline}</cmdline></os>
  <features><acpi/><apic/></features>
  <devices>{devices}<controller type='usb' model='none'/><controller type='pci' index='0' model='pcie-root'/>{ports}
    <serial type='file'><source path='{console}' append='on'/></serial><memballoon model='virtio'/></devices></domain>
"""
_PORT = "<controller type='pci' model='pcie-root-port'/>"


class BareGuest:
    """A guest that boots the lab's image, with its console in a file of its own on every host that it comes to."""

    def __init__(self, image: GuestImage, *devices: str, memory_mib: int = MEMORY_MIB, **behaviours: str | int) -> None:
        self.uuid: UUID = uuid4()
        self._console = f"/var/log/libvirt/qemu/{self.uuid}.console"
        self.xml = _DOMAIN.format(
            uuid=self.uuid,
            memory=memory_mib,
            image=image,
            cmdline=image.cmdline_with(**behaviours),
            devices="".join(devices),
            ports=_PORT * HOTPLUG_PORTS,
            console=self._console,
        )

    def console(self, host: LibvirtHost) -> str:
        """What it wrote on its console while it was on that host."""
        file = host.private(self._console)
        return file.read_text(errors="replace") if file.exists() else ""

    @contextmanager
    def started(self, host: LibvirtHost, *others: LibvirtHost) -> Iterator[libvirt.virDomain]:
        """Run it on a host, and leave nothing of it there, nor on the others that it may have gone to."""
        try:
            with closing(libvirt.open(host.uri)) as connection:
                domain = connection.defineXML(self.xml)
                domain.create()
                yield domain
        finally:
            for place in (host, *others):
                self._forget(place)

    @contextmanager
    def on(self, host: LibvirtHost) -> Iterator[libvirt.virDomain]:
        """The guest as it is on that host now."""
        with closing(libvirt.open(host.uri)) as connection:
            yield connection.lookupByUUIDString(str(self.uuid))

    def _forget(self, host: LibvirtHost) -> None:
        with suppress(libvirt.libvirtError), self.on(host) as domain:
            with suppress(libvirt.libvirtError):
                domain.destroy()
            domain.undefine()


def live_migrate(domain: libvirt.virDomain, target: LibvirtHost) -> None:
    """Move a running guest to another host, by the plain call."""
    domain.migrateToURI3(target.tcp_uri, {libvirt.VIR_MIGRATE_PARAM_URI: target.migration_uri}, LIVE_MIGRATION)


def nbd_disk(server: NbdServer, serial: str, target: str = "vdb") -> str:
    """The device that is a server's disk."""
    return (
        f"<disk type='network'><driver name='qemu' type='raw'/>{server.source_xml}"
        f"<target dev='{target}' bus='virtio'/><serial>{serial}</serial></disk>"
    )


def guests_nic(mac: str) -> str:
    """The device that is a network interface on the guests' segment."""
    source = f"<source bridge='{GUESTS_BRIDGE}'/>"
    return f"<interface type='bridge'><mac address='{mac}'/>{source}<model type='virtio'/></interface>"
