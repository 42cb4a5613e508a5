"""Workers and libvirtds of both hosts, and their link, break at each step of a migration and while it transfers.

One guest is migrated to and fro, row after row. While anything is broken a witness looks at both hosts; afterwards
there is one running copy, where the journal says, that has lost neither a beat nor a byte.
"""

import random
from collections.abc import Iterator

import pytest

from models import reading
from tasks.catalogue import OPERATIONS
from tests.crash.breaking import ON_THE_WAY, Fault, Way, passing
from tests.crash.moments import MAKING, Armed, Deed, Moment
from tests.crash.wanderer import Lab, Wanderer
from tests.crash.witness import HostEye
from tests.lab.guest_image import GuestImage
from tests.lab.host_pair import HostPair
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

MIGRATE = OPERATIONS["migrate"]
MET_WITHIN_S = 30.0
#: A job that outlived no more workers than these is not quarantined.
DEATHS_OF_A_JOB = 4
#: How far into the call the guest's memory is on its way, in seconds.
IN_FLIGHT_S = 0.5
#: The transfer lasts about 8 s.
SLOWLY = {"bandwidth_mib_s": 6, "downtime_steps": 1, "downtime_ms": 1000}
TRANSFER_S = 9.0
#: From the guest's stop at the source until it runs on the destination.
SWITCH_S = 0.12
MOMENTS_OF_TRANSFER = 10
MOMENTS_OF_SWITCH = 10

#: Steps that never act in these runs: that it fits is only looked at, and the guest is defined as it arrives.
ONLY_LOOK = {"DestinationFits", "DomainPersistent"}
OF_DEVICES = {"DestinationVolumesConnected", "DestinationInterfacesPlugged"}
WORKERS = (Fault.SOURCE_WORKER, Fault.DESTINATION_WORKER)
OTHERS = (Fault.SOURCE_LIBVIRTD, Fault.DESTINATION_LIBVIRTD, Fault.LONG_LINK)
AT_SWITCH = (Fault.SOURCE_LIBVIRTD, Fault.DESTINATION_LIBVIRTD, Fault.LONG_LINK, Fault.CUT)


def own_worker(step: str) -> Fault:
    """The worker that carries the step out."""
    return Fault.DESTINATION_WORKER if step in MIGRATE.at_peer else Fault.SOURCE_WORKER


def in_slice(step: str, moment: Moment, fault: Fault) -> bool:
    """The most telling rows: all that can break while the guest moves."""
    return step == "DomainMigrated" and moment is Moment.DO and fault in {*WORKERS, *OTHERS}


def deaths() -> list[tuple[tuple[str, Moment], ...]]:
    """Every other step's own worker, dying with the effect made: as many to a migration as it may outlive."""
    every = [
        (step.name, Moment.LOOK if step.name in ONLY_LOOK else Moment.MADE)
        for step in MIGRATE.steps
        if step.name != "DomainMigrated"
    ]
    return [tuple(every[first : first + DEATHS_OF_A_JOB]) for first in range(0, len(every), DEATHS_OF_A_JOB)]


ROWS = [
    pytest.param(
        step.name,
        moment,
        fault,
        id=f"{step.name}-{moment}-{fault}",
        marks=() if in_slice(step.name, moment, fault) else pytest.mark.beyond_slice,
    )
    for step in MIGRATE.steps
    for moment in MAKING
    if moment is Moment.LOOK or step.name not in ONLY_LOOK
    for fault in Fault
]


def numbered(count: int, in_slice: int) -> list[object]:
    """Rows that chance tells apart."""
    return [pytest.param(n, marks=() if n < in_slice else pytest.mark.beyond_slice) for n in range(count)]


@pytest.fixture(scope="module", params=["volume", pytest.param("root", marks=pytest.mark.beyond_slice)])
def wanderer(
    request: pytest.FixtureRequest,
    lasting_host_pair: HostPair,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    guest_image: GuestImage,
) -> Iterator[Wanderer]:
    """The guest, on a volume and a bridge that both hosts reach, or on a disk of its own that is copied."""
    guest = Wanderer(Lab(lasting_host_pair, postgres_server, redis_server, guest_image), request.param)
    yield guest
    guest.close()


