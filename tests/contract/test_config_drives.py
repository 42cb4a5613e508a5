"""The port's `ConfigDrives`: the same promises on every host."""

from uuid import UUID, uuid4

import pytest

from models.states import ErrorClass
from tasks.host import ConfigDrive, HostError, Text
from tasks.host.config_drives import Layout
from tests.contract.bench import Bench

SECRET, NO_SECRET = "init", "nowhere"
TOLD = Text(b"#cloud-config\n")


def drive(instance: UUID, user_data: Text = TOLD) -> ConfigDrive:
    """A drive that tells something."""
    return ConfigDrive(instance, Layout.NOCLOUD, "vm", "vm", user_data=user_data)


def path_of(bench: Bench, instance: UUID) -> str:
    """Where it goes."""
    return bench.host.disks.path_for(instance, "config", "raw")


def refused(bench: Bench, asked: ConfigDrive, path: str) -> ErrorClass:
    """The class of the error with which it is not written."""
    with pytest.raises(HostError) as caught:
        bench.host.config_drives.write(asked, path, epoch=1)
    return caught.value.error_class


def test_a_config_drive_is_a_raw_disk_of_the_instance(bench: Bench, instance: UUID) -> None:
    """Found and removed like any other."""
    path = path_of(bench, instance)
    bench.host.config_drives.write(drive(instance), path, epoch=1)
    found = bench.host.disks.find(instance, path)
    assert found is not None
    assert (found.format, found.backing_path) == ("raw", None)
    assert found.virtual_size_bytes % 512 == 0
    bench.host.disks.remove(instance, path)
    assert not bench.host.disks.folder_exists(instance)


def test_a_config_drive_that_is_there_is_never_written(bench: Bench, instance: UUID) -> None:
    """Whatever it holds is the guest's."""
    path = path_of(bench, instance)
    bench.host.config_drives.write(drive(instance), path, epoch=1)
    assert refused(bench, drive(instance), path) is ErrorClass.CONFLICT


@pytest.mark.parametrize("name", ["config.qcow2", "../config.raw", "console.log"])
def test_only_a_raw_disk_of_the_instance_is_written(bench: Bench, instance: UUID, name: str) -> None:
    """Nothing is made of another path."""
    folder = path_of(bench, instance).rpartition("/")[0]
    assert refused(bench, drive(instance), f"{folder}/{name}") is ErrorClass.PERMANENT
    assert refused(bench, drive(instance), path_of(bench, uuid4())) is ErrorClass.PERMANENT
    assert not bench.host.disks.folder_exists(instance)


def test_a_secret_is_used_by_its_name(bench: Bench, instance: UUID) -> None:
    """Where the host has it, and none else has."""
    bench.secret(SECRET)
    bench.host.config_drives.write(drive(instance, Text(secret=SECRET)), path_of(bench, instance), epoch=1)
    bench.host.disks.remove_folder(instance)
    assert refused(bench, drive(instance, Text(secret=NO_SECRET)), path_of(bench, instance)) is ErrorClass.PERMANENT
    assert not bench.host.disks.folder_exists(instance)


def test_a_raw_disk_is_as_large_as_asked_for_and_no_overlay(bench: Bench, instance: UUID) -> None:
    """What a config drive is copied into as its guest moves."""
    path = path_of(bench, instance)
    bench.host.disks.create(instance, path, size_bytes=61440, backing=None, epoch=1)
    found = bench.host.disks.find(instance, path)
    assert found is not None
    assert (found.format, found.virtual_size_bytes, found.backing_path) == ("raw", 61440, None)
    bench.host.disks.remove_folder(instance)
    image = bench.host.images.inspect(bench.image(f"{instance}.img", "qcow2", 1024**2), "qcow2")
    with pytest.raises(HostError) as caught:
        bench.host.disks.create(instance, path, size_bytes=1024**2, backing=image, epoch=1)
    assert caught.value.error_class is ErrorClass.PERMANENT
