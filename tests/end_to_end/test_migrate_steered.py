"""Migrations under way, as operators see and steer them: watched, forced to complete, called off."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from celery.exceptions import TaskRevokedError

from tests.end_to_end.guests import AGAIN_IF_LOST, booting, domain, done, goes_on, in_flight, only_on, spawned
from tests.lab.guest_console import boots_seen
from tests.lab.guest_image import GuestImage
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.site_pair import SitePair

pytestmark = [pytest.mark.real, AGAIN_IF_LOST]

#: At this pace the guests below are under way for minutes.
SLOW = {"bandwidth_mib_s": 1}
#: Two seconds: a small guest counts as 2 GiB.
SOON = {"completion_timeout_s_per_gib": 1}


def asked(outsider: Orchestrator, verb: str, job_id: str) -> dict[str, Any]:
    """What a plain Celery client hears when it asks this of a job."""
    sent = outsider.app.send_task(f"ops.{verb}", kwargs={"job": job_id, "reason": "a test"}, queue="ops")
    answer: dict[str, Any] = sent.get(timeout=RESULT_WITHIN_S)
    return answer


def test_a_guest_that_writes_faster_than_the_link_carries_stays_or_is_forced(
    sites: SitePair, outsider: Orchestrator, instance: UUID, guest_image: GuestImage
) -> None:
    """Its time up, it stays or goes by post-copy, as the request says; operators force it without waiting for that."""
    first, second = sites.sites
    spawned(first, instance, booting(guest_image, dirty=16))

    late = first.settled(first.accept("migrate", instance, {"destination": "h2", **SLOW, **SOON}))
    assert (late["state"], late["error"]["class"]) == ("failed", "permanent")
    assert late["error"]["message"] == f"the migration of {instance} was not done within 2 s"
    only_on(sites, first, instance)
    goes_on(first, instance)

    done(
        first,
        "migrate",
        instance,
        {"destination": "h2", "post_copy": True, "on_timeout": "force_complete", **SLOW, **SOON},
    )
    only_on(sites, second, instance)
    goes_on(second, instance)

    by_hand = second.accept("migrate", instance, {"destination": "h1", "post_copy": True, "bandwidth_mib_s": 4})
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(second.hostler, "jobs", "watch", by_hand)
        in_flight(second, by_hand, percent=12)
        forced = second.hostler("jobs", "force-complete", by_hand, "--because", "the host is needed")
        assert forced.stdout == f"job {by_hand}: the migration is made to complete, by post-copy.\n"
        assert second.settled(by_hand)["state"] == "succeeded"
        watched = watching.result()
    assert watched.returncode == 0
    assert re.search(r"migrating \d+ %, \d+ of \d+ MiB, about \d+ s left", watched.stderr), watched.stderr
    only_on(sites, first, instance)
    goes_on(first, instance)

    paused = first.accept("migrate", instance, {"destination": "h2", "bandwidth_mib_s": 20})
    in_flight(first, paused)
    taken = asked(outsider, "job_force_complete", paused)
    again = asked(outsider, "job_force_complete", paused)
    told = f"job {paused}: the migration is made to complete, its guest paused until it is over."
    assert taken == {"taken": True, "sentence": told}
    assert again == {"taken": False, "sentence": f"job {paused} was asked to complete already."}
    assert first.settled(paused)["state"] == "succeeded"
    only_on(sites, second, instance)
    goes_on(second, instance)


def test_a_migration_that_is_called_off_leaves_the_guest_where_it_is(
    sites: SitePair, outsider: Orchestrator, instance: UUID, guest_image: GuestImage
) -> None:
    """By the command line, by a plain Celery client's verb, by its revoke, and by libvirt; too late, it is refused."""
    first, second = sites.sites
    spawned(first, instance, booting(guest_image))
    slow = {"destination": "h2", **SLOW}

    by_hand = first.accept("migrate", instance, slow)
    in_flight(first, by_hand)
    cancelled = first.hostler("jobs", "cancel", by_hand, "--because", "not today")
    assert cancelled.stdout == f"job {by_hand} is running; it stops at its next safe point.\n"
    assert first.settled(by_hand)["state"] == "cancelled"
    only_on(sites, first, instance)
    goes_on(first, instance)

    by_verb = outsider.send("migrate", instance, slow)
    in_flight(first, by_verb.id)
    assert asked(outsider, "job_cancel", by_verb.id)["taken"] is True
    with pytest.raises(TaskRevokedError):
        by_verb.get(timeout=RESULT_WITHIN_S)
    only_on(sites, first, instance)

    revoked = outsider.send("migrate", instance, slow)
    in_flight(first, revoked.id)
    outsider.app.control.revoke(revoked.id)
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=RESULT_WITHIN_S)
    assert first.state_of(revoked.id) == "cancelled"
    only_on(sites, first, instance)
    goes_on(first, instance)

    aborted = first.accept("migrate", instance, slow)
    in_flight(first, aborted)
    with domain(sites.hosts.first, instance) as virsh:
        virsh.abortJob()
    failed = first.settled(aborted)
    assert (failed["state"], failed["error"]["class"]) == ("failed", "permanent")
    assert failed["error"]["code"] == "OPERATION_ABORTED"
    assert "was aborted past Hostler, as by `virsh domjobabort`" in failed["error"]["message"]
    only_on(sites, first, instance)
    goes_on(first, instance)

    moved = done(first, "migrate", instance, {"destination": "h2"})["id"]
    refused = first.hostler("jobs", "cancel", moved)
    assert (refused.returncode, refused.stderr) == (2, f"job {moved} has succeeded already.\n")
    assert asked(outsider, "job_cancel", moved) == {"taken": False, "sentence": f"job {moved} has succeeded already."}
    only_on(sites, second, instance)
    goes_on(second, instance)
    assert len(boots_seen(second.console(instance))) == 0
