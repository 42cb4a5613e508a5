"""Spawns with disks of every kind, on the fake host."""

from dataclasses import replace
from typing import Any

import pytest

from models.engine import Database
from models.journal.asking import Asked, request_cancel
from models.records import Json
from models.states import ErrorClass, JobState, StepState
from tasks.host import Disk, FileSystem
from tasks.spawn import spawn
from tests.builders import watched
from tests.contract.fake_files import STATE, Files
from tests.fake_host import FakeHost, FakeImage, Killed
from tests.worker.world import Listener, World, die, error_class, permanent, states

pytest_plugins = ["tests.builders"]

GIB = 1024**3
EVERY_KIND: Json = {
    "name": "vm",
    "memory_mib": 64,
    "image": {"path": "/fake/images/a"},
    "disk_gib": 3,
    "root_disk": {"format": "raw"},
    "ephemerals": [{"size_gib": 1}, {"size_gib": 2, "guest_format": None}],
    "swap_mib": 64,
    "hardware": {"disk_bus": "scsi"},
    "volumes": [{"id": "v1", "kind": "nbd", "host": "storage", "port": 10809}],
}
EFFECTS = ["disks.copy", "disks.format", "disks.create", "disks.format", "domains.define", "domains.start"]


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A journal, a host with an image and a volume, and one instance."""
    fake.images.put("a", FakeImage("qcow2", 2 * GIB))
    fake.volumes.servers["storage:10809"] = True
    return World(sqlite_journal, fake)


def files(world: World) -> Files:
    """What the instance has on the host."""
    return world.fake.disks.folders[world.instance]


def without_cache_mode(document: Json) -> dict[str, Any]:
    """As an earlier revision planned it."""
    return {name: value for name, value in document.items() if name != "disk_cachemode"}


def test_a_spawn_makes_each_disk_as_it_is_asked_for(world: World) -> None:
    """Copied and grown, formatted and labelled; the guest is given all, and the inventory knows them."""
    world.submit("a", "spawn", EVERY_KIND)
    details = world.take_until_settled("a")
    assert details.job.state is JobState.SUCCEEDED
    assert world.effects == EFFECTS
    folder = f"{STATE}/{world.instance}"
    assert list(files(world).disks.values()) == [
        Disk(f"{folder}/root.raw", "raw", 3 * GIB, None),
        Disk(f"{folder}/ephemeral0.raw", "raw", GIB, None),
        Disk(f"{folder}/ephemeral1.raw", "raw", 2 * GIB, None),
        Disk(f"{folder}/swap.raw", "raw", 64 * 1024**2, None),
    ]
    assert files(world).formatted == {
        f"{folder}/ephemeral0.raw": FileSystem("ext4", "ephemeral0"),
        f"{folder}/swap.raw": FileSystem("swap", "swap"),
    }
    assert files(world).preallocated == set()
    guest = world.fake.domains.guests[world.instance]
    assert [(disk.target, disk.serial, disk.bus, disk.cache) for disk in guest.disks] == [
        ("sda", "root", "scsi", "none"),
        ("sdb", "disk.ephemeral0", "scsi", "none"),
        ("sdc", "disk.ephemeral1", "scsi", "none"),
        ("sdd", "disk.swap", "scsi", "none"),
    ]
    assert [volume.target for volume in guest.volumes] == ["vda"]
    assert {device.key for device in world.known.devices} == {"root", "ephemeral0", "ephemeral1", "swap", "v1"}
    world.run("d", "destroy")
    assert world.leftovers == ()


def test_the_space_of_each_disk_is_allocated_where_that_is_asked_for(world: World) -> None:
    """Of an overlay as well."""
    world.submit("a", "spawn", {**EVERY_KIND, "root_disk": {}, "preallocate_images": "space"})
    assert world.take_until_settled("a").job.state is JobState.SUCCEEDED
    assert files(world).preallocated == set(files(world).disks)
    assert next(iter(files(world).disks.values())).backing_path == "/fake/images/a"


@pytest.mark.parametrize("step", ["RootDiskCreated", "EphemeralDisksCreated"])
@pytest.mark.parametrize("moment", ["look", "do", "did"])
def test_a_killed_worker_makes_no_difference(world: World, step: str, moment: str) -> None:
    """Each disk is made once."""
    world.submit("a", "spawn", EVERY_KIND)
    with pytest.raises(Killed):
        world.take("a", world.worker(watched(spawn, Listener((moment, step), die))))
    assert world.take_until_settled("a").job.state is JobState.SUCCEEDED
    assert world.effects == EFFECTS
    assert files(world).halves == set()


@pytest.mark.parametrize("method", ["disks.copy", "disks.format", "disks.create"])
@pytest.mark.parametrize("fate", ["goes on", "is cancelled"])
def test_half_a_disk_is_made_anew_or_removed(world: World, method: str, fate: str) -> None:
    """Whatever a worker leaves that is killed meanwhile."""
    world.submit("a", "spawn", EVERY_KIND)
    world.fake.fail(method, Killed(), halfway=True)
    with pytest.raises(Killed):
        world.take("a")
    assert len(files(world).halves) == 1
    if fate == "is cancelled":
        assert request_cancel(world.database, "a", Asked("ops"), outbox=False).taken
        assert world.take_until_settled("a").job.state is JobState.CANCELLED
        assert world.leftovers == ()
    else:
        assert world.take_until_settled("a").job.state is JobState.SUCCEEDED
        assert world.effects == EFFECTS
        assert files(world).halves == set()


def test_a_cancel_ends_a_copy(world: World) -> None:
    """At the next word of how far it has come."""
    world.submit("a", "spawn", EVERY_KIND)

    def ask() -> None:
        assert request_cancel(world.database, "a", Asked("ops"), outbox=False).taken

    world.take("a", world.worker(watched(spawn, Listener(("do", "RootDiskCreated"), ask))))
    details = world.take_until_settled("a")
    assert details.job.state is JobState.CANCELLED
    assert "disks.copy" not in world.effects
    assert world.leftovers == ()


@pytest.mark.parametrize("method", ["disks.copy", "disks.format", "disks.create", "domains.define"])
def test_a_failed_spawn_leaves_no_disk(world: World, method: str) -> None:
    """Of the step that failed neither."""
    world.fake.fail(method, permanent())
    world.submit("a", "spawn", EVERY_KIND)
    details = world.take_until_settled("a")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert world.leftovers == ()
    assert world.known.devices == ()


@pytest.mark.parametrize("name", ["root", "ephemeral1", "swap"])
def test_a_disk_that_is_there_is_somebody_elses_data(world: World, name: str) -> None:
    """A conflict; it stays, and nothing else does."""
    path = world.fake.disks.path_for(world.instance, name, "raw")
    world.fake.disks.create(world.instance, path, size_bytes=1, backing=None, epoch=0)
    world.submit("a", "spawn", EVERY_KIND)
    details = world.take_until_settled("a")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.CONFLICT)
    assert list(files(world).disks) == [path]


def test_a_spawn_of_an_earlier_revision_is_carried_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knew of no ephemeral disks, of no bus and of no cache mode: its guest is defined as it was planned."""
    earlier = replace(spawn, steps=tuple(step for step in spawn.steps if step.name != "EphemeralDisksCreated"))
    defined = next(step for step in spawn.steps if step.name == "DomainDefined")
    plan = type(defined).plan
    with monkeypatch.context() as patch:
        patch.setattr(type(defined), "plan", lambda *given: without_cache_mode(plan(*given)))
        world.submit("a", "spawn", {"name": "vm", "memory_mib": 64, "disk_gib": 1})
        with pytest.raises(Killed):
            world.take("a", world.worker(watched(earlier, Listener(("do", "DomainDefined"), die))))
    details = world.take_until_settled("a")
    assert details.job.state is JobState.SUCCEEDED
    assert "EphemeralDisksCreated" not in states(details)
    assert states(details)["DomainDefined"] is StepState.DONE
    [disk] = world.fake.domains.guests[world.instance].disks
    assert (disk.target, disk.bus, disk.cache) == ("vda", "virtio", None)


def test_names_of_disks_are_none_that_a_volume_can_have(world: World) -> None:
    """A volume called as a disk is, is another one for the guest, too."""
    volumes = [{**EVERY_KIND["volumes"][0], "id": name, "export": name} for name in ("swap", "ephemeral0")]
    world.submit("a", "spawn", {**EVERY_KIND, "volumes": volumes})
    assert world.take_until_settled("a").job.state is JobState.SUCCEEDED
    guest = world.fake.domains.guests[world.instance]
    drives = (*guest.disks, *guest.volumes)
    assert len({drive.alias for drive in drives}) == len({drive.serial for drive in drives}) == len(drives)
