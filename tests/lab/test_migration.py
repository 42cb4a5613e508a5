"""Guests of the lab live and move as those of two real hosts, and say what becomes of them."""

from uuid import uuid4

import libvirt
import pytest

from tests.lab.bare_guest import BareGuest, guests_nic, live_migrate, nbd_disk
from tests.lab.guest_console import (
    boots_seen,
    counter_on,
    disk_checks,
    disks_seen,
    heartbeats,
    keeps,
    nics_seen,
    pattern_on,
    pings,
)
from tests.lab.guest_image import GuestImage
from tests.lab.host_pair import HostPair
from tests.lab.nbd import NbdServer
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

BOOT_WITHIN_S = 60.0
SERIAL_SHOWN = 20  #: characters of a serial that virtio lets the guest see


def test_a_guest_lives_on_while_it_moves(host_pair: HostPair, guest_image: GuestImage, nbd_server: NbdServer) -> None:
    """Its heart goes on counting on the other host, and its disk has all that it wrote."""
    here, there = host_pair.first, host_pair.second
    guest = BareGuest(guest_image, nbd_disk(nbd_server, "volume"), disk="volume", keep=1)
    with guest.started(here, there) as domain:
        eventually(lambda: keeps(guest.console(here)), "the guest keeps its disk", BOOT_WITHIN_S)
        live_migrate(domain, there)
        eventually(lambda: heartbeats(guest.console(there)), "the heart beats on the other host")
        before = counter_on(nbd_server.file)
        eventually(lambda: counter_on(nbd_server.file) > before, "the disk is written from the other host")

        said = guest.console(here) + guest.console(there)  # a line may begin on one and end on the other
        assert len(boots_seen(said)) == 1
        assert heartbeats(said) == list(range(1, len(heartbeats(said)) + 1))
        assert all(ok for _, ok in keeps(said)), keeps(said)
        [check] = disk_checks(guest.console(here))
        assert check.ok
        assert pattern_on(nbd_server.file) == check.md5
        assert (here.qemu_pids(), len(there.qemu_pids())) == ([], 1)
    assert there.qemu_pids() == []


def test_guests_of_both_hosts_share_a_segment(host_pair: HostPair, guest_image: GuestImage) -> None:
    """Also one whose interface comes while it runs."""
    here, there = host_pair.first, host_pair.second
    nic = "52:54:00:00:00:01"
    asking = BareGuest(guest_image, ip="10.9.8.1/24", ping="10.9.8.2")
    answering = BareGuest(guest_image, guests_nic("52:54:00:00:00:02"), ip="10.9.8.2/24")
    with asking.started(here) as domain, answering.started(there):
        eventually(lambda: nics_seen(asking.console(here)), "one guest is up", BOOT_WITHIN_S)
        eventually(lambda: nics_seen(answering.console(there)), "the other is up", BOOT_WITHIN_S)
        domain.attachDevice(guests_nic(nic))
        eventually(lambda: any(ok for _, ok in pings(asking.console(here))), "one guest answers the other")
        assert nics_seen(asking.console(here)) == [{}, {"eth0": nic}]


def test_a_guest_tells_its_disks_as_they_come_and_go(
    host_pair: HostPair, guest_image: GuestImage, nbd_server: NbdServer
) -> None:
    """With their serials; what it wrote is there when the disk comes again."""
    host, serial = host_pair.first, str(uuid4())
    guest, disk = BareGuest(guest_image, disk=serial), nbd_disk(nbd_server, serial)
    shown = {"vda": serial[:SERIAL_SHOWN]}
    with guest.started(host) as domain:
        eventually(lambda: disks_seen(guest.console(host)) == [{}], "the guest has no disk", BOOT_WITHIN_S)
        domain.attachDevice(disk)
        eventually(lambda: len(disk_checks(guest.console(host))) == 1, "the guest has written to it")
        domain.detachDevice(disk)
        eventually(lambda: disks_seen(guest.console(host)) == [{}, shown, {}], "the disk is gone")
        domain.attachDevice(disk)
        first, second = eventually(
            lambda: found if len(found := disk_checks(guest.console(host))) == 2 else [], "the disk is read again"
        )
        assert (first.ok, second) == (True, first)


def test_a_guest_dirties_memory_faster_than_a_narrow_link_takes_it(
    host_pair: HostPair, guest_image: GuestImage
) -> None:
    """By QEMU's own measure."""
    host = host_pair.first
    guest = BareGuest(guest_image, memory_mib=128, dirty=32)

    def rate(domain: libvirt.virDomain) -> int:
        def measured() -> dict[str, int]:
            [(_, found)] = domain.connect().domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_DIRTYRATE)
            return found if found.get("dirtyrate.calc_status") == libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED else {}

        domain.startDirtyRateCalc(1)
        return eventually(measured, "QEMU has measured")["dirtyrate.megabytes_per_second"]

    with guest.started(host) as domain:
        eventually(lambda: heartbeats(guest.console(host)), "the guest is up", BOOT_WITHIN_S)
        eventually(lambda: rate(domain) > 10, "the guest dirties more than 10 MiB a second", 20.0)
