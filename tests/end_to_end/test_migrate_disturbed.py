"""Migrations in the middle of which something else happens: a link fails, another job comes."""

from contextlib import closing
from uuid import UUID

import pytest

from tests.end_to_end.guests import (
    AGAIN_IF_LOST,
    Said,
    booting,
    done,
    goes_on,
    heard,
    in_flight,
    nbd_volume,
    nowhere,
    only_on,
    running,
    spawned,
)
from tests.lab.guest_console import boots_seen, disk_checks, disks_seen, heartbeats
from tests.lab.guest_image import GuestImage
from tests.lab.nbd import NbdServer
from tests.lab.site_pair import SitePair
from tests.lab.waiting import eventually

pytestmark = [pytest.mark.real, AGAIN_IF_LOST]

ENDED = {"succeeded", "failed", "cancelled", "quarantined"}


def test_a_link_that_fails_in_the_middle_is_told_of_and_outlived(
    sites: SitePair, instance: UUID, guest_image: GuestImage
) -> None:
    """Whoever shows the job soon reads of it; no second guest ever runs; once the link is whole, the job succeeds."""
    first, second = sites.sites
    spawned(first, instance, booting(guest_image))

    def at_most_one() -> None:
        assert sum(running(host, instance) for host in (sites.hosts.second, sites.hosts.first)) <= 1

    def told() -> bool:
        shown = first.hostler("jobs", "show", job_id).stdout
        return "nothing has come through for" in shown or "waits until" in shown

    with closing(Said(first, instance)) as said:
        job_id = first.accept("migrate", instance, {"destination": "h2", "bandwidth_mib_s": 12})
        in_flight(first, job_id, percent=10)
        sites.hosts.network.drop("lab-1")
        eventually(told, "the operator is told", 30.0, watch=at_most_one)
        sites.hosts.heal()
        eventually(
            lambda: first.state_of(job_id) in ENDED, "the job ends by itself", 60.0, poll_s=0.1, watch=at_most_one
        )

        assert first.state_of(job_id) == "succeeded"
        only_on(sites, second, instance)
        said.comes_to(second)
        goes_on(second, instance)
        assert len(boots_seen(said.text)) == 1
        assert heartbeats(said.text) == list(range(1, len(heartbeats(said.text)) + 1))


def test_jobs_that_come_in_the_middle_find_the_guest_wherever_it_is(
    sites: SitePair, instance: UUID, guest_image: GuestImage, nbd_server: NbdServer
) -> None:
    """An attach waits, and goes after it to the other host; a destroy ends the migration and clears both hosts."""
    first, second = sites.sites
    spawned(first, instance, booting(guest_image, disk="late"))
    there = first.accept("migrate", instance, {"destination": "h2", "bandwidth_mib_s": 30})
    in_flight(first, there)

    attached = done(first, "attach_volume", instance, {"volume": nbd_volume(nbd_server, "late")})

    assert first.state_of(there) == "succeeded"
    assert (attached["host"], attached["outcome"]["host"]) == ("h2", "h2")
    [check] = heard(second, instance, lambda: disk_checks(second.console(instance)), "the guest writes to it")
    assert check.ok
    assert disks_seen(second.console(instance)) == [{"vda": "late"}]
    only_on(sites, second, instance)

    back = second.accept("migrate", instance, {"destination": "h1", "bandwidth_mib_s": 1})
    in_flight(second, back)

    destroyed = done(second, "destroy", instance, {})

    ended = second.settled(back)
    assert (ended["state"], ended["outcome"]["superseded_by"]) == ("cancelled", destroyed["id"])
    nowhere(sites, instance)
