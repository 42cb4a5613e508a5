"""Halves of a migration where libvirt's answers change, break or never come."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast
from uuid import UUID, uuid4

import libvirt
import pytest

from models.states import ErrorClass
from tasks.host import Domain, DomainState, Half, HostError, Peer
from tests.worker.host.doubles import ConnectionsDouble, DomainDouble, libvirt_error
from worker.host.migrations.calls import Questions
from worker.host.migrations.endings import AdoptedEnding
from worker.host.migrations.fitness import refuse_namesake, refuse_other_cpu
from worker.host.migrations.jobs import figures_in, half_of
from worker.host.migrations.pace import NO_JOB
from worker.host.migrations.peers import Peers
from worker.host.migrations.travelling import Traveller

OUT, IN = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN
PEER = Peer("h2", "qemu+tcp://h2/system", "192.0.2.2")
SOON_S = 10.0


class MovingDouble(DomainDouble):
    """A domain of ours, with what libvirt says of its job."""

    def __init__(self, instance: UUID, *, run: int = 7) -> None:
        super().__init__(instance, run=run)
        self.stats: Callable[[], dict[str, Any]] = lambda: {"type": libvirt.VIR_DOMAIN_JOB_NONE}

    def jobStats(self) -> dict[str, Any]:  # noqa: N802 - libvirt's name
        """What it says."""
        return self.stats()


class Scene:
    """A libvirt with one domain, or none."""

    def __init__(self) -> None:
        self.instance = uuid4()
        self.domain = MovingDouble(self.instance)
        self.connection = ConnectionsDouble(self.domain)

    def half(self) -> Half:
        """As seen."""
        return half_of(self.connection, self.instance)

    def job(self, kind: int, operation: int = OUT) -> None:
        """There is such a job."""
        self.domain.stats = lambda: {"type": kind, "operation": operation}

    def raises(self, code: str) -> None:
        """Libvirt answers so when it is asked for the job."""

        def answer() -> dict[str, Any]:
            raise libvirt_error(code)

        self.domain.stats = answer


@pytest.fixture
def scene() -> Scene:
    """A running domain without a job."""
    return Scene()


# --- a half


def test_a_domain_without_a_job_lives_here(scene: Scene) -> None:
    """Neither arriving nor leaving."""
    assert (scene.half().under_way, scene.half().runs) == (False, True)


@pytest.mark.parametrize(
    ("kind", "operation", "expected"),
    [
        (libvirt.VIR_DOMAIN_JOB_UNBOUNDED, OUT, True),
        (libvirt.VIR_DOMAIN_JOB_FAILED, OUT, True),  # packets are lost: it has not ended
        (libvirt.VIR_DOMAIN_JOB_COMPLETED, OUT, True),  # the destination has not answered yet
        (libvirt.VIR_DOMAIN_JOB_UNBOUNDED, IN, True),
        (libvirt.VIR_DOMAIN_JOB_UNBOUNDED, libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT, False),
        (libvirt.VIR_DOMAIN_JOB_NONE, OUT, False),
    ],
)
def test_a_job_is_a_migration_until_libvirt_has_none(
    scene: Scene, kind: int, operation: int, *, expected: bool
) -> None:
    """Whatever its type."""
    scene.job(kind, operation)
    assert scene.half().under_way is expected


def test_the_answer_that_only_an_arriving_guest_gets_means_that_it_arrives(scene: Scene) -> None:
    """Its statistics are the other host's."""
    scene.raises("OPERATION_UNSUPPORTED")
    assert (scene.half().under_way, scene.half().runs) == (True, False)


@pytest.mark.parametrize("code", ["OPERATION_INVALID", "NO_DOMAIN"])
def test_a_domain_that_ended_meanwhile_has_no_job(scene: Scene, code: str) -> None:
    """And is looked at again."""

    def ends() -> dict[str, Any]:
        scene.domain.run = -1
        raise libvirt_error(code)

    scene.domain.stats = ends
    half = scene.half()
    assert half.domain is not None
    assert (half.domain.state, half.under_way) == (DomainState.SHUT_OFF, False)


