"""The worker is killed at each moment of each power operation: its effect is made once, whoever makes it."""

from typing import Any
from uuid import uuid4

import libvirt
import pytest

from tasks.catalogue import OPERATIONS
from tests.crash.moments import MAKING, Armed, Moment
from tests.crash.test_worker_killed import GUEST, mortal_site, nothing_is_left
from tests.end_to_end.guests import domain, done
from tests.lab.hosts import LibvirtHost
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

DIES_WITHIN_S = 30.0
#: What each is asked with, what the guest is brought to before, and what libvirt shows after.
SCENES: dict[str, tuple[dict[str, Any], str | None, int]] = {
    "pause": ({}, None, libvirt.VIR_DOMAIN_PAUSED),
    "unpause": ({}, "pause", libvirt.VIR_DOMAIN_RUNNING),
    "suspend": ({}, None, libvirt.VIR_DOMAIN_SHUTOFF),
    "resume": ({}, "suspend", libvirt.VIR_DOMAIN_RUNNING),
    "stop": ({"timeout_s": 0}, None, libvirt.VIR_DOMAIN_SHUTOFF),
    "start": ({}, "stop", libvirt.VIR_DOMAIN_RUNNING),
    "reboot": ({"type": "hard"}, None, libvirt.VIR_DOMAIN_RUNNING),
}
#: These begin a process, one and no more.
BEGIN_ONE = {"resume", "start", "reboot"}
#: None is in the slice: with all other tests a worker is killed in most of them on a guest that boots.
ROWS = [
    pytest.param(operation, moment, id=f"{operation}-{moment}", marks=pytest.mark.beyond_slice)
    for operation in SCENES
    for moment in MAKING
]


@pytest.mark.parametrize(("operation", "moment"), ROWS)
def test_a_guest_comes_to_what_was_asked_for_once(libvirt_host: LibvirtHost, operation: str, moment: Moment) -> None:
    """And after the destroy, of a suspended guest too, nothing of it is left."""
    request, before, state = SCENES[operation]
    instance = uuid4()
    with mortal_site(libvirt=libvirt_host) as site:
        site.start_worker()
        done(site, "spawn", instance, GUEST)
        if before is not None:
            done(site, before, instance, SCENES[before][0])
        boots = libvirt_host.boots(instance)
        [step] = OPERATIONS[operation].steps
        Armed(site.folder, step.name, moment).arm()
        job_id = site.accept(operation, instance, request)
        eventually(lambda: not site.worker.alive, "the worker dies", DIES_WITHIN_S)
        site.start_worker()
        job = site.settled(job_id)
        assert job["state"] == "succeeded", job
        with domain(libvirt_host, instance) as found:
            assert found.state()[0] == state
            assert bool(found.hasManagedSaveImage()) == (operation == "suspend")
        assert libvirt_host.boots(instance) == boots + (operation in BEGIN_ONE)
        done(site, "destroy", instance, {})
        nothing_is_left(site, instance)
