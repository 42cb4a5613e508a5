"""Config drives as real files: what cloud-init's own code makes of them, who may read them, and which secrets may."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pycdlib.pycdlib import PyCdlib

from models.states import ErrorClass
from tasks.host import ConfigDrive, HostError, Text
from tasks.host.config_drives import Layout
from tests.lab.places import CACHE, CHECKOUT, LabIncompleteError, program
from worker.host.config_drives import HostConfigDrives
from worker.host.disks import FileDisks
from worker.host.folders import Folders
from worker.host.secret_files import LIMIT_BYTES, SecretFiles

READER = CHECKOUT / "tests/lab/cloud_init_reader.py"
NAME = "init"
SCRIPT = b"#!/bin/sh\n\xff\n"
INSTANCE = uuid4()
CONTENT = b"#cloud-config\npassword: hunter2\n"
SECRET = Text(secret=NAME)
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@example"
RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC1 you@example"
NETWORK = {"version": 2, "ethernets": {"eth0": {"match": {"macaddress": "52:54:00:00:00:01"}, "dhcp4": True}}}
NETWORK_DATA = {"links": [], "networks": [], "services": [{"type": "dns", "address": "192.0.2.53"}]}
NOCLOUD = ConfigDrive(
    INSTANCE,
    Layout.NOCLOUD,
    "My web 1",
    "web-1",
    ssh_keys=(ED25519, RSA),
    metadata={"role": "db", "ключ": "значение"},
    user_data=Text(CONTENT),
    vendor_data=Text(b"#cloud-config\nntp: {enabled: true}\n"),
    network=NETWORK,
)
OPENSTACK = replace(NOCLOUD, layout=Layout.OPENSTACK, network=NETWORK_DATA)
LEAST = [ConfigDrive(INSTANCE, layout, "vm", "vm", user_data=Text(SCRIPT)) for layout in Layout]
READ = [NOCLOUD, OPENSTACK, *LEAST]
Understood = Mapping[int, dict[str, Any]]  #: by the drive's id(): a drive holds lists, so that it has no hash


class Place:
    """A host's files, and its secrets."""

    def __init__(self, folder: Path) -> None:
        self.secrets = folder / "secrets"
        self.secrets.mkdir(0o700)
        self._folder = folder
        disks = FileDisks(Folders(str(folder / "state")))
        self.drives = HostConfigDrives(disks, SecretFiles(str(self.secrets)))
        self.path = Path(disks.path_for(INSTANCE, "config", "raw"))

    def secret(self, content: bytes = CONTENT, mode: int = 0o600) -> Path:
        """A secret that is there."""
        path = self.secrets / NAME
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def write(self, drive: ConfigDrive) -> None:
        """Have it written."""
        self.drives.write(drive, str(self.path), epoch=1)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A host on which nothing has happened."""
    return Place(tmp_path)


def unpacked(path: Path) -> Mapping[str, bytes]:
    """The files of a config drive, by the names that Linux shows."""
    image = PyCdlib()
    image.open(str(path))

    def files() -> Iterator[tuple[str, bytes]]:
        for folder, _, names in image.walk(rr_path="/"):
            for name in names:
                into = io.BytesIO()
                image.get_file_from_iso_fp(into, rr_path=f"{folder.rstrip('/')}/{name}")
                yield f"{folder}/{name}".lstrip("/"), into.getvalue()

    try:
        return dict(files())
    finally:
        image.close()


def refusal(place: Place, drive: ConfigDrive) -> str:
    """The sentence with which it is not written; nothing is there then."""
    with pytest.raises(HostError) as caught:
        place.write(drive)
    assert caught.value.error_class is ErrorClass.PERMANENT
    assert not place.path.parent.exists()
    return str(caught.value)


@pytest.fixture(scope="module")
def understood(tmp_path_factory: pytest.TempPathFactory) -> Understood:
    """What cloud-init makes of each drive, in one run of it."""
    if not (CACHE / "cloud-init").exists():
        raise LabIncompleteError("cloud-init is not there: run `make setup`")
    command: list[str | Path] = [sys.executable, "-W", "ignore", READER, tmp_path_factory.mktemp("scratch")]
    for number, drive in enumerate(READ):
        folder = tmp_path_factory.mktemp(f"drive-{number}")
        place = Place(folder)
        place.write(drive)
        for name, content in unpacked(place.path).items():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name).write_bytes(content)
        command += [folder / "tree", drive.layout]
    told = subprocess.run(
        command,
        env={"PYTHONPATH": str(CACHE / "cloud-init"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return dict(zip(map(id, READ), json.loads(told.stdout), strict=True))


@pytest.mark.parametrize("drive", [NOCLOUD, OPENSTACK], ids=lambda drive: str(drive.layout))
def test_cloud_init_accepts_both_layouts(understood: Understood, drive: ConfigDrive) -> None:
    """Its own code takes every field for what it is; with these keys it would let their owners in."""
    assert understood[id(drive)] == {
        "instance_id": str(INSTANCE),
        "hostname": "web-1",
        "meta": drive.metadata,
        "keys": [key.split() for key in drive.ssh_keys],
        "parts": [["text/cloud-config", CONTENT.hex()]],
        "vendor_data": "#cloud-config\nntp: {enabled: true}\n",
        "network": drive.network,
    }


@pytest.mark.parametrize("drive", LEAST, ids=lambda drive: str(drive.layout))
def test_cloud_init_accepts_a_drive_that_tells_the_least(understood: Understood, drive: ConfigDrive) -> None:
    """A name; and bytes that are no text arrive as they are."""
    found = understood[id(drive)]
    assert (found["instance_id"], found["hostname"], found["keys"]) == (str(INSTANCE), "vm", [])
    assert found["parts"] == [["text/x-shellscript", SCRIPT.hex()]]


@pytest.mark.parametrize(("layout", "label"), [(Layout.NOCLOUD, "cidata"), (Layout.OPENSTACK, "config-2")])
def test_each_layout_has_the_label_by_which_cloud_init_finds_it(place: Place, layout: Layout, label: str) -> None:
    """As the program says that cloud-init asks."""
    place.write(replace(NOCLOUD, layout=layout))
    command = [program("blkid"), "-p", "-o", "export", str(place.path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    assert {f"LABEL={label}", "TYPE=iso9660"} <= set(told)


def test_only_its_owner_reads_a_config_drive(place: Place) -> None:
    """Whatever the process's umask is."""
    before = os.umask(0)
    try:
        place.write(NOCLOUD)
    finally:
        os.umask(before)
    assert place.path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in place.path.parent.iterdir()] == ["config.raw"]
    assert place.path.stat().st_size % 1024**2 == 0


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_secret_is_told_to_the_guest_alone(place: Place, mode: int) -> None:
    """By its name; it is read as the drive is written."""
    place.secret(mode=mode)
    place.write(replace(NOCLOUD, user_data=SECRET, vendor_data=SECRET))
    files = unpacked(place.path)
    assert (files["user-data"], files["vendor-data"]) == (CONTENT, CONTENT)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700, 0o606])
