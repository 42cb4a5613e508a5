"""Domains where libvirt's answers do not match what happened: races that a real host shows once in a hundred."""

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast
from uuid import uuid4

import libvirt
import pytest

from models.states import ErrorClass
from tasks.host import DomainState, Guest, HostError, Identity, Platform, Volume
from tests.worker.host.doubles import ConnectionsDouble, DomainDouble, libvirt_error
from worker.host import domains as domains_module
from worker.host.connections import Connections
from worker.host.device_xml import DiskSource
from worker.host.domains import KILL_ROUNDS, LibvirtDomains
from worker.host.folders import Folders
from worker.host.guest_xml import GuestSurroundings


def _no_volumes(volume: Volume) -> DiskSource:
    raise AssertionError(f"no domain here has a volume, and {volume.id} was asked for")


class Scene:
    """One domain that runs, and the domains' room around it."""

    def __init__(self, state: Path) -> None:
        self.instance = uuid4()
        self.domain = DomainDouble(self.instance, run=7)
        self.connections = ConnectionsDouble(self.domain)
        self.folders = Folders(str(state))
        self.domains = LibvirtDomains(
            cast("Connections", self.connections),
            self.folders,
            lambda machine: Platform("qemu", machine),
            lambda console: GuestSurroundings("x86_64", console),
            _no_volumes,
        )

    def on(self, verb: str, *happenings: Callable[[], None]) -> None:
        """What happens when libvirt is asked for it: one after another, the last for ever."""
        left = list(happenings)

        def next_happens() -> None:
            happening = left.pop(0) if len(left) > 1 else left[0]
            happening()

        self.domain.verbs[verb] = next_happens

    def runs_as(self, run: int) -> Callable[[], None]:
        """The domain has that process from then on; -1 is none."""

        def happen() -> None:
            self.domain.run = run
            self.connections.events.tell(self.instance)

        return happen

    def vanishes(self) -> None:
        """There is no such domain any more."""
        self.connections.domain = None
        self.connections.events.tell(self.instance)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A running domain, and no patience."""
    monkeypatch.setattr(domains_module, "END_OF_PROCESS_S", 0.05)
    return Scene(tmp_path / "state")


def raising(code: str, *before: Callable[[], None], number: int = 0) -> Callable[[], None]:
    """An answer with that code, after those things happened."""

    def happen() -> None:
        for each in before:
            each()
        raise libvirt_error(code, number=number)

    return happen


def refusal(call: Callable[[], object]) -> HostError:
    """The error that the call raises."""
    with pytest.raises(HostError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("code", ["OPERATION_INVALID", "NO_DOMAIN"])
def test_a_kill_that_is_answered_with_an_error_although_it_killed_is_done(scene: Scene, code: str) -> None:
    """The process's end outran the answer."""
    scene.on("destroy", raising(code, scene.runs_as(-1)))
    scene.domains.kill(scene.instance)
    assert scene.domain.called == ["destroy"]


def test_a_kill_of_a_transient_domain_makes_it_absent(scene: Scene) -> None:
    """Absent is killed."""
    scene.on("destroy", scene.vanishes)
    scene.domains.kill(scene.instance)
    assert scene.domains.find(scene.instance) is None


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("", id="OK from libvirt while the process lives"),
        "OPERATION_INVALID",
        "NO_DOMAIN",
    ],
)
def test_a_kill_is_not_done_while_the_domain_is_active(scene: Scene, code: str) -> None:
    """Whatever the answer was; after a few rounds the job waits."""
    scene.on("destroy", raising(code) if code else lambda: None)
    error = refusal(lambda: scene.domains.kill(scene.instance))
    assert error.error_class is ErrorClass.TRANSIENT
    assert scene.domain.called == ["destroy"] * KILL_ROUNDS


def test_a_guest_that_is_started_again_meanwhile_is_killed_again(scene: Scene) -> None:
    """It is another run of the same domain."""
    scene.on("destroy", scene.runs_as(8), scene.runs_as(-1))
    scene.domains.kill(scene.instance)
    assert scene.domain.called == ["destroy"] * 2


