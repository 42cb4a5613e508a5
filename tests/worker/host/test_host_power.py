"""Asking a guest to shut down, where libvirt or QEMU does not answer as they should."""

import threading
import time
from typing import cast
from uuid import uuid4

import pytest

from tests.lab.waiting import eventually
from tests.worker.host.doubles import ConnectionsDouble, DomainDouble, libvirt_error
from worker.host import power as power_module
from worker.host.connections import Connections
from worker.host.power import LibvirtPower

SOON_S = 10.0
DEADLINE_S, AGAIN_S = 0.4, 0.1


class Scene:
    """One guest that runs, and does not hear."""

    def __init__(self) -> None:
        self.domain = DomainDouble(uuid4(), run=7)
        self.connections = ConnectionsDouble(self.domain)
        self.power = LibvirtPower(cast("Connections", self.connections))

    def shut_down(self) -> float:
        """Ask it; how long that took, in seconds."""
        began = time.monotonic()
        self.power.shut_down(self.domain.instance, deadline_s=DEADLINE_S, again_every_s=AGAIN_S)
        return time.monotonic() - began

    def ends(self, run: int = -1) -> None:
        """Its process has ended, or is another one by now."""
        self.domain.run = run
        self.connections.events.tell(self.domain.instance)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A deaf guest."""
    monkeypatch.setattr(power_module, "LEAST_PAUSE_S", 0.05)
    return Scene()


def test_a_guest_that_does_not_hear_is_asked_again_until_the_deadline(scene: Scene) -> None:
    """One that is still booting hears a later one."""
    assert DEADLINE_S <= scene.shut_down() < SOON_S
    assert 2 <= len(scene.domain.called) <= DEADLINE_S / AGAIN_S + 1
    assert set(scene.domain.called) == {"shutdown"}


def test_a_guest_that_shuts_down_is_waited_for_no_longer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event of its end tells."""
    monkeypatch.setattr(f"{__name__}.DEADLINE_S", 2 * SOON_S)
    scene.domain.verbs["shutdown"] = scene.ends
    assert scene.shut_down() < SOON_S
    assert scene.domain.called == ["shutdown"]


def test_a_guest_that_somebody_has_started_again_is_not_the_one_that_was_asked(scene: Scene) -> None:
    """What becomes of that one is another question."""
    scene.domain.verbs["shutdown"] = lambda: scene.ends(8)
    assert scene.shut_down() < SOON_S
    assert scene.domain.called == ["shutdown"]


def test_a_call_that_hangs_does_not_outlast_the_deadline_and_is_not_made_again(scene: Scene) -> None:
    """The next thing is to end the process, with which the call returns."""
    killed, returned = threading.Event(), threading.Event()

    def hang() -> None:
        killed.wait(SOON_S)
        returned.set()

    scene.domain.verbs["shutdown"] = hang
    assert DEADLINE_S <= scene.shut_down() < SOON_S
    assert (scene.domain.called, returned.is_set()) == (["shutdown"], False)
    killed.set()
    eventually(returned.is_set, "the thread that was left behind ends", SOON_S)


@pytest.mark.parametrize("code", ["OPERATION_INVALID", "OPERATION_TIMEOUT", "AGENT_UNRESPONSIVE", "OPERATION_DENIED"])
def test_what_the_asking_is_answered_with_keeps_nobody_from_asking_again(
    scene: Scene, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; whether the guest is off, a look tells."""

    def refuse() -> None:
        raise libvirt_error(code)

    scene.domain.verbs["shutdown"] = refuse
    caplog.set_level("INFO")
    assert scene.shut_down() >= DEADLINE_S
    assert len(scene.domain.called) > 1
    assert f"instance={scene.domain.instance} libvirt could not ask the guest to shut down" in caplog.text