@pytest.mark.parametrize(("step", "moment", "fault"), ROWS)
def test_a_migration_survives_what_breaks_at_a_step(
    wanderer: Wanderer, step: str, moment: Moment, fault: Fault
) -> None:
    """Whatever breaks there, it ends in time, and as it should."""
    if wanderer.disk == "root" and step in OF_DEVICES and moment is not Moment.LOOK:
        pytest.skip("a guest with a disk of its own has neither volume nor interface: the step never acts")
    wanderer.ready()
    way = wanderer.way
    site = way.destination if step in MIGRATE.at_peer else way.source
    armed = Armed(site.folder, step, moment)
    dies = fault is own_worker(step)
    armed.arm(Deed.DIE if dies else Deed.HOLD)
    try:
        with wanderer.travels():
            if dies:
                eventually(lambda: not site.worker.alive, "the worker dies", MET_WITHIN_S)
                site.start_worker()
                return
            eventually(lambda: armed.met, "the worker is there", MET_WITHIN_S)
            if step == "DomainMigrated" and moment is Moment.DO:
                passing(IN_FLIGHT_S)
            way.break_and_mend(fault, armed.release)
    finally:
        armed.disarm()


@pytest.mark.parametrize("dying", deaths(), ids=lambda dying: "-".join(step for step, _ in dying))
def test_a_migration_outlives_a_worker_in_every_step(wanderer: Wanderer, dying: tuple[tuple[str, Moment], ...]) -> None:
    """One dies after another, on whichever host the step is at; the guest arrives once."""
    if wanderer.disk == "root" and OF_DEVICES & {step for step, _ in dying}:
        pytest.skip("a guest with a disk of its own has neither volume nor interface: the step never acts")
    wanderer.ready()
    way = wanderer.way
    at = {step: way.destination if step in MIGRATE.at_peer else way.source for step, _ in dying}
    armed = [(at[step], Armed(at[step].folder, step, moment)) for step, moment in dying]
    for _, death in armed:
        death.arm()
    try:
        with wanderer.travels():
            for site, death in armed:
                eventually(lambda: not site.worker.alive, f"the worker dies in {death.step}", MET_WITHIN_S)  # noqa: B023
                assert death.met
                site.start_worker()
    finally:
        for _, death in armed:
            death.disarm()


@pytest.mark.parametrize("number", numbered(MOMENTS_OF_TRANSFER, 1))
def test_a_migration_survives_what_breaks_at_any_moment_of_the_transfer(
    wanderer: Wanderer, draw: random.Random, number: int
) -> None:
    """Chance says what, and when."""
    fault, after_s = draw.choice(ON_THE_WAY), draw.uniform(0.0, TRANSFER_S)
    print(f"{number}: {fault} after {after_s:.2f} s")
    wanderer.ready()
    way = wanderer.way
    with wanderer.travels(**SLOWLY) as travel:
        eventually(lambda: in_flight(way, travel.job), "memory comes through", MET_WITHIN_S)
        passing(after_s)
        way.break_and_mend(fault)


@pytest.mark.parametrize("number", numbered(MOMENTS_OF_SWITCH, 1))
def test_the_guest_runs_once_whatever_breaks_at_the_switch(
    wanderer: Wanderer, draw: random.Random, number: int
) -> None:
    """In the moment in which neither host knows whether the other one lets the guest run."""
    fault, after_s = draw.choice(AT_SWITCH), draw.uniform(0.0, SWITCH_S)
    print(f"{number}: {fault} {after_s:.3f} s after the guest stopped")
    wanderer.ready()
    way = wanderer.way
    eye = HostEye(way.host(way.source), wanderer.instance)
    assert eye.state() == "running"
    with wanderer.travels():
        eventually(lambda: eye.state() != "running", "the guest stops at the source", MET_WITHIN_S, poll_s=0.001)
        passing(after_s)
        way.break_and_mend(fault)


def in_flight(way: Way, job_id: str) -> bool:
    """Whether the journal tells of memory that has come through."""
    job = reading.job(way.source.database, job_id)
    return bool(job and job.progress and job.progress.get("done_bytes"))