def test_a_guest_that_is_started_again_and_again_is_not_killed_for_ever(scene: Scene) -> None:
    """The rounds are bounded."""
    scene.on("destroy", scene.runs_as(8), scene.runs_as(9), scene.runs_as(10), scene.runs_as(11))
    assert refusal(lambda: scene.domains.kill(scene.instance)).error_class is ErrorClass.TRANSIENT
    assert scene.domain.called == ["destroy"] * KILL_ROUNDS


@pytest.mark.parametrize(
    ("code", "number", "expected"),
    [
        pytest.param("OPERATION_TIMEOUT", 0, ErrorClass.TRANSIENT, id="OPERATION_TIMEOUT"),
        pytest.param("SYSTEM_ERROR", errno.EBUSY, ErrorClass.TRANSIENT, id="EBUSY: the process outlived SIGKILL"),
        pytest.param("SYSTEM_ERROR", errno.EPERM, ErrorClass.PERMANENT, id="another errno"),
        pytest.param("INTERNAL_ERROR", 0, ErrorClass.UNKNOWN, id="INTERNAL_ERROR"),
        pytest.param("OPERATION_DENIED", 0, ErrorClass.PERMANENT, id="OPERATION_DENIED"),
        pytest.param("MULTIPLE_DOMAINS", 0, ErrorClass.UNKNOWN, id="anything else"),
    ],
)
def test_a_kill_that_fails_is_not_repeated_blindly(scene: Scene, code: str, number: int, expected: ErrorClass) -> None:
    """Whoever called decides."""
    scene.on("destroy", raising(code, number=number))
    error = refusal(lambda: scene.domains.kill(scene.instance))
    assert (error.error_class, error.record.code) == (expected, code)
    assert scene.domain.called == ["destroy"]


def test_a_start_that_is_refused_because_it_runs_is_done(scene: Scene) -> None:
    """Somebody was faster."""
    scene.domain.run = -1
    scene.on("create", raising("OPERATION_INVALID", scene.runs_as(8)))
    scene.domains.start(scene.instance)


def test_a_start_that_is_refused_for_another_reason_is_an_error(scene: Scene) -> None:
    """The same code, and it does not run."""
    scene.domain.run = -1
    scene.on("create", raising("OPERATION_INVALID"))
    error = refusal(lambda: scene.domains.start(scene.instance))
    assert (error.error_class, error.record.code) == (ErrorClass.TRANSIENT, "OPERATION_INVALID")


def test_a_running_domain_is_not_started_twice(scene: Scene) -> None:
    """It is looked at first."""
    scene.domains.start(scene.instance)
    assert scene.domain.called == []


def test_undefining_falls_back_to_the_flags_that_the_driver_knows(scene: Scene) -> None:
    """The test driver of libvirt refuses most."""
    scene.domain.run = -1
    scene.domain.verbs["undefine 0"] = scene.vanishes
    scene.on("undefine", raising("INVALID_ARG"))
    scene.domains.undefine(scene.instance)
    assert scene.domain.called[-1] == "undefine 0"


def test_a_domain_started_during_its_undefine_is_told(scene: Scene) -> None:
    """Libvirt left it transient; the next kill ends it."""
    scene.domain.run = -1

    def started_and_undefined() -> None:
        scene.domain.run, scene.domain.defined = 8, False

    scene.on("undefine", started_and_undefined)
    assert refusal(lambda: scene.domains.undefine(scene.instance)).error_class is ErrorClass.TRANSIENT


@pytest.mark.parametrize("code", ["OPERATION_INVALID", "NO_DOMAIN", "INTERNAL_ERROR"])
def test_an_undefine_that_is_answered_with_an_error_although_it_undefined_is_done(scene: Scene, code: str) -> None:
    """Absent is what it wanted; an error that tells nothing is for the caller to look behind."""
    scene.domain.run = -1
    scene.on("undefine", raising(code, scene.vanishes))
    if code == "INTERNAL_ERROR":
        assert refusal(lambda: scene.domains.undefine(scene.instance)).error_class is ErrorClass.UNKNOWN
    scene.domains.undefine(scene.instance)
    assert scene.domain.called == ["undefine"]


def test_an_undefine_that_is_refused_tells_libvirts_reason(scene: Scene) -> None:
    """It is still there, and this is why."""
    scene.domain.run = -1
    scene.on("undefine", raising("OPERATION_INVALID"))
    assert refusal(lambda: scene.domains.undefine(scene.instance)).record.code == "OPERATION_INVALID"


