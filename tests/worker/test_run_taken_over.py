"""A job that a worker had in hand as it died: libvirt may still be at what it was asked for."""

import threading

import pytest

from models.engine import Database
from models.states import ErrorClass, JobState
from tests.fake_host import FakeHost, Killed
from tests.worker.world import World, error_class
from worker import run

pytest_plugins = ["tests.builders"]


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A guest that runs, and a stop of it whose worker died in the call."""
    made = World(sqlite_journal, fake)
    made.run("spawn")
    fake.fail("power.shut_down", Killed())
    made.submit("stop", "stop")
    with pytest.raises(Killed):
        made.take("stop")
    fake.domains.busy.add(made.instance)
    return made


def test_the_next_worker_looks_once_libvirt_is_idle(world: World) -> None:
    """What the call comes to is found, and not done again."""
    looks: list[str] = []

    def ends() -> None:
        with world.fake._script.changed:
            looks.append("ended")
            world.fake.domains.kill(world.instance)
            world.fake.domains.busy.clear()
            world.fake._script.changed.notify_all()

    call = threading.Timer(0.2, ends)
    call.start()
    assert world.take("stop") is None
    call.join()

    assert (looks, world.details("stop").job.state) == (["ended"], JobState.SUCCEEDED)
    assert world.effects[-1] == "domains.kill"
    assert world.fake.calls["power.shut_down"] == 1


def test_a_call_that_does_not_end_has_the_job_wait_and_say_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done; it looks after its wait, whatever libvirt does then."""
    monkeypatch.setattr(run, "IDLE_DEADLINE_S", 0.05)

    world.take("stop")

    job = world.details("stop").job
    assert (job.state, error_class(world.details("stop"))) == (JobState.WAITING, ErrorClass.TRANSIENT)
    assert job.error is not None
    assert "is still busy after 0.05 s" in job.error.message
    assert world.take_until_settled("stop").job.state is JobState.SUCCEEDED


def test_a_destroy_waits_for_nobody(world: World) -> None:
    """It ends the guest, and with it whatever was asked of it; taken over itself, too."""
    world.fake.fail("domains.undefine", Killed())
    world.submit("destroy", "destroy")
    with pytest.raises(Killed):
        world.take("destroy")

    assert world.take("destroy") is None

    assert world.details("destroy").job.state is JobState.SUCCEEDED
    assert world.fake.calls["domains.wait_idle"] == 0
