"""Spawns of guests that are told something, on the fake host: whatever fails, and whenever the worker dies."""

from typing import Any

import pytest

from models.engine import Database
from models.journal.accepting import accept
from models.journal.asking import Asked
from models.journal.deciding import resume
from models.records import Json
from models.states import DeviceKind, JobState, StepState
from tasks.catalogue import OPERATIONS
from tasks.host import ConfigDrive, Text
from tasks.host.config_drives import Layout
from tasks.submission import read_submission
from tests.builders import HOST, time_passes
from tests.fake_host import FakeHost, Killed
from tests.worker.world import World, permanent, states, transient

pytest_plugins = ["tests.builders"]

SECRET = "init"  # noqa: S105  # its name
USER_DATA = "#cloud-config\npassword: hunter2\n"
TOLD: dict[str, Any] = {
    "name": "My web_1!",
    "memory_mib": 64,
    "disk_gib": 1,
    "user_data": USER_DATA,
    "ssh_keys": ["ssh-ed25519 AAAA somebody"],
}


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A journal, that host, and one instance."""
    return World(sqlite_journal, fake)


def submit(world: World, request: Json = TOLD) -> None:
    """Ask for the guest, as whoever reads a message does."""
    sent = read_submission(
        OPERATIONS,
        operation="spawn",
        host=HOST,
        instance=str(world.instance),
        request=request,
        job_id="a",
        actor="test",
    )
    accept(world.database, sent, outbox=False)


def drive(world: World) -> ConfigDrive:
    """The one that was written."""
    [written] = world.fake.config_drives.written.values()
    return written


def test_a_guest_is_told_what_was_asked_for(world: World) -> None:
    """On a disk of its own, after the root disk, which it boots from; the inventory has it."""
    submit(world)
    details = world.take_until_settled("a")
    assert (details.job.state, details.job.error) == (JobState.SUCCEEDED, None)
    assert states(details)["ConfigDriveWritten"] is StepState.DONE
    told = Text(USER_DATA.encode())
    assert drive(world) == ConfigDrive(
        world.instance, Layout.NOCLOUD, "My web_1!", "my-web-1", tuple(TOLD["ssh_keys"]), user_data=told
    )
    root, config = world.fake.domains.guests[world.instance].disks
    assert (root.target, config.target, config.format) == ("vda", "vdz", "raw")
    assert config.path in world.fake.config_drives.written
    [known] = [device for device in world.known.devices if device.kind is DeviceKind.DISK and device.key == "config"]
    assert known.details["path"] == config.path


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"config_drive": "openstack", "hostname": "web-1.example"}, {"layout": Layout.OPENSTACK}),
        ({"user_data": None, "ssh_keys": [], "metadata": {"role": "db"}}, {"metadata": {"role": "db"}}),
        ({"user_data": None, "user_data_base64": "AP8="}, {"user_data": Text(b"\x00\xff")}),
        ({"user_data": {"secret": SECRET}, "vendor_data": "x"}, {"user_data": Text(secret=SECRET)}),
        ({"network_config": {"version": 1}}, {"network": {"version": 1}}),
        ({"name": "¡¿"}, {}),
    ],
)
def test_each_field_reaches_the_drive(world: World, changes: Json, expected: dict[str, object]) -> None:
    """In the layout that was asked for; a name that leaves no host name gives way to the instance's id."""
    world.fake.config_drives.secrets.add(SECRET)
    submit(world, {**TOLD, **changes})
    assert world.take_until_settled("a").job.state is JobState.SUCCEEDED
    written = drive(world)
    assert {name: getattr(written, name) for name in expected} == expected
    hostname = f"server-{world.instance}" if changes.get("name") else changes.get("hostname", "my-web-1")
    assert written.hostname == hostname


@pytest.mark.parametrize(
    "changes", [{"config_drive": "none"}, {}, {"user_data": "", "ssh_keys": [], "metadata": {}}, {"user_data": None}]
)
def test_a_guest_that_is_told_nothing_has_no_config_drive(world: World, changes: Json) -> None:
    """The step is skipped."""
    submit(world, {"name": "vm", "memory_mib": 64, "disk_gib": 1, **changes})
    details = world.take_until_settled("a")
    assert states(details)["ConfigDriveWritten"] is StepState.SKIPPED
    assert len(world.fake.domains.guests[world.instance].disks) == 1


def test_a_secret_that_the_host_lacks_fails_the_spawn_and_leaves_nothing(world: World) -> None:
    """It is an error for good."""
    submit(world, {**TOLD, "user_data": {"secret": "nowhere"}})
    details = world.take_until_settled("a")
    assert details.job.state is JobState.FAILED
    assert world.leftovers == ()


@pytest.mark.parametrize("moment", ["before", "halfway", "after"])
@pytest.mark.parametrize("fault", [Killed(), transient()], ids=["killed", "line down"])
def test_the_drive_is_written_once_whatever_happens(world: World, moment: str, fault: BaseException) -> None:
    """The run that ends the job reads what is withheld again."""
    world.fake.fail("config_drives.write", fault, after=moment == "after", halfway=moment == "halfway")
    submit(world)
    if isinstance(fault, Killed):
        with pytest.raises(Killed):
            world.take("a")
    details = world.take_until_settled("a")
    assert details.job.state is JobState.SUCCEEDED
    assert world.effects.count("config_drives.write") == 1
    user_data = drive(world).user_data
    assert user_data is not None
    assert user_data.content == USER_DATA.encode()


@pytest.mark.parametrize("moment", ["before", "halfway", "after"])
def test_a_failed_spawn_leaves_no_config_drive(world: World, moment: str) -> None:
    """Nor half of one."""
    world.fake.fail("config_drives.write", permanent(), after=moment == "after", halfway=moment == "halfway")
    submit(world)
    assert world.take_until_settled("a").job.state is JobState.FAILED
    assert world.leftovers == ()


def test_a_disk_that_stands_in_its_place_is_somebody_elses(world: World) -> None:
    """It is never written."""
    path = world.fake.disks.path_for(world.instance, "config", "raw")
    world.fake.disks.create(world.instance, path, size_bytes=512, backing=None, epoch=0)
    submit(world)
    assert world.take_until_settled("a").job.state is JobState.FAILED
    assert world.leftovers == ("folder", "config.raw")


def test_a_destroy_takes_the_drive_with_it(world: World) -> None:
    """It is a file of the instance like any other."""
    submit(world)
    world.take_until_settled("a")
    assert world.run("d", "destroy").job.state is JobState.SUCCEEDED
    assert (world.leftovers, world.known.devices) == ((), ())


def test_a_job_that_lost_what_it_withholds_is_an_operators(world: World) -> None:
    """A journal that was taken back to an earlier revision has it no more; nothing is made without it."""
    submit(world)
    with world.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM withheld_parts")
    details = world.take_until_settled("a")
    assert details.job.state is JobState.QUARANTINED
    assert details.job.error is not None
    assert "user_data" in details.job.error.message
    assert world.leftovers == ()
    assert resume(world.database, "a", Asked("ops", "again"), outbox=False).taken
    time_passes(world.database, "a")
    assert world.take_until_settled("a").job.state is JobState.QUARANTINED
