"""The calls that no manager of VMs can do without, made one after another on the same libvirtd."""

import subprocess
from pathlib import Path
from uuid import UUID

import libvirt

from tasks.host import DirectBoot, Guest, GuestDisk, Identity, Platform
from tests.lab.places import program
from worker.host.guest_xml import GuestSurroundings, domain_xml

EVERYWHERE = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
_VOLUME = (
    "<disk type='file'><driver name='qemu' type='raw'/><source file='{path}'/><target dev='vdb' bus='virtio'/>"
    "<serial>bare</serial></disk>"
)


class Bare:
    """The calls that a spawn and a destroy cannot do without, made one after another."""

    def __init__(self, uri: str, folder: Path, image: Path, boot: DirectBoot) -> None:
        self._connection = libvirt.open(uri)
        self._folder = folder
        self._image = image
        self._boot = boot

    def spawn(self, instance: UUID) -> None:
        """An overlay, a definition, a running domain."""
        disk = self._folder / f"{instance}.qcow2"
        subprocess.run(
            [program("qemu-img"), "create", "-q", "-f", "qcow2", "-b", self._image, "-F", "qcow2", disk],
            check=True,
            timeout=30,
        )
        guest = Guest(
            identity=Identity(instance, "bare"),
            name="bench",
            memory_mib=96,
            vcpus=1,
            disks=(GuestDisk(str(disk), "qcow2", "vda", "ua-root", "root"),),
            boot=self._boot,
            platform=Platform("qemu", "q35"),
        )
        surroundings = GuestSurroundings("x86_64", console_log=str(self._folder / f"{instance}.log"))
        self._connection.defineXML(domain_xml(guest, surroundings)).create()

    def destroy(self, instance: UUID) -> None:
        """No domain, no definition, no files."""
        domain = self._connection.lookupByUUIDString(str(instance))
        domain.destroy()
        domain.undefine()
        (self._folder / f"{instance}.qcow2").unlink()
        (self._folder / f"{instance}.log").unlink()

    def attach_volume(self, instance: UUID, path: Path) -> None:
        """A disk for the guest and for its definition."""
        self._connection.lookupByUUIDString(str(instance)).attachDeviceFlags(_VOLUME.format(path=path), EVERYWHERE)

    def detach_volume(self, instance: UUID, path: Path) -> None:
        """The guest lets it go; the call returns once it has."""
        self._connection.lookupByUUIDString(str(instance)).detachDeviceFlags(_VOLUME.format(path=path), EVERYWHERE)

    def power(self, operation: str, instance: UUID) -> None:
        """The one call, or the two, that the operation cannot do without; each returns when it is so."""
        domain = self._connection.lookupByUUIDString(str(instance))
        match operation:
            case "start" | "resume":
                domain.create()
            case "stop":
                domain.destroy()
            case "reboot":
                domain.destroy()
                domain.create()
            case "pause":
                domain.suspend()
            case "unpause":
                domain.resume()
            case "suspend":
                domain.managedSave()
            case _:
                raise ValueError(f"{operation} is no power operation")

    def close(self) -> None:
        """Let go of libvirt."""
        self._connection.close()
