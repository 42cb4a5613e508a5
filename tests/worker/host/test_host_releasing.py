"""A guest that is to let a device go: what it does, what libvirt tells of it, and in which order."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from models.states import ErrorClass
from tests.lab.waiting import eventually
from tests.worker.host.device_scene import DISK_XML, LIVE, OTHER_XML, Scene, raising, refusal
from tests.worker.host.doubles import libvirt_error
from worker.host import releasing

SOON_S = 10.0


@pytest.fixture
def holding() -> Scene:
    """A running guest that has the volume, which its definition has not."""
    scene = Scene()
    scene.domain.live = [DISK_XML]
    return scene


def test_a_guest_that_lets_go_at_once_is_not_waited_for(holding: Scene) -> None:
    """The event came before the call returned; the waiter was there."""
    holding.on("ask ua-vol-1", holding.lets_go)
    begin = time.monotonic()
    holding.release()
    assert time.monotonic() - begin < SOON_S
    assert (holding.asked(), holding.domain.flags) == (1, [LIVE])


def test_a_guest_that_lets_go_later_is_told_by_event(holding: Scene) -> None:
    """Long before its time is up, and long before anybody would look again."""
    with ThreadPoolExecutor(1) as pool:
        releasing_it = pool.submit(holding.release)
        eventually(lambda: holding.asked() == 1, "the guest is asked", SOON_S)
        holding.lets_go()
        releasing_it.result(1.0)


def test_an_event_of_another_device_is_not_taken_for_this_ones(holding: Scene) -> None:
    """Only what the guest still has decides; another's refusal is nobody's here."""
    holding.domain.live.append(OTHER_XML)

    def others() -> None:
        holding.domain.live.remove(OTHER_XML)
        holding.connections.events.tell(holding.instance)
        holding.refuses("ua-vol-2")()

    holding.on("ask ua-vol-1", others)
    error = refusal(lambda: holding.release(timeout_s=0.05))
    assert "did not let go" in str(error)


def test_an_event_that_outruns_the_document_is_looked_behind_again(
    holding: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing wakes the waiter a second time."""
    monkeypatch.setattr(releasing, "LOOK_AGAIN_S", 0.01)
    holding.on("ask ua-vol-1", lambda: holding.connections.events.tell(holding.instance))
    looks = iter((0, 0, 0, 1))

    def gone_at_last() -> None:
        if next(looks, 1):
            holding.domain.live = []

    holding.on("XMLDesc", gone_at_last)
    holding.release()
    assert holding.asked() == 1


