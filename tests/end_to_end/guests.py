"""Guests of the tests of whole paths: what they are asked for with, and what is seen of them on their hosts."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import UUID

import libvirt
import pytest

from models import reading
from tests.lab.guest_console import heartbeats
from tests.lab.guest_image import GuestImage
from tests.lab.hosts import LibvirtHost
from tests.lab.namespaces import call
from tests.lab.nbd import NbdServer
from tests.lab.network import GUESTS_BRIDGE
from tests.lab.site import Site
from tests.lab.site_pair import SitePair
from tests.lab.waiting import NeverHappenedError, eventually

BOOT_WITHIN_S = 60.0
CONSOLE_TAIL = 2000
#: For tests of migrations, see `GuestLostError`.
AGAIN_IF_LOST = pytest.mark.flaky(reruns=1, only_rerun="GuestLostError")

Value = TypeVar("Value")


def booting(image: GuestImage, **behaviours: str | int) -> dict[str, Any]:
    """The request for a guest that boots the lab's image, and does these."""
    boot = {"kernel": str(image.kernel), "initrd": str(image.initrd), "cmdline": image.cmdline_with(**behaviours)}
    return {"name": "counting", "memory_mib": 96, "boot": boot}


def nbd_volume(server: NbdServer, volume_id: str) -> dict[str, Any]:
    """The server's disk, as a volume."""
    where = {"host": server.address, "port": server.port, "export": server.export}
    return {"id": volume_id, "kind": "nbd", **where}


def file_volume(site: Site, volume_id: str, size_mib: int = 16) -> dict[str, Any]:
    """A new, empty file in the site's volume root, as a volume."""
    path = site.state / "volumes" / f"{volume_id}.raw"
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as disk:
        disk.truncate(size_mib * 1024**2)
    return {"id": volume_id, "kind": "file", "path": str(path)}


def guests_interface(interface_id: str, mac: str) -> dict[str, Any]:
    """An interface on the segment that the guests of both hosts share."""
    return {"id": interface_id, "bridge": GUESTS_BRIDGE, "mac": mac}


def done(site: Site, operation: str, instance: UUID, request: dict[str, Any]) -> dict[str, Any]:
    """The job, asked of this host and ended as it should."""
    job = site.settled(site.accept(operation, instance, request))
    assert job["state"] == "succeeded", job
    return job


def spawned(site: Site, instance: UUID, guest: dict[str, Any]) -> None:
    """The guest on this host, its heart beating."""
    done(site, "spawn", instance, guest)
    eventually(lambda: heartbeats(site.console(instance)), f"the guest counts on {site.host}", BOOT_WITHIN_S)


def label_of(disk: Path) -> str:
    """The label of the file system, or swap space, on a raw disk."""
    return call("blkid", "--probe", "--match-tag", "LABEL", "--output", "value", str(disk)).strip()


def in_flight(site: Site, job_id: str, percent: float = 0.0) -> None:
    """The job's migration is under way, and so much has come through."""

    def progress() -> bool:
        job = reading.job(site.database, job_id)
        far = {} if job is None or job.progress is None else job.progress
        return 100 * far.get("done_bytes", 0) > percent * far.get("total_bytes", 0)

    eventually(progress, f"the migration {job_id} is in flight", 30.0)


class GuestLostError(AssertionError):
    """A guest that is where it belongs, and does not go on there.

    QEMU 7.2's emulation loses some of what a guest writes while it migrates, about once in 100 times, whoever asks for
    the migration. Tests of migrations are run again for this error, once.
    """


def goes_on(site: Site, instance: UUID) -> None:
    """The guest lives on this host: two more beats are heard there."""
    before = len(heartbeats(site.console(instance)))
    heard(site, instance, lambda: len(heartbeats(site.console(instance))) > before + 1, "the guest counts")


def heard(site: Site, instance: UUID, probe: Callable[[], Value], what: str) -> Value:
    """What a guest that has migrated here lets be seen. Raises GuestLostError."""
    try:
        return eventually(probe, f"{what} on {site.host}", 20.0)
    except NeverHappenedError as error:
        said = site.console(instance)[-CONSOLE_TAIL:]
        raise GuestLostError(f"{error}; processes: {site.qemu_pids(instance)}; it said:\n{said}") from error


def only_on(sites: SitePair, site: Site, instance: UUID) -> None:
    """The guest runs on this host, defined there; of it nothing is on the other one, nor a second process anywhere."""
    assert sites.shown(instance) == {site.host: "running"}
    with domain(host_of(sites, site), instance) as here:
        assert here.isPersistent()
    assert len(sites.qemu_pids(instance)) == 1
    assert site.files() != []
    assert other(sites, site).files() == []


def nowhere(sites: SitePair, instance: UUID) -> None:
    """Nothing of the instance is on either host."""
    assert sites.shown(instance) == {}
    assert sites.qemu_pids(instance) == []
    assert [site.files() for site in sites.sites] == [[], []]
    assert [taps(host) for host in (sites.hosts.first, sites.hosts.second)] == [set(), set()]


def other(sites: SitePair, site: Site) -> Site:
    """The other site of the pair."""
    return sites.second if site is sites.first else sites.first


def host_of(sites: SitePair, site: Site) -> LibvirtHost:
    """The host that the site serves."""
    return sites.hosts.first if site is sites.first else sites.hosts.second


def taps(host: LibvirtHost) -> set[str]:
    """The guests' ends of cables that are on the host's bridge."""
    assert host.network_namespace is not None
    lines = call("ip", "-n", host.network_namespace, "-brief", "link", "show", "type", "tun").splitlines()
    return {line.split()[0].partition("@")[0] for line in lines}


@contextmanager
def domain(host: LibvirtHost, instance: UUID) -> Iterator[libvirt.virDomain]:
    """The instance's domain, asked of libvirt itself."""
    with closing(libvirt.open(host.uri)) as connection:
        yield connection.lookupByUUID(instance.bytes)


def running(host: LibvirtHost, instance: UUID) -> bool:
    """Whether libvirt shows the guest running on the host now."""
    with closing(libvirt.open(host.uri)) as connection:
        active = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING)
        return any(found.UUID() == instance.bytes for found in active)


class Said:
    """All that a guest wrote on its consoles, one host after another; also on one whose file of it is gone since."""

    def __init__(self, site: Site, instance: UUID) -> None:
        self._instance = instance
        self._consoles: list[IO[str]] = []
        self.comes_to(site)

    def comes_to(self, site: Site) -> None:
        """From now on it writes there."""
        file = site.state / "instances" / str(self._instance) / "console.log"
        self._consoles.append(file.open(errors="replace"))

    @property
    def text(self) -> str:
        """A line may begin on one host and end on the other."""
        for console in self._consoles:
            console.seek(0)
        return "".join(console.read() for console in self._consoles)

    def close(self) -> None:
        """Let go of the files."""
        for console in self._consoles:
            console.close()
