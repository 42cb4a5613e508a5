"""Spawns of images that are fetched, on the fake host."""

import pytest

from models.engine import Database
from models.states import ErrorClass, JobState, StepState
from tests.fake_host import FakeHost, FakeImage
from tests.worker.world import World, error_class, permanent, states

pytest_plugins = ["tests.builders"]

CHECKSUM = "0" * 64
URL = "file:///fake/images/a"


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A journal, that host, and one instance."""
    return World(sqlite_journal, fake)


@pytest.fixture(params=[None, CHECKSUM])
def image(request: pytest.FixtureRequest, world: World) -> dict[str, str]:
    """An image with and without a checksum, on its server."""
    world.fake.images.put("a", FakeImage("qcow2", 1024**3, sha256=CHECKSUM))
    return {"url": URL} if request.param is None else {"url": URL, "sha256": request.param}


def spawn(world: World, image: dict[str, str]) -> None:
    """Ask for a guest of the image."""
    world.submit("job-1", "spawn", {"name": "vm", "memory_mib": 64, "image": image})


def test_an_image_is_fetched_and_a_disk_made_from_it(world: World, image: dict[str, str]) -> None:
    """Once."""
    spawn(world, image)
    details = world.take_until_settled("job-1")
    assert details.job.state is JobState.SUCCEEDED
    assert states(details)["ImagesCached"] is StepState.DONE
    assert world.fake.images.fetches == [URL]
    [disk] = world.fake.disks.folders[world.instance].disks.values()
    assert disk.backing_path == f"/fake/image-cache/{next(iter(world.fake.images.cache))}"


def test_a_failed_spawn_leaves_the_image_to_others_and_nothing_else(world: World, image: dict[str, str]) -> None:
    """What many share is not one job's to remove."""
    world.fake.fail("domains.define", permanent())
    spawn(world, image)
    details = world.take_until_settled("job-1")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert world.leftovers == ()
    assert len(world.fake.images.cache) == 1
