"""Spawns of hostile images: the rooms of images and disks are real, and no program is ever run for them."""

from pathlib import Path

import pytest

from models.engine import Database
from models.states import ErrorClass, JobState
from tests.fake_host import FakeHost
from tests.worker.host.hostile_images import HOSTILE, written
from tests.worker.host.image_scene import Scene, noting
from tests.worker.world import World, error_class

pytest_plugins = ["tests.builders"]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Real images and disks; in qemu-img's place there is a program that only notes that it was run."""
    return Scene(tmp_path, qemu_img=noting(tmp_path / "run"))


@pytest.fixture
def world(sqlite_journal: Database, scene: Scene) -> World:
    """A host that is real as far as a spawn of such an image may come."""
    fake = FakeHost()
    fake.images, fake.disks = scene.images, scene.disks  # type: ignore[assignment]  # they fit the port as well
    return World(sqlite_journal, fake)


def spawned(world: World, image: dict[str, str]) -> JobState:
    """What a spawn of the image comes to."""
    world.submit("job-1", "spawn", {"name": "vm", "memory_mib": 64, "image": image})
    details = world.take_until_settled("job-1")
    assert error_class(details) is ErrorClass.PERMANENT
    return details.job.state


@pytest.mark.parametrize(
    ("place", "name"), [("path", "backing file"), ("url", "raw that is qcow2"), ("url", "vmdk with a hidden parent")]
)
def test_a_spawn_of_a_hostile_image_fails_before_anything_is_made_of_it(
    world: World, scene: Scene, tmp_path: Path, place: str, name: str
) -> None:
    """Where it lies and fetched: for good, and neither a folder, a domain nor an image is left."""
    path = HOSTILE[name].make(scene.root / "image")
    at = {"path": str(path)} if place == "path" else {"url": f"file://{path}"}
    assert spawned(world, {**at, "format": HOSTILE[name].declared}) is JobState.FAILED
    assert not (tmp_path / "run").exists()
    assert world.effects == []
    assert not list((tmp_path / "state").rglob("*.qcow2*"))
    assert scene.cached == []


def test_what_is_run_for_a_good_image_would_have_been_seen(world: World, scene: Scene, tmp_path: Path) -> None:
    """The trap is where qemu-img is called."""
    path = written(scene.root / "image", "qcow2")
    assert spawned(world, {"path": str(path)}) is JobState.FAILED
    assert (tmp_path / "run").exists()
