"""The worker is killed with SIGKILL during each step of each operation, and started again."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tasks.catalogue import OPERATIONS
from tests.crash.mortal_worker import Moment
from tests.lab.hosts import LibvirtHost
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

MORTAL = ("-m", "tests.crash.mortal_worker")
GUEST = {"name": "mortal", "memory_mib": 40, "disk_gib": 1}

#: Steps that never act in these runs: a local image is there or not, and nothing was superseded.
ONLY_LOOK = {"ImagesCached", "EarlierWorkEnded"}

#: The embedded driver loses a call with its process, where libvirtd completes it: it differs while a call is under way.
UNDER_WAY = {Moment.DO}

ROWS = [
    (hypervisor, operation.name, step.name, moment)
    for hypervisor in ("libvirtd", "embedded")
    for operation in OPERATIONS.values()
    for step in operation.steps
    for moment in Moment
    if (moment is Moment.LOOK or step.name not in ONLY_LOOK) and (hypervisor == "libvirtd" or moment in UNDER_WAY)
]


def mortal_site(kills: str, **options: Any) -> Site:  # a site's own options
    """A site whose worker dies where `kills` says."""
    return Site(worker_command=MORTAL, kills=kills, **options)


def nothing_is_left(site: Site, instance: UUID) -> None:
    """No file and no process of the instance is on the host."""
    assert site.files() == []
    assert site.qemu_pids(instance) == []


@pytest.mark.parametrize(("hypervisor", "operation", "step", "moment"), ROWS, ids=["-".join(row) for row in ROWS])
def test_a_job_whose_worker_was_killed_ends_as_it_would_have(
    request: pytest.FixtureRequest, hypervisor: str, operation: str, step: str, moment: Moment
) -> None:
    """The started-again worker carries on: one boot, one running guest, and after the destroy nothing is left."""
    host: LibvirtHost | None = request.getfixturevalue("libvirt_host") if hypervisor == "libvirtd" else None
    instance = uuid4()
    with mortal_site(f"{step}:{moment}", libvirt=host) as site:
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


def test_a_chain_whose_worker_is_killed_in_each_link_happens_once(
    libvirt_host: LibvirtHost, postgresql_url: str, redis_url: str
) -> None:
    """Spawn, then destroy, sent as one chain: both are done once, and the chain's result arrives."""
    instance = uuid4()
    orchestrator = Orchestrator(redis_url)
    kills = "DomainRunning:do,DomainUndefined:made"
    with mortal_site(kills, libvirt=libvirt_host, database_url=postgresql_url, broker_url=redis_url) as site:
        assert site.hostler("db", "upgrade").returncode == 0
        site.start_worker()
        spawn = orchestrator.signature("spawn", instance, GUEST)
        destroy = orchestrator.signature("destroy", instance, {})
        result = (spawn | destroy).apply_async()
        for _ in range(2):
            eventually(lambda: not site.worker.alive, "the worker dies", 30)
            site.start_worker()

        outcome = result.get(timeout=RESULT_WITHIN_S)

        assert (outcome["operation"], outcome["state"]) == ("destroy", "succeeded")
        assert result.parent.get(timeout=5)["operation"] == "spawn"
        jobs = site.jobs()
        assert [(job["operation"], job["state"]) for job in jobs] == [("destroy", "succeeded"), ("spawn", "succeeded")]
        assert libvirt_host.boots(instance) == 1
        nothing_is_left(site, instance)
    orchestrator.close()
