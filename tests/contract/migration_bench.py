"""Two hosts and a guest that moves between them, with what other people may do to it on its way."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from uuid import UUID

import libvirt

from tasks.host import (
    Devices,
    DirectBoot,
    Disks,
    Domains,
    DomainState,
    Guest,
    GuestDisk,
    Identity,
    MigrationPlan,
    Migrations,
    Peer,
)
from tests.contract.backdoor import Backdoor
from tests.contract.real_bench import Places
from tests.fake_host import FakeHost, FakeImage, FakeWorld, stranger
from tests.lab.guest_console import heartbeats
from tests.lab.guest_image import MEMORY_MIB, GuestImage
from tests.lab.hosts import LibvirtHost
from tests.lab.waiting import eventually
from worker.host.migrations.request import data_uri, flags_for

MIB = 1024**2
DISK_BYTES = 8 * MIB
LOOPBACK = "127.0.0.1"
SOON_S = 10.0
BOOT_WITHIN_S = 60.0
UNREACHABLE = Peer("nowhere", "qemu+tcp://127.0.0.1:1/system", LOOPBACK)


#: Arguments: URI, domain, URI of the destination, parameters, flags.
_MIGRATE = """
import ast, libvirt, sys
uri, instance, destination, parameters, flags = sys.argv[1:]
domain = libvirt.open(uri).lookupByUUIDString(instance)
domain.migrateToURI3(destination, ast.literal_eval(parameters), int(flags))
"""


class Side(Protocol):
    """What these tests ask of each of the two hosts."""

    @property
    def domains(self) -> Domains:
        """Its domains."""
        ...

    @property
    def devices(self) -> Devices:
        """Their devices."""
        ...

    @property
    def disks(self) -> Disks:
        """Their files."""
        ...

    @property
    def migrations(self) -> Migrations:
        """Their ways."""
        ...


class MigrationBench(Protocol):
    """A host that guests leave, one that they come to, and what is around both."""

    @property
    def here(self) -> Side:
        """The host that guests leave."""
        ...

    @property
    def there(self) -> Side:
        """The host that they come to."""
        ...

    @property
    def peer(self) -> Peer:
        """The latter, as the former is told of it."""
        ...

    def boot_files(self) -> DirectBoot:
        """A kernel with an initrd, below the image roots of both hosts."""
        ...

    def busy_guest(self, instance: UUID) -> Guest:
        """A guest, not started, whose memory takes more than seconds to move by a `slow` plan."""
        ...

    def keep_busy(self, instance: UUID) -> None:
        """Return once it is so, after its start."""
        ...

    def slow(self, plan: MigrationPlan) -> MigrationPlan:
        """The plan, at a snail's pace."""
        ...

    def hurry(self, instance: UUID) -> None:
        """Let a slow migration go as fast as it can."""
        ...

    def begun_by_another(self, instance: UUID, plan: MigrationPlan) -> None:
        """Somebody else begins to migrate the guest, and says no more; return when it is under way."""
        ...

    def volume(self, name: str) -> str:
        """Put a raw volume below the volume root of the host that guests leave; its path."""
        ...

    def stranger(self, instance: UUID) -> None:
        """Somebody makes and starts a domain with that UUID on the destination."""
        ...

    def transient(self, instance: UUID) -> None:
        """Somebody undefines the running domain on the destination."""
        ...

    def pause(self, instance: UUID) -> None:
        """Somebody pauses the guest on the host that it would leave."""
        ...


def guest_with_disk(bench: MigrationBench, guest: Guest) -> Guest:
    """The guest with a disk in its folder, made."""
    instance = guest.identity.instance
    path = bench.here.disks.path_for(instance, "root", "qcow2")
    bench.here.disks.create(instance, path, size_bytes=DISK_BYTES, backing=None, epoch=1)
    return replace(guest, disks=(GuestDisk(path, "qcow2", "vda", "ua-root", "root"),))


def idle_guest(instance: UUID) -> Guest:
    """A guest without an operating system."""
    return Guest(Identity(instance, "job-1"), "guest", memory_mib=32, vcpus=1)


class FakePair:
    """Two hosts of a fake world."""

    def __init__(self) -> None:
        world = FakeWorld()
        self.here = FakeHost("h1", world)
        self.there = FakeHost("h2", world)
        self.peer = world.peer("h2")
        self.world = world

    def boot_files(self) -> DirectBoot:
        """Noted on both."""
        kernel, initrd = (
            [host.images.put(name, FakeImage("raw", MIB)) for host in (self.here, self.there)]
            for name in ("vmlinuz", "initrd")
        )
        return DirectBoot(kernel[0], initrd[0])

    def busy_guest(self, instance: UUID) -> Guest:
        """Any guest."""
        return idle_guest(instance)

    def keep_busy(self, instance: UUID) -> None:
        """Its migrations are held."""
        self.world.hold(instance)

    def slow(self, plan: MigrationPlan) -> MigrationPlan:
        """They are."""
        return plan

    def hurry(self, instance: UUID) -> None:
        """Not any more."""
        self.world.let_go(instance)

    def begun_by_another(self, instance: UUID, plan: MigrationPlan) -> None:
        """It is."""
        self.here.migrations.begin(instance, plan)

    def volume(self, name: str) -> str:
        """Noted."""
        return self.here.volumes.put(name)

    def stranger(self, instance: UUID) -> None:
        """Appears."""
        self.there.domains.appears(instance, stranger())

    def transient(self, instance: UUID) -> None:
        """Loses its definition."""
        domains = self.there.domains
        domains.there[instance] = replace(domains.there[instance], persistent=False)
        domains.defined.pop(instance)

    def pause(self, instance: UUID) -> None:
        """Is."""
        self.here.domains.is_now(instance, DomainState.PAUSED, "user")