def test_a_broken_connection_never_means_absent(scene: Scene) -> None:
    """No verb takes silence for an answer."""
    scene.connections.broken = libvirt_error("INTERNAL_ERROR", "RPC")
    for call in (scene.domains.find, scene.domains.kill, scene.domains.undefine, scene.domains.start):
        assert refusal(partial(call, scene.instance)).error_class is ErrorClass.TRANSIENT


@pytest.mark.parametrize(
    ("shown", "run", "expected"),
    [
        (libvirt.VIR_DOMAIN_SHUTOFF, 7, DomainState.STARTING),  # its process is being made
        (libvirt.VIR_DOMAIN_NOSTATE, 7, DomainState.STARTING),
        (libvirt.VIR_DOMAIN_CRASHED, 7, DomainState.PAUSED),  # somebody had it kept after a crash
        (libvirt.VIR_DOMAIN_CRASHED, -1, DomainState.CRASHED),
        (libvirt.VIR_DOMAIN_RUNNING, -1, DomainState.SHUT_OFF),  # it ended between two questions
        (libvirt.VIR_DOMAIN_BLOCKED, 7, DomainState.RUNNING),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, 7, DomainState.PAUSED),
        (libvirt.VIR_DOMAIN_SHUTDOWN, 7, DomainState.SHUTTING_DOWN),
    ],
)
def test_a_domain_is_active_exactly_when_it_has_a_process(
    scene: Scene, shown: int, run: int, expected: DomainState
) -> None:
    """Whatever state libvirt shows in that moment."""
    scene.domain.shown_state, scene.domain.run = shown, run
    found = scene.domains.find(scene.instance)
    assert found is not None
    assert (found.state, found.active) == (expected, run >= 0)


def test_a_domain_that_somebody_works_on_is_waited_for(scene: Scene) -> None:
    """Until libvirt says that the call is over, or the domain is."""
    scene.domain.control = libvirt.VIR_DOMAIN_CONTROL_JOB

    def over() -> None:
        scene.domain.control = libvirt.VIR_DOMAIN_CONTROL_OK

    scene.on("controlInfo", lambda: None, over)
    scene.domains.wait_idle(scene.instance, 10.0)
    assert scene.domain.called == ["controlInfo"] * 2

    scene.domain.control = libvirt.VIR_DOMAIN_CONTROL_OCCUPIED
    scene.on("controlInfo", scene.runs_as(-1), lambda: None)
    scene.domains.wait_idle(scene.instance, 10.0)


@pytest.mark.parametrize("ends", ["vanishes", "is off"])
def test_a_domain_that_ends_while_it_is_asked_about_is_idle(scene: Scene, ends: str) -> None:
    """Which is said by an error."""
    code = {"vanishes": "NO_DOMAIN", "is off": "OPERATION_INVALID"}[ends]
    scene.on("controlInfo", raising(code))
    scene.domains.wait_idle(scene.instance, 0.0)


@pytest.mark.parametrize(
    ("control", "why"),
    [
        (libvirt.VIR_DOMAIN_CONTROL_JOB, "with a call of somebody's"),
        (libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, "whose QEMU does not answer"),
    ],
    ids=["job", "occupied"],
)
def test_a_domain_that_stays_busy_is_an_error_that_passes(scene: Scene, control: int, why: str) -> None:
    """It says what libvirt is busy with."""
    scene.domain.control = control
    error = refusal(lambda: scene.domains.wait_idle(scene.instance, 0.05))
    assert (error.error_class, why in str(error)) == (ErrorClass.TRANSIENT, True)


def test_a_definition_that_is_refused_leaves_no_file(scene: Scene) -> None:
    """Of one whose outcome is not known, and of a domain that was there before, they stay."""
    guest = Guest(Identity(scene.instance, "job-1"), "guest", memory_mib=32, vcpus=1)
    folder = Path(scene.folders.path(scene.instance))
    for there, code, left in ((False, "OPERATION_FAILED", False), (False, "RPC", True), (True, "XML_ERROR", True)):
        scene.connections.domain = scene.domain if there else None
        scene.connections.refusing = libvirt_error(code, "DOMAIN")
        with pytest.raises(HostError):
            scene.domains.define(guest)
        assert folder.exists() is left, code