def test_waiting_is_called_off_at_the_next_look(holding: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches is asked as often; the guest is not asked again, and may yet let go."""
    monkeypatch.setattr(releasing, "LOOK_AGAIN_S", 0.01)
    answers = iter((True, True, False))
    error = refusal(lambda: holding.release(attempts=8, watch=lambda: next(answers)))
    assert (error.error_class, holding.asked(), list(answers)) == (ErrorClass.TRANSIENT, 1, [])


def test_a_refusal_is_final_at_once(holding: Scene) -> None:
    """The guest has said no; asking again would get the same."""
    holding.on("ask ua-vol-1", holding.refuses())
    begin = time.monotonic()
    error = refusal(lambda: holding.release(attempts=8))
    assert time.monotonic() - begin < SOON_S
    assert (error.error_class, holding.asked()) == (ErrorClass.PERMANENT, 1)
    assert "refused to let go of the disk vdb (volume vol-1); nothing was disconnected" in str(error)


def test_a_refusal_that_libvirt_answers_with_is_final_at_once(holding: Scene) -> None:
    """The same, said in another way."""
    holding.on("ask ua-vol-1", raising("OPERATION_FAILED"))
    assert refusal(lambda: holding.release(attempts=8)).error_class is ErrorClass.PERMANENT
    assert holding.asked() == 1


def test_a_guest_that_lets_go_after_all_has_let_go(holding: Scene) -> None:
    """Whatever it said before."""

    def both() -> None:
        holding.refuses()()
        holding.lets_go()

    holding.on("ask ua-vol-1", both)
    holding.release()


def test_a_silent_guest_is_asked_again_when_its_time_has_passed_and_not_before(holding: Scene) -> None:
    """So often, so long, and the sentence says so."""
    begin = time.monotonic()
    error = refusal(lambda: holding.release(attempts=3, timeout_s=0.1))
    assert time.monotonic() - begin >= 0.3
    assert (error.error_class, holding.asked()) == (ErrorClass.PERMANENT, 3)
    assert "it was asked 3 times, and given 0.1 s each time; nothing was disconnected" in str(error)


@pytest.mark.parametrize("ending", [Scene.stops, Scene.vanishes])
def test_a_guest_that_ends_while_it_is_waited_for_has_let_go(holding: Scene, ending: Callable[[Scene], None]) -> None:
    """There is nobody left to have it."""
    with ThreadPoolExecutor(1) as pool:
        releasing_it = pool.submit(holding.release)
        eventually(lambda: holding.asked() == 1, "the guest is asked", SOON_S)
        ending(holding)
        releasing_it.result(1.0)


@pytest.mark.parametrize(
    ("code", "domain", "message"),
    [
        ("DEVICE_MISSING", "QEMU", "disk vdb not found"),
        ("INTERNAL_ERROR", "DOMAIN", "no device found with alias ua-vol-1"),
        ("OPERATION_INVALID", "DOMAIN", "domain is not running"),
        ("NO_DOMAIN", "QEMU", "gone"),
        ("INTERNAL_ERROR", "RPC", "client socket is closed"),
        ("INTERNAL_ERROR", "QEMU", "Device ua-vol-1 is already in the process of unplug"),
    ],
)
def test_a_request_that_fails_is_followed_by_looks_alone(holding: Scene, code: str, domain: str, message: str) -> None:
    """It may have been made, or needless; the time runs all the same."""
    holding.on("ask ua-vol-1", raising(code, domain=domain, message=message))
    with ThreadPoolExecutor(1) as pool:
        releasing_it = pool.submit(holding.release, 2)
        eventually(lambda: holding.asked() == 1, "the guest is asked", SOON_S)
        holding.lets_go()
        releasing_it.result(1.0)
    assert holding.asked() == 1


def test_a_bus_that_lets_nothing_go_is_told_at_once(holding: Scene) -> None:
    """No guest can help it."""
    holding.on("ask ua-vol-1", raising("INTERNAL_ERROR", message="Bus 'pcie.0' does not support hotplugging"))
    error = refusal(lambda: holding.release(attempts=8))
    assert (error.error_class, error.record.code) == (ErrorClass.PERMANENT, "INTERNAL_ERROR")


def test_a_connection_lost_while_waiting_does_not_make_a_second_request(
    holding: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest was asked, and has its time; whoever waits looks until libvirt is back."""
    monkeypatch.setattr(releasing, "LOOK_AGAIN_S", 0.01)
    holding.on("ask ua-vol-1", _breaks(holding))
    with ThreadPoolExecutor(1) as pool:
        releasing_it = pool.submit(holding.release, 8)
        eventually(lambda: holding.asked() == 1, "the guest is asked", SOON_S)
        holding.lets_go()
        holding.connections.broken = None
        releasing_it.result(SOON_S)
    assert holding.asked() == 1


def test_a_connection_that_stays_lost_is_for_the_job_to_wait_for(holding: Scene) -> None:
    """Nobody knows what the guest did."""
    holding.on("ask ua-vol-1", _breaks(holding))
    assert refusal(lambda: holding.release(timeout_s=0.05)).error_class is ErrorClass.TRANSIENT


def test_a_domain_that_becomes_another_instances_is_left_alone(holding: Scene) -> None:
    """Its UUID is not enough."""

    def others() -> None:
        holding.domain.instance = UUID(int=1)

    holding.on("ask ua-vol-1", others)
    assert refusal(holding.release).error_class is ErrorClass.CONFLICT


def _breaks(scene: Scene) -> Callable[[], None]:
    def happen() -> None:
        scene.connections.broken = libvirt_error("INTERNAL_ERROR", "RPC")

    return happen