class RealPair:
    """Two libvirtds side by side, each with folders of its own but the images'; guests boot the lab's image."""

    def __init__(self, here: LibvirtHost, there: LibvirtHost, folder: Path, image: GuestImage) -> None:
        self._source = here
        self._image = image
        self._places = [replace(Places.below(_made(folder / name)), images=folder) for name in ("here", "there")]
        for file in (image.kernel, image.initrd):
            shutil.copy(file, folder)
        self._connections = [libvirt.open(host.uri) for host in (here, there)]
        self._backdoors = [Backdoor(connection) for connection in self._connections]
        self.here, self.there = (
            places.hypervisor(host.uri) for places, host in zip(self._places, (here, there), strict=True)
        )
        self.peer = Peer(there.name, there.tcp_uri, LOOPBACK)

    def boot_files(self) -> DirectBoot:
        """The lab's."""
        folder = self._places[0].images
        kernel, initrd = folder / self._image.kernel.name, folder / self._image.initrd.name
        return DirectBoot(str(kernel), str(initrd), self._image.cmdline)

    def busy_guest(self, instance: UUID) -> Guest:
        """One whose memory is in use."""
        return replace(idle_guest(instance), memory_mib=MEMORY_MIB, boot=self.boot_files())

    def keep_busy(self, instance: UUID) -> None:
        """It has booted."""
        console = Path(self.here.migrations.console_log(instance))
        eventually(lambda: heartbeats(console.read_text(errors="replace")), "the guest is up", BOOT_WITHIN_S)

    def slow(self, plan: MigrationPlan) -> MigrationPlan:
        """At 1 MiB a second."""
        return replace(plan, bandwidth_mib_s=1)

    def hurry(self, instance: UUID) -> None:
        """At as much as libvirt takes; it sets the plan's own speed when it begins to send."""
        domain = self._domain(instance)
        eventually(lambda: _has_sent(domain), "something has been sent, or all")
        with suppress(libvirt.libvirtError):  # it has left
            domain.migrateSetMaxSpeed(1000)

    def begun_by_another(self, instance: UUID, plan: MigrationPlan) -> None:
        """By a process that is killed then."""
        parameters = {"migrate_uri": data_uri(plan.peer), "bandwidth": plan.bandwidth_mib_s or 0}
        flags = flags_for(plan, paused=False)
        command = [sys.executable, "-c", _MIGRATE, self._source.uri, str(instance), plan.peer.libvirt_uri]
        with subprocess.Popen([*command, repr(parameters), str(flags)]) as process:
            try:
                eventually(lambda: self._domain(instance).jobInfo()[0], "the guest is on its way")
            finally:
                process.kill()

    def volume(self, name: str) -> str:
        """A sparse file."""
        path = self._places[0].volumes / name
        path.touch()
        os.truncate(path, MIB)
        return str(path)

    def stranger(self, instance: UUID) -> None:
        """Made through the back door."""
        self._backdoors[1].stranger(instance)

    def transient(self, instance: UUID) -> None:
        """By libvirt."""
        self._backdoors[1].undefine(instance)

    def pause(self, instance: UUID) -> None:
        """By libvirt."""
        self._backdoors[0].pause(instance)

    def clear(self) -> None:
        """No domain is left, nor a migration of one."""
        for domain in self._connections[0].listAllDomains():
            with suppress(libvirt.libvirtError):
                domain.abortJob()
        for backdoor in self._backdoors:
            eventually(lambda door=backdoor: _cleared(door), "the hosts are empty")  # type: ignore[misc]

    def close(self) -> None:
        """Let go of both."""
        self.clear()
        for host in (self.here, self.there):
            host.close()
        for connection in self._connections:
            connection.close()

    def _domain(self, instance: UUID) -> libvirt.virDomain:
        return self._connections[0].lookupByUUID(instance.bytes)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _has_sent(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.jobStats().get("data_processed", 0) > 0)
    except libvirt.libvirtError:
        return True  # it has left


def _cleared(backdoor: Backdoor) -> bool:
    try:
        backdoor.clear()
    except libvirt.libvirtError:
        return False  # it was on its way
    return True
