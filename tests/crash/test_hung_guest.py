"""A guest whose QEMU hangs, or whose spawn stands still at a step, and the destroy that comes then: on a libvirtd."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from models import reading
from tests.crash.moments import Armed, Deed, Moment
from tests.end_to_end.guests import done
from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.beyond_slice]

GUEST: dict[str, Any] = {"name": "hangs", "memory_mib": 40, "disk_gib": 1}
#: The promise: so long after the destroy was asked for, nothing of the guest is there, in seconds.
GONE_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def site(libvirt_host: LibvirtHost) -> Iterator[Site]:
    """One worker for all rows, which may be held at the moments of its steps."""
    with Site(libvirt=libvirt_host, worker_command=("-m", "tests.crash.mortal_worker")) as served:
        served.start_worker()
        yield served


def frozen(site: Site, instance: UUID) -> None:
    """Its QEMU answers nobody any more, and no signal but one."""
    done(site, "spawn", instance, GUEST)
    [process] = site.qemu_pids(instance)
    os.kill(process, signal.SIGSTOP)


def destroyed(site: Site, instance: UUID, request: dict[str, Any], within_s: float = GONE_WITHIN_S) -> str:
    """Destroy it; nothing is left in time. The job's id."""
    began = time.monotonic()
    destroying = site.accept("destroy", instance, request)
    job = site.settled(destroying)
    assert job["state"] == "succeeded", job
    assert time.monotonic() - began < within_s
    assert (site.qemu_pids(instance), [file for file in site.files() if str(instance) in file]) == ([], [])
    return destroying


def superseded(site: Site, job_id: str, by: str) -> None:
    """The earlier job is cancelled, and says why; no thread is left at it."""
    job = reading.job(site.database, job_id)
    assert job is not None
    assert job.outcome is not None
    assert (job.state.value, job.outcome["superseded_by"]) == ("cancelled", by)


def test_process_stopped_and_a_suspend_call_blocked_on_the_monitor(site: Site) -> None:
    """The destroy does not queue behind it."""
    instance = uuid4()
    frozen(site, instance)
    pausing = site.accept("pause", instance, {})
    eventually(lambda: site.state_of(pausing) == "running", "the pause runs", 20.0)
    superseded(site, pausing, destroyed(site, instance, {}))


def test_a_hung_guest_that_is_asked_to_shut_down_is_killed_at_its_deadline(site: Site) -> None:
    """The asking hangs with it, and the deadline holds."""
    instance = uuid4()
    frozen(site, instance)
    destroyed(site, instance, {"timeout_s": 3}, GONE_WITHIN_S + 3)


@pytest.mark.parametrize(
    ("step", "moment"),
    [("RootDiskCreated", Moment.MADE), ("DomainDefined", Moment.MADE), ("DomainRunning", Moment.MADE)],
)
def test_a_destroy_of_a_spawn_that_stands_still(site: Site, step: str, moment: Moment) -> None:
    """Whatever it has made until then goes, once what it has in hand has returned."""
    instance = uuid4()
    held = Armed(site.folder, step, moment)
    held.arm(Deed.HOLD)
    try:
        spawning = site.accept("spawn", instance, GUEST)
        eventually(lambda: held.met, f"the spawn is held at {step}", 30.0)
        destroying = site.accept("destroy", instance, {})
        eventually(lambda: site.state_of(spawning) == "cancelled", "the spawn is superseded", GONE_WITHIN_S)
        eventually(lambda: site.qemu_pids(instance) == [], "the guest is gone", GONE_WITHIN_S)
    finally:
        held.disarm()
    assert site.settled(destroying)["state"] == "succeeded"
    assert [file for file in site.files() if str(instance) in file] == []
    superseded(site, spawning, destroying)