def test_a_guest_that_came_between_two_questions_is_not_taken_for_one_that_lives_here(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job belongs to what was seen before and after it."""
    scene.connection.domain = None
    looks = 0
    lookup = scene.connection.lookupByUUID

    def comes(uuid: bytes) -> DomainDouble:
        nonlocal looks
        looks += 1
        if looks == 2:
            scene.connection.domain = scene.domain
            scene.raises("OPERATION_UNSUPPORTED")
        return lookup(uuid)

    monkeypatch.setattr(scene.connection, "lookupByUUID", comes)
    assert scene.half().under_way


def test_a_domain_that_never_holds_still_is_not_judged(scene: Scene) -> None:
    """The job waits."""

    def restarts() -> dict[str, Any]:
        scene.domain.run += 1
        return {"type": libvirt.VIR_DOMAIN_JOB_NONE}

    scene.domain.stats = restarts
    with pytest.raises(HostError) as caught:
        scene.half()
    assert caught.value.error_class is ErrorClass.TRANSIENT


def test_an_absent_domain_has_no_half(scene: Scene) -> None:
    """It was proven."""
    scene.connection.domain = None
    assert scene.half() == Half(None)


def test_figures_are_libvirts() -> None:
    """In bytes, and in seconds."""
    stats = {
        "type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "operation": OUT, "data_processed": 1, "data_remaining": 2,
        "data_total": 4, "time_elapsed": 1500, "memory_iteration": 3,
    }  # fmt: skip
    figures = figures_in(stats, None)
    assert (figures.done_bytes, figures.remaining_bytes, figures.total_bytes) == (1, 2, 4)
    assert (figures.elapsed_s, figures.iteration, figures.post_copy, figures.broken) == (1.5, 3, False, False)
    assert figures_in(stats, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY).post_copy
    halted = figures_in(stats, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)
    assert (halted.post_copy, halted.broken) == (True, True)
    assert figures_in({"type": libvirt.VIR_DOMAIN_JOB_NONE}, None) == NO_JOB


# --- the end of an adopted migration


@pytest.mark.parametrize(
    ("domain", "leaves"),
    [
        (None, True),
        (Domain(DomainState.SHUT_OFF, persistent=True, identity=None, reason="migrated"), True),
        (Domain(DomainState.RUNNING, persistent=True, identity=None), False),
        (Domain(DomainState.PAUSED, persistent=True, identity=None, reason="migration"), False),
    ],
)
def test_an_adopted_migration_ended_well_when_nothing_lives_here(domain: Domain | None, *, leaves: bool) -> None:
    """Nobody is left who could say more."""
    ending = AdoptedEnding(uuid4(), lambda _instance: Half(domain))
    assert ending.reached(0.0)
    if leaves:
        ending.conclude()
    else:
        with pytest.raises(HostError) as caught:
            ending.conclude()
        assert caught.value.error_class is ErrorClass.TRANSIENT


def test_a_post_copy_that_came_to_a_halt_is_not_watched_for_ever() -> None:
    """Whoever performs it again takes it up."""
    halted = Domain(DomainState.PAUSED, persistent=True, identity=None, reason="postcopy failed")
    ending = AdoptedEnding(uuid4(), lambda _instance: Half(halted, under_way=True))
    assert ending.reached(0.0)
    with pytest.raises(HostError, match="postcopy failed"):
        ending.conclude()


def test_an_adopted_migration_goes_on_while_libvirt_has_it() -> None:
    """The end is the end of the job."""
    lives = Domain(DomainState.RUNNING, persistent=True, identity=None)
    assert not AdoptedEnding(uuid4(), lambda _instance: Half(lives, under_way=True)).reached(0.0)


# --- another host


class Daemon:
    """Another host's libvirtd: how it is opened, and how often."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.opened = 0
        self.alive = True
        self.hangs = threading.Event()
        self.hangs.set()
        self.error: libvirt.libvirtError | None = None
        self.uuid = UUID(int=2)

    def open(self, _uri: str) -> object:
        """As it is."""
        self.opened += 1
        self.hangs.wait(SOON_S)
        if self.error is not None:
            raise self.error
        return _Window(self)


class _Window:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return self._daemon.alive

    def getCapabilities(self) -> str:  # noqa: N802 - libvirt's name
        return f"<capabilities><host><uuid>{self._daemon.uuid}</uuid></host></capabilities>"

    def lookupByUUID(self, uuid: bytes) -> DomainDouble:  # noqa: N802 - libvirt's name
        self._daemon.hangs.wait(SOON_S)
        if self._daemon.error is not None:
            raise self._daemon.error
        return self._daemon.scene.connection.lookupByUUID(uuid)


@pytest.fixture
def daemon(scene: Scene) -> Iterator[Daemon]:
    """One that answers."""
    daemon = Daemon(scene)
    yield daemon
    daemon.hangs.set()


def peers(daemon: Daemon) -> Peers:
    """A process that has looked at nothing yet, and has no patience."""
    return Peers(Questions(), opening=daemon.open, deadline_s=0.2)


def unseen(call: Callable[[], object]) -> str:
    """The sentence of a look that failed for now."""
    with pytest.raises(HostError) as caught:
        call()
    assert caught.value.error_class is ErrorClass.TRANSIENT
    assert "host h2 cannot be seen" in str(caught.value)
    return str(caught.value)


def test_a_host_is_seen_through_one_connection(scene: Scene, daemon: Daemon) -> None:
    """Opened when it is first looked at."""
    looking = peers(daemon)
    assert looking.half(scene.instance, PEER).runs
    assert looking.half(scene.instance, PEER).runs
    assert daemon.opened == 1


@pytest.mark.parametrize(
    ("code", "domain"), [("SYSTEM_ERROR", "RPC"), ("AUTH_FAILED", "RPC"), ("INTERNAL_ERROR", "QEMU")]
)
def test_whatever_fails_is_no_answer_and_costs_the_connection(
    scene: Scene, daemon: Daemon, code: str, domain: str
) -> None:
    """It is transient, whatever it would be here."""
    looking = peers(daemon)
    looking.half(scene.instance, PEER)
    daemon.error = libvirt_error(code, domain)
    unseen(lambda: looking.half(scene.instance, PEER))
    daemon.error = None
    assert looking.half(scene.instance, PEER).runs
    assert daemon.opened == 2


def test_a_dead_connection_is_not_asked(scene: Scene, daemon: Daemon) -> None:
    """Another is opened."""
    looking = peers(daemon)
    looking.half(scene.instance, PEER)
    daemon.alive = False
    looking.half(scene.instance, PEER)
    assert daemon.opened == 2


def test_a_host_that_hangs_holds_nobody_up(scene: Scene, daemon: Daemon) -> None:
    """And is seen again when it goes on."""
    looking = peers(daemon)
    daemon.hangs.clear()
    for _ in range(3):
        assert "did not answer within 0.2 s" in unseen(lambda: looking.half(scene.instance, PEER))
    assert daemon.opened == 1
    daemon.hangs.set()
    assert looking.half(scene.instance, PEER).runs


def test_another_libvirtd_in_a_hosts_place_is_not_believed(scene: Scene, daemon: Daemon) -> None:
    """A name that leads to this very host would make a guest its own destination; that is no fault that passes."""
    looking = peers(daemon)
    assert looking.half(scene.instance, replace(PEER, libvirt_host=UUID(int=2))).runs
    with pytest.raises(HostError, match="another libvirtd answers") as caught:
        looking.half(scene.instance, replace(PEER, libvirt_host=UUID(int=1)))
    assert caught.value.error_class is ErrorClass.PERMANENT


def test_a_host_that_has_not_said_how_it_is_reached_is_never_seen(scene: Scene, daemon: Daemon) -> None:
    """Nobody waits for it."""
    with pytest.raises(HostError) as caught:
        peers(daemon).half(scene.instance, Peer("h3"))
    assert caught.value.error_class is ErrorClass.PERMANENT


# --- whether a host fits


class CpuDouble:
    """A libvirt that compares CPUs."""

    def __init__(self, answer: int | libvirt.libvirtError) -> None:
        self._answer = answer

    def compareCPU(self, _cpu: str, _flags: int) -> int:  # noqa: N802 - libvirt's name
        """As told."""
        if isinstance(self._answer, libvirt.libvirtError):
            raise self._answer
        return self._answer


@pytest.mark.parametrize("answer", [1, 2, libvirt_error("NO_SUPPORT")])
def test_a_cpu_that_has_as_much_will_do(answer: int | libvirt.libvirtError) -> None:
    """Or where libvirt cannot tell."""
    refuse_other_cpu(cast("libvirt.virConnect", CpuDouble(answer)), "<cpu/>")


@pytest.mark.parametrize(("answer", "cpu"), [(0, "<cpu/>"), (-1, "<cpu/>"), (2, "")])
def test_a_cpu_that_lacks_something_is_refused(answer: int, cpu: str) -> None:
    """For good."""
    with pytest.raises(HostError) as caught:
        refuse_other_cpu(cast("libvirt.virConnect", CpuDouble(answer)), cpu)
    assert caught.value.error_class is ErrorClass.PERMANENT


def test_another_domain_of_the_name_is_in_the_way(scene: Scene) -> None:
    """It has the name, and another UUID."""

    class Named(ConnectionsDouble):
        def lookupByName(self, _name: str) -> "Named":  # noqa: N802 - libvirt's name
            return self

        def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
            return str(uuid4())

    guest = Traveller(scene.instance, str(scene.instance), "qemu", "x86_64", 32, "", ())
    with pytest.raises(HostError) as caught:
        refuse_namesake(cast("libvirt.virConnect", Named(scene.domain)), guest)
    assert caught.value.error_class is ErrorClass.CONFLICT
