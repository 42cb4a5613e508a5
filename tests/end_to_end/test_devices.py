"""Volumes and interfaces that come and go, as the guests' own kernels see them."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import libvirt
import pytest

from tests.end_to_end.guests import (
    booting,
    domain,
    done,
    file_volume,
    guests_interface,
    nbd_volume,
    nowhere,
    taps,
)
from tests.lab.guest_console import disk_checks, disks_seen, nics_seen, pattern_on, pings
from tests.lab.guest_image import GuestImage
from tests.lab.hosts import LibvirtHost
from tests.lab.nbd import NbdServer
from tests.lab.network import Network
from tests.lab.site import Site
from tests.lab.site_pair import SitePair
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE
ASKING_MAC, ANSWERING_MAC = "52:54:00:00:01:01", "52:54:00:00:01:02"


def serials(shown: libvirt.virDomain, flags: int = 0) -> list[str]:
    """Those of its disks: of the guest as it runs, or of its definition."""
    return re.findall(r"<serial>(.*)</serial>", shown.XMLDesc(flags))


def test_two_guests_meet_over_what_they_are_given_and_lose_it_again(
    sites: SitePair, guest_image: GuestImage, nbd_server: NbdServer, network: Network
) -> None:
    """Disks that are written and read, a cable that answers: attached or there from the start, then gone from both."""
    first, second = sites.sites
    asking, answering = uuid4(), uuid4()
    with NbdServer(export="early", address=network.switch_address, network_namespace=network.switch) as early:
        given = {
            "volumes": [nbd_volume(early, "early")],
            "interfaces": [guests_interface("nic", ANSWERING_MAC)],
        }
        answers = booting(guest_image, ip="10.9.8.2/24", disk="late") | given
        asks = booting(guest_image, ip="10.9.8.1/24", ping="10.9.8.2", disk="late-nbd")
        jobs = [first.accept("spawn", asking, asks), second.accept("spawn", answering, answers)]
        assert [site.settled(job)["state"] for site, job in zip(sites.sites, jobs, strict=True)] == ["succeeded"] * 2
        spawned_with = {"vda": "early"}
        eventually(lambda: disks_seen(second.console(answering)) == [spawned_with], "a disk from the start", 60.0)
        eventually(lambda: nics_seen(second.console(answering)) == [{"eth0": ANSWERING_MAC}], "and an interface", 60.0)
        eventually(lambda: disks_seen(first.console(asking)) == [{}], "the other guest is up, without a disk", 60.0)

        late_file = file_volume(second, "late-file")
        done(first, "attach_volume", asking, {"volume": nbd_volume(nbd_server, "late-nbd")})
        done(second, "attach_volume", answering, {"volume": late_file})
        done(first, "attach_interface", asking, {"interface": guests_interface("nic", ASKING_MAC)})
        [on_server] = eventually(lambda: disk_checks(first.console(asking)), "one has written and read", 20.0)
        [in_file] = eventually(lambda: disk_checks(second.console(answering)), "and the other", 20.0)
        assert (on_server.ok, in_file.ok) == (True, True)
        assert pattern_on(nbd_server.file) == on_server.md5
        assert pattern_on(Path(late_file["path"])) == in_file.md5
        eventually(lambda: any(ok for _, ok in pings(first.console(asking))), "one guest answers the other", 20.0)
        assert disks_seen(first.console(asking)) == [{}, {"vda": "late-nbd"}]
        assert disks_seen(second.console(answering)) == [spawned_with, {"vda": "early", "vdb": "late-file"}]
        assert nics_seen(first.console(asking)) == [{}, {"eth0": ASKING_MAC}]
        assert [len(taps(host)) for host in (sites.hosts.first, sites.hosts.second)] == [1, 1]

        done(first, "detach_volume", asking, {"volume_id": "late-nbd"})
        done(second, "detach_volume", answering, {"volume_id": "late-file"})
        done(first, "detach_interface", asking, {"interface_id": "nic"})
        eventually(lambda: disks_seen(first.console(asking))[2:] == [{}], "the guest has lost its disk", 20.0)
        eventually(lambda: nics_seen(first.console(asking))[2:] == [{}], "and its interface", 20.0)
        eventually(lambda: disks_seen(second.console(answering))[2:] == [spawned_with], "and the other its disk", 20.0)
        assert taps(sites.hosts.first) == set()

        done(first, "destroy", asking, {})
        done(second, "destroy", answering, {})
        nowhere(sites, asking)
        nowhere(sites, answering)


def test_a_guest_that_does_not_answer_keeps_its_volume_until_it_is_off(
    libvirt_host: LibvirtHost, site: Site, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """The detach ends in its time, failed, with one sentence, and nothing was taken; asked again later, it succeeds."""
    site.start_worker()
    volume = file_volume(site, "held")
    done(site, "spawn", instance, small_guest | {"volumes": [volume]})
    request = {"volume_id": "held", "attempts": 2, "timeout_s": 1}

    job = site.settled(site.accept("detach_volume", instance, request))

    assert job["state"] == "failed"
    sentence = f"the guest {instance} did not let go of the disk vdb (volume held): it was asked 2 times"
    assert job["error"]["message"].startswith(sentence)
    began, ended = (datetime.fromisoformat(job[moment]) for moment in ("started_at", "ended_at"))
    assert 2 <= (ended - began).total_seconds() < 6
    with domain(libvirt_host, instance) as held:
        assert (serials(held), serials(held, INACTIVE)) == (["root", "held"], ["root", "held"])
        held.destroy()

    done(site, "detach_volume", instance, request)

    with domain(libvirt_host, instance) as off:
        assert serials(off, INACTIVE) == ["root"]
    elsewhere = uuid4()
    done(site, "spawn", elsewhere, small_guest | {"volumes": [volume]})
    for each in (instance, elsewhere):
        done(site, "destroy", each, {})
    assert site.files() == []
