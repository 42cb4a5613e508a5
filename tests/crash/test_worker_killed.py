"""The worker is killed with SIGKILL during each step of each operation, and started again.

With all other tests few guests outlive many workers: one dies in every step of a guest's spawn and of its destroy, each
in its turn. `make crash` also has a guest for each death alone.
"""

from itertools import zip_longest
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
DIES_WITHIN_S = 30.0
GUEST = {"name": "mortal", "memory_mib": 40, "disk_gib": 1, "swap_mib": 1}

#: Steps that never act in these runs: a local image is there or not, and nothing was superseded.
ONLY_LOOK = {
    "ImagesCached",
    "ConfigDriveWritten",
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

#: A job that outlived no more workers than these is not quarantined.
DEATHS_OF_A_JOB = 4


def acts(step: str) -> bool:
    """Whether the step has an effect in these runs."""
    return step not in ONLY_LOOK | OF_TWO_HOSTS


ROWS = [
    pytest.param(
        hypervisor,
        operation.name,
        step.name,
        moment,
        id=f"{hypervisor}-{operation.name}-{step.name}-{moment}",
        marks=pytest.mark.beyond_slice,
    )
    for hypervisor in ("libvirtd", "embedded")
    for operation in (OPERATIONS["spawn"], OPERATIONS["destroy"])
    for step in operation.steps
    if step.name not in OF_TWO_HOSTS
    for moment in MAKING
    if (moment is Moment.LOOK or acts(step.name)) and (hypervisor == "libvirtd" or moment in UNDER_WAY)
]

Deaths = tuple[tuple[str, Moment], ...]


def deaths(operation: str, moments: tuple[Moment, ...]) -> list[Deaths]:
    """Every step that acts, with the moments in turn: as many to a job as it may outlive."""
    steps = [step.name for step in OPERATIONS[operation].steps if acts(step.name)]
    every = [(step, moments[number % len(moments)]) for number, step in enumerate(steps)]
    return [tuple(every[first : first + DEATHS_OF_A_JOB]) for first in range(0, len(every), DEATHS_OF_A_JOB)]


#: The moments at which most has happened that nobody has journaled, in turn and then the other way round.
TURNS = {
    "libvirtd": ((Moment.DO, Moment.MADE), (Moment.MADE, Moment.DO)),
    "embedded": ((Moment.DO,),),
}
LIVES = [
    pytest.param(hypervisor, spawn, destroy, id=f"{hypervisor}-{'-'.join(moments)}-{number}")
    for hypervisor, turns in TURNS.items()
    for moments in turns
    for number, (spawn, destroy) in enumerate(
        zip_longest(deaths("spawn", moments), deaths("destroy", moments), fillvalue=())
    )
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
            eventually(lambda: not site.worker.alive, "the worker dies", DIES_WITHIN_S)
            site.start_worker()
        job = site.settled(spawned)

        assert job["state"] == "succeeded", job
        assert [file for file in site.files() if file.endswith(".part")] == []
        assert len(site.qemu_pids(instance)) == 1
        if host is not None:
            assert site.boots(instance) == 1

        destroyed = site.accept("destroy", instance, {})
        if operation == "destroy":
            eventually(lambda: not site.worker.alive, "the worker dies", DIES_WITHIN_S)
            site.start_worker()
        job = site.settled(destroyed)

        assert job["state"] == "succeeded", job
        nothing_is_left(site, instance)
        taken_over = [event["data"]["took_over"] for event in job["events"] if event["type"] == "claimed"]
        assert taken_over == ([False, True] if operation == "destroy" else [False])


@pytest.mark.parametrize(("hypervisor", "deaths_of_spawn", "deaths_of_destroy"), LIVES)
def test_a_guest_outlives_a_worker_in_every_step(
    request: pytest.FixtureRequest, hypervisor: str, deaths_of_spawn: Deaths, deaths_of_destroy: Deaths
) -> None:
    """It boots once, however many workers that takes, and in the end nothing of it is left."""
    host: LibvirtHost | None = request.getfixturevalue("libvirt_host") if hypervisor == "libvirtd" else None
    instance = uuid4()
    with mortal_site(libvirt=host) as site:
        site.start_worker()
        job = outlived(site, "spawn", instance, GUEST, deaths_of_spawn)

        assert job["state"] == "succeeded", job
        assert [file for file in site.files() if file.endswith(".part")] == []
        assert len(site.qemu_pids(instance)) == 1
        if host is not None:
            assert site.boots(instance) == 1

        job = outlived(site, "destroy", instance, {}, deaths_of_destroy)

        assert job["state"] == "succeeded", job
        nothing_is_left(site, instance)


def outlived(site: Site, operation: str, instance: UUID, asked: dict[str, Any], deaths: Deaths) -> dict[str, Any]:
    """The job, ended, after a worker died at each of these moments; each was met, and taken over once."""
    armed = [Armed(site.folder, step, moment) for step, moment in deaths]
    for death in armed:
        death.arm()
    job_id = site.accept(operation, instance, asked)
    for death in armed:
        eventually(lambda: not site.worker.alive, f"the worker dies in {death.step}", DIES_WITHIN_S)
        assert death.met, f"it died before {death.step}"
        site.start_worker()
    job = site.settled(job_id)
    taken_over = [event["data"]["took_over"] for event in job["events"] if event["type"] == "claimed"]
    assert taken_over == [False] + [True] * len(deaths)
    return job


def test_a_start_that_was_lost_before_its_qemu_began_is_made_again() -> None:
    """There is no more left of it than that it was begun; the embedded driver's next process starts the guest."""
    instance = uuid4()
    with Site() as site:
        site.start_worker()
        spawned = site.accept("spawn", instance, GUEST)
        begun = site.state / f"libvirt/run/qemu/{instance}.xml"
        eventually(begun.exists, "libvirt has written down that it starts the guest", DIES_WITHIN_S, poll_s=0.0005)
        site.kill_worker()
        site.start_worker()

        job = site.settled(spawned)
        assert job["state"] == "succeeded", job
        assert len(site.qemu_pids(instance)) == 1
        job = site.settled(site.accept("destroy", instance, {}))
        assert job["state"] == "succeeded", job
        nothing_is_left(site, instance)