def test_a_secret_that_others_may_read_is_refused(place: Place, mode: int) -> None:
    """The sentence says what its mode must be."""
    place.secret(mode=mode)
    sentence = refusal(place, replace(NOCLOUD, user_data=SECRET))
    assert sentence == f"the secret 'init' cannot be used: its mode is {mode:04o}, and must be 0600: others may read it"


def test_a_secret_of_another_user_is_refused(place: Place) -> None:
    """Who could change what guests are told."""
    os.chown(place.secret(), 1, 1)
    assert "it belongs to the user 1, and must belong to the worker's" in refusal(
        place, replace(NOCLOUD, user_data=SECRET)
    )


def test_a_secret_that_is_a_link_is_refused(place: Place) -> None:
    """Also to a good secret; nothing is followed."""
    place.secret().rename(place.secrets / "other")
    (place.secrets / NAME).symlink_to("other")
    assert refusal(place, replace(NOCLOUD, user_data=SECRET)).endswith("it is a symbolic link")


@pytest.mark.parametrize("name", ["../init", "a/b", "", ".init", "/etc/shadow", "a" * 129, "a\0b"])
def test_a_name_is_never_a_way_out_of_the_folder(place: Place, name: str) -> None:
    """Whoever asks for it."""
    assert refusal(place, replace(NOCLOUD, user_data=Text(secret=name))).endswith("that is no name of a secret")


def test_a_secret_must_be_there(place: Place) -> None:
    """The sentence says where."""
    assert "put it below HOSTLER_SECRETS_DIR" in refusal(place, replace(NOCLOUD, user_data=SECRET))
    place.secrets.rmdir()
    assert "put it below HOSTLER_SECRETS_DIR" in refusal(place, replace(NOCLOUD, user_data=SECRET))


def test_a_secret_must_be_a_file_of_a_bearable_size(place: Place) -> None:
    """A pipe is not waited for."""
    os.mkfifo(place.secrets / NAME, 0o600)
    assert refusal(place, replace(NOCLOUD, user_data=SECRET)).endswith("it is not a regular file")
    (place.secrets / NAME).unlink()
    place.secret(b"x" * (LIMIT_BYTES + 1))
    assert refusal(place, replace(NOCLOUD, user_data=SECRET)).endswith(f"it has more than {LIMIT_BYTES} bytes")


def test_vendor_data_that_the_layout_cannot_hold_is_refused(place: Place) -> None:
    """It is not changed in silence."""
    place.secret(b"\xff")
    sentence = refusal(place, replace(NOCLOUD, layout=Layout.OPENSTACK, vendor_data=SECRET, network=None))
    assert sentence.startswith("vendor_data is not text")


def test_no_error_tells_a_secret(place: Place) -> None:
    """Nor does the description of a drive, which ends up in tracebacks."""
    assert "hunter2" not in repr(NOCLOUD)
    place.secret(CONTENT, 0o644)
    assert "hunter2" not in refusal(place, replace(NOCLOUD, user_data=SECRET))
