"""After a boot of its host: which guests the operations leave to be started, and what the start comes to."""

import pytest

from models.engine import Database
from models.journal.booting import answer_boot
from models.reading import job as job_record
from models.states import InstanceState, JobState
from tasks.catalogue import OPERATIONS
from tasks.host import DomainState
from tests.builders import HOST
from tests.fake_host import FakeHost
from tests.worker.world import World
from worker.after_boot import ACTOR, start_after_boot

pytest_plugins = ["tests.builders"]

#: What is done to a running guest, and what it is to be from then on.
LEAVES = [
    ([], InstanceState.RUNNING),
    (["stop"], InstanceState.STOPPED),
    (["stop", "start"], InstanceState.RUNNING),
    (["reboot"], InstanceState.RUNNING),
    (["pause"], InstanceState.PAUSED),
    (["pause", "unpause"], InstanceState.RUNNING),
    (["suspend"], InstanceState.SUSPENDED),
    (["suspend", "resume"], InstanceState.RUNNING),
    (["pause", "attach_interface"], InstanceState.PAUSED),
    (["destroy"], InstanceState.DELETED),
]


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A host with a running instance, in its first boot."""
    world = World(sqlite_journal, fake)
    world.run("spawned")
    boot(world, "first")
    return world


def boot(world: World, boot_id: str, *, enabled: bool = True) -> str:
    """A worker comes to the host in that boot; the id of the start that it asks for, if it does."""
    start_after_boot(world.database, OPERATIONS, HOST, boot_id, enabled=enabled)
    return f"after-boot.{boot_id}.{world.instance}"


def go_down(world: World) -> None:
    """The host loses its processes."""
    world.fake.domains.kill(world.instance)
    world.fake.effects.clear()


@pytest.mark.parametrize(("operations", "wanted"), LEAVES, ids=lambda value: "-".join(value) or "spawn")
def test_what_a_job_made_of_the_guest_decides(world: World, operations: list[str], wanted: InstanceState) -> None:
    """Only what ran is started."""
    for number, operation in enumerate(operations):
        assert world.run(f"job-{number}", operation).job.state is JobState.SUCCEEDED
    assert world.known.wanted is wanted
    if wanted is not InstanceState.DELETED:
        go_down(world)
    started = job_record(world.database, boot(world, "second"))
    assert (started is not None) == (wanted is InstanceState.RUNNING)


def test_the_guest_runs_again_and_only_once(world: World) -> None:
    """However often a worker comes to the host in that boot; a guest that ended since then is its owner's."""
    go_down(world)
    start = boot(world, "second")
    assert world.take(start) is None
    job = world.details(start)
    assert job.job.state is JobState.SUCCEEDED
    assert job.events[0].actor == ACTOR
    assert world.effects == ["domains.start"]
    go_down(world)
    boot(world, "second")
    domain = world.fake.domains.find(world.instance)
    assert domain is not None
    assert domain.state is DomainState.SHUT_OFF


def test_a_server_that_comes_up_after_the_host_is_waited_for(world: World) -> None:
    """Nothing is started without its volumes."""
    world.fake.volumes.servers["storage:10809"] = True
    assert world.run("attached", "attach_volume").job.state is JobState.SUCCEEDED
    go_down(world)
    start = boot(world, "second")
    world.fake.volumes.servers["storage:10809"] = False
    assert world.take(start) is None
    assert world.details(start).job.state is JobState.WAITING
    assert world.effects == []
    world.fake.volumes.servers["storage:10809"] = True
    assert world.take_until_settled(start).job.state is JobState.SUCCEEDED


def test_a_stop_that_the_boot_cut_off_is_not_undone(world: World) -> None:
    """It is what was asked for last."""
    world.submit("stopping", "stop")
    go_down(world)
    assert job_record(world.database, boot(world, "second")) is None
    assert world.take("stopping") is None
    assert world.known.wanted is InstanceState.STOPPED


def test_nothing_is_started_unasked(world: World) -> None:
    """Neither now, nor when the setting is turned on in the same boot."""
    go_down(world)
    start = boot(world, "second", enabled=False)
    boot(world, "second")
    assert job_record(world.database, start) is None
    assert answer_boot(world.database, HOST, "second", None, ending=()) is None
