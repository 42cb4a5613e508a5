"""A call that hangs: its job is given up, looked at anew, and acted on only when the call no longer can."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from models.engine import Database
from models.journal.asking import Asked, request_cancel
from models.states import ErrorClass, JobClass, JobState
from tasks.destroy import destroy
from tasks.spawn import spawn
from tests.builders import time_passes, watched
from tests.fake_host import FakeHost
from tests.worker.test_run import SPAWNED
from tests.worker.world import Listener, World
from worker.hands import Hands
from worker.run import Runner

pytest_plugins = ["tests.builders"]

WITHIN_S = 30.0
WHY = "libvirt was asked to start the domain, 300 s ago: no answer"


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A journal, a host and an instance."""
    return World(sqlite_journal, fake)


class Hanging:
    """A spawn whose thread hangs at a moment of its last step, given up as the watchdog does it."""

    def __init__(self, world: World, moment: str) -> None:
        self.world = world
        self.hands = Hands(dict.fromkeys(JobClass, 1))
        self._begun, self._returns = threading.Event(), threading.Event()
        self.listener = Listener((moment, "DomainRunning"), self._hang)
        self.worker: Runner = world.worker(watched(spawn, self.listener), destroy, hands=self.hands)
        self._thread = threading.Thread(target=world.take, args=("a", self.worker))

    def _hang(self) -> None:
        self._begun.set()
        assert self._returns.wait(WITHIN_S)

    def give_up(self) -> None:
        """Begin it, wait until it hangs, and write it off."""
        self.world.submit("a")
        self._thread.start()
        assert self._begun.wait(WITHIN_S)
        assert self.hands.write_off(self._thread.ident or 0, WHY)

    def come_back(self) -> None:
        """Let the call return, and wait until its thread has ended."""
        self._returns.set()
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive()

    def take_again(self) -> None:
        """The sweeper comes round."""
        time_passes(self.world.database, "a")
        assert self.world.take("a", self.worker) is None

    @property
    def state(self) -> JobState:
        """The job's."""
        return self.world.details("a").job.state


@pytest.fixture
def hanging(world: World) -> Callable[[str], "contextmanager[Hanging]"]:
    """Hangs at a moment; whatever happens, the thread ends."""

    @contextmanager
    def hang(moment: str) -> Iterator[Hanging]:
        found = Hanging(world, moment)
        found.give_up()
        try:
            yield found
        finally:
            found.come_back()

    return hang


def test_a_job_whose_call_hangs_waits_and_says_so(
    world: World, hanging: Callable[..., "contextmanager[Hanging]"]
) -> None:
    """Its slot is free, its instance is not."""
    with hanging("do") as hung:
        job = world.details("a").job
        assert (job.state, job.error and job.error.error_class) == (JobState.WAITING, ErrorClass.UNKNOWN)
        assert job.error is not None
        assert job.error.message == WHY
        assert hung.hands.free_classes()[JobClass.SPAWN] == 1
        world.submit("b", "stop")
        assert world.take("b", hung.worker) is not None


def test_what_a_hung_call_may_still_do_is_not_done_a_second_time(
    world: World, hanging: Callable[..., "contextmanager[Hanging]"]
) -> None:
    """Looked at again and not seen: the job waits until the call has returned, and then finds what it did."""
    with hanging("do") as hung:
        hung.take_again()
        assert hung.state is JobState.WAITING
        assert "has not returned, and may yet take effect" in str(world.details("a").job.error)
        assert world.effects == SPAWNED[:-1]
        hung.come_back()
        assert world.effects == SPAWNED
        hung.take_again()
        assert hung.state is JobState.SUCCEEDED
    assert world.effects == SPAWNED


def test_what_a_hung_call_did_is_found_before_it_returns(
    world: World, hanging: Callable[..., "contextmanager[Hanging]"]
) -> None:
    """Another thread sees it over another connection; when the call returns, its thread writes nothing more."""
    with hanging("did") as hung:
        hung.take_again()
        assert hung.state is JobState.SUCCEEDED
        before = world.details("a")
        hung.come_back()
        assert world.details("a") == before
    assert world.effects == SPAWNED


def test_a_cancelled_job_is_undone_once_its_hung_call_has_returned(
    world: World, hanging: Callable[..., "contextmanager[Hanging]"]
) -> None:
    """An undo before would miss what the call does afterwards."""
    with hanging("do") as hung:
        assert request_cancel(world.database, "a", Asked("operator"), outbox=False).taken
        assert world.take("a", hung.worker) is None
        assert hung.state is JobState.WAITING
        hung.come_back()
        hung.take_again()
        assert hung.state is JobState.CANCELLED
    assert world.leftovers == ()


def test_a_destroy_does_not_wait_to_act_but_to_end(
    world: World, hanging: Callable[..., "contextmanager[Hanging]"]
) -> None:
    """It kills the domain, which ends the call, and goes on once that has returned."""
    with hanging("did") as hung:
        ending = Listener(("do", "EarlierWorkEnded"), hung.come_back)
        world.submit("d", "destroy")
        destroyer = world.worker(spawn, watched(destroy, ending), hands=hung.hands)
        assert world.take("d", destroyer) is None
        assert ending.steps("do")[:2] == ["DomainStopped", "EarlierWorkEnded"]
        assert world.details("d").job.state is JobState.SUCCEEDED
        assert hung.state is JobState.CANCELLED
    assert world.leftovers == ()
