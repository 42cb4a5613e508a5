"""The worker is killed with SIGKILL during each step of each operation, and started again."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tasks.catalogue import OPERATIONS
from tests.crash.moments import MAKING, Armed, Moment
from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

MORTAL = ("-m", "tests.crash.mortal_worker")
GUEST = {"name": "mortal", "memory_mib": 40, "disk_gib": 1}

#: Steps that never act in these runs: a local image is there or not, and nothing was superseded.
ONLY_LOOK = {
    "ImagesCached",
    "EarlierWorkEnded",
    "VolumesConnected",
    "InterfacesPlugged",
    "VolumesDisconnected",
    "InterfacesUnplugged",
}
#: Steps that a host alone has no part in.
OF_TWO_HOSTS = {"OtherHalfRemoved"}

#: The embedded driver loses a call with its process, where libvirtd completes it: it differs while a call is under way.
UNDER_WAY = {Moment.DO}

#: Beside those on the embedded driver: the moments at which most has happened that nobody has journaled.
IN_SLICE = {Moment.DO, Moment.MADE}

ROWS = [
    pytest.param(
        hypervisor,
        operation.name,
        step.name,
        moment,
        id=f"{hypervisor}-{operation.name}-{step.name}-{moment}",
        marks=() if moment in IN_SLICE else pytest.mark.beyond_slice,
    )
    for hypervisor in ("libvirtd", "embedded")
    for operation in (OPERATIONS["spawn"], OPERATIONS["destroy"])
    for step in operation.steps
    if step.name not in OF_TWO_HOSTS
    for moment in MAKING
    if (moment is Moment.LOOK or step.name not in ONLY_LOOK) and (hypervisor == "libvirtd" or moment in UNDER_WAY)
]


def mortal_site(**options: Any) -> Site:  # a site's own options
    """A site whose worker dies where it is armed."""
    return Site(worker_command=MORTAL, **options)


def nothing_is_left(site: Site, instance: UUID) -> None:
    """No file and no process of the instance is on the host."""
    assert site.files() == []
    assert site.qemu_pids(instance) == []


@pytest.mark.parametrize(("hypervisor", "operation", "step", "moment"), ROWS)
def test_a_job_whose_worker_was_killed_ends_as_it_would_have(
    request: pytest.FixtureRequest, hypervisor: str, operation: str, step: str, moment: Moment
) -> None:
    """The started-again worker carries on: one boot, one running guest, and after the destroy nothing is left."""
    host: LibvirtHost | None = request.getfixturevalue("libvirt_host") if hypervisor == "libvirtd" else None
    instance = uuid4()
    with mortal_site(libvirt=host) as site:
        Armed(site.folder, step, moment).arm()
        site.start_worker()
        spawned = site.accept("spawn", instance, GUEST)
        if operation == "spawn":
            eventually(lambda: not site.worker.alive, "the worker dies", 30)
            site.start_worker()
        job = site.settled(spawned)

        assert job["state"] == "succeeded", job
        assert [file for file in site.files() if file.endswith(".part")] == []
        assert len(site.qemu_pids(instance)) == 1
        if host is not None:
            assert site.boots(instance) == 1

        destroyed = site.accept("destroy", instance, {})
        if operation == "destroy":
            eventually(lambda: not site.worker.alive, "the worker dies", 30)
            site.start_worker()
        job = site.settled(destroyed)

        assert job["state"] == "succeeded", job
        nothing_is_left(site, instance)
        taken_over = [event["data"]["took_over"] for event in job["events"] if event["type"] == "claimed"]
        assert taken_over == ([False, True] if operation == "destroy" else [False])
