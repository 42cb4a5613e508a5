"""The vigil: a lost libvirt disables the host, one that is back enables it again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.availability import disable
from models.reading import list_hosts
from models.states import ErrorClass, HostState
from tasks.host import HostError
from tests.builders import Desk, enrolled
from tests.lab.hosts import LibvirtHost
from worker.host.hypervisor import Hypervisor
from worker.vigil import Vigil

pytest_plugins = ["tests.builders"]


class Libvirt:
    """Answers, or does not, as it is told."""

    def __init__(self) -> None:
        self.error: HostError | None = None

    def require_answer(self) -> None:
        """What the vigil asks."""
        if self.error is not None:
            raise self.error


def vigil(desk: Desk, require_answer: Callable[[], None]) -> Vigil:
    """One that is asked by hand."""
    return Vigil(desk.database, desk.claimant.worker, "h1", require_answer)


def state(desk: Desk) -> tuple[HostState, str | None]:
    """The host's state, and its worker's word."""
    (host,) = list_hosts(desk.database)
    return host.state, host.down_because


def test_one_missed_answer_is_no_loss(desk: Desk) -> None:
    """A second one in a row is; an answer ends both."""
    libvirt = Libvirt()
    watch = vigil(desk, libvirt.require_answer)
    lost = HostError(ErrorClass.TRANSIENT, "nobody there")

    for libvirt.error in (lost, None, lost):
        watch.ask()
    assert state(desk) == (HostState.ENABLED, None)

    watch.ask()
    assert state(desk) == (HostState.DISABLED, "libvirt does not answer: nobody there")
    watch.ask()
    libvirt.error = None
    watch.ask()
    assert state(desk) == (HostState.ENABLED, None)


def test_an_operators_word_stays(desk: Desk) -> None:
    """Whatever libvirt does meanwhile."""
    libvirt = Libvirt()
    watch = vigil(desk, libvirt.require_answer)
    disable(desk.database, "h1", "cli:ann", "new memory")
    for libvirt.error in (HostError(ErrorClass.TRANSIENT, "gone"), HostError(ErrorClass.TRANSIENT, "gone"), None):
        watch.ask()

    assert state(desk) == (HostState.DISABLED, None)


def test_a_worker_that_was_displaced_says_nothing(desk: Desk) -> None:
    """The host is another's."""
    libvirt = Libvirt()
    watch = vigil(desk, libvirt.require_answer)
    enrolled(desk.database)
    libvirt.error = HostError(ErrorClass.TRANSIENT, "gone")
    watch.ask()
    watch.ask()

    assert state(desk) == (HostState.ENABLED, None)


@pytest.mark.real
def test_a_libvirtd_that_dies_and_comes_back(desk: Desk, own_libvirt_host: LibvirtHost, tmp_path: Path) -> None:
    """Seen through the worker's own connections."""
    hypervisor = Hypervisor(uri=own_libvirt_host.uri, state_folder=str(tmp_path))
    watch = vigil(desk, hypervisor.require_answer)
    try:
        watch.ask()
        own_libvirt_host.kill()
        for _ in range(3):  # the first may find the broken connection, and only that
            watch.ask()
        lost = state(desk)
        own_libvirt_host.start()
        watch.ask()
    finally:
        hypervisor.close()

    assert lost[0] is HostState.DISABLED
    assert "libvirt does not answer" in (lost[1] or "")
    assert state(desk) == (HostState.ENABLED, None)
