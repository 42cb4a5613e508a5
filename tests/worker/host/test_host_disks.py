"""Disks as real files: what a crash leaves, what a link points to, who may read them."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from uuid import UUID

import pytest

from models.states import ErrorClass
from tasks.host import HostError
from tests.lab.places import program
from tests.lab.waiting import eventually
from tests.worker.host.disk_scene import Place, class_of, stuck_program
from worker.host import children, halves, qemu_img
from worker.host.disks import FileDisks
from worker.host.folders import Folders

MIB = 1024**2
SOON_S = 10.0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A state folder that is not there yet."""
    return Place(tmp_path / "state")


@pytest.fixture
def stuck_qemu_img(tmp_path: Path) -> Iterator[str]:
    """A qemu-img that never comes to its end."""
    with stuck_program(tmp_path) as program_path:
        yield program_path


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_only_the_owner_reads_disks_and_qemus_user_may_pass_through(place: Place, umask: int) -> None:
    """Whatever the worker's umask is."""
    before = os.umask(umask)
    try:
        place.create()
        place.folders.make_console_log(place.instance)
    finally:
        os.umask(before)
    assert place.folder.stat().st_mode & 0o777 == 0o711
    assert {name: (place.folder / name).stat().st_mode & 0o777 for name in place.names()} == {
        "console.log": 0o600,
        "root.qcow2": 0o600,
    }


def test_a_published_disk_leaves_no_half_and_is_what_qemu_img_reads(place: Place) -> None:
    """One file, one link."""
    place.create()
    assert place.names() == ["root.qcow2"]
    assert Path(place.root).stat().st_nlink == 1
    info = subprocess.run(
        [program("qemu-img"), "check", "-f", "qcow2", place.root], check=True, capture_output=True, timeout=30
    )
    assert b"No errors" in info.stdout


def test_a_half_is_no_disk_and_the_next_epoch_replaces_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before it was published."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(halves, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            place.create(epoch=1)
    assert place.names() == ["root.qcow2.1.part"]
    assert place.disks.find(place.instance, place.root) is None
    place.create(epoch=2)
    assert place.names() == ["root.qcow2"]


def test_a_half_of_a_later_epoch_is_left_to_its_owner(place: Place) -> None:
    """Whoever wakes late does not undo what has passed it by; a removal takes all."""
    place.folder.mkdir(parents=True)
    for name in ("root.qcow2.7.part", "root.qcow2.2.part", "root-2.qcow2.1.part"):
        (place.folder / name).touch()
    place.create(epoch=3)
    assert place.names() == ["root-2.qcow2.1.part", "root.qcow2", "root.qcow2.7.part"]
    place.disks.remove(place.instance, place.root)
    assert place.names() == ["root-2.qcow2.1.part"]


def test_a_file_published_meanwhile_is_not_overwritten(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last moment decides, not the look before."""
    create = qemu_img.create_qcow2

    def and_another_is_faster(path: str, size: int, backing: None, *, program: str) -> None:
        create(path, size, backing, program=program)
        Path(place.root).write_text("another's")

    monkeypatch.setattr(qemu_img, "create_qcow2", and_another_is_faster)
    with pytest.raises(HostError) as caught:
        place.create()
    assert class_of(caught) is ErrorClass.CONFLICT
    assert Path(place.root).read_text() == "another's"
    assert place.names() == ["root.qcow2"]


def test_a_failed_qemu_img_tells_its_last_words_and_leaves_no_half(place: Place, tmp_path: Path) -> None:
    """A full file system is the host's lack, not the request's fault."""
    stand_in = tmp_path / "qemu-img"
    stand_in.write_text('#!/bin/sh\necho half > "$5"\necho "qemu-img: $5: No space left on device" >&2\nexit 1\n')
    stand_in.chmod(0o755)
    with pytest.raises(HostError) as caught:
        place.create(disks=FileDisks(place.folders, qemu_img_program=str(stand_in)))
    assert class_of(caught) is ErrorClass.RESOURCE
    assert caught.value.record.errno == 28
    assert "No space left" in str(caught.value)
    assert place.names() == []


def test_a_missing_qemu_img_is_permanent(place: Place) -> None:
    """It will not install itself."""
    with pytest.raises(HostError) as caught:
        place.create(disks=FileDisks(place.folders, qemu_img_program="/nowhere/qemu-img"))
    assert class_of(caught) is ErrorClass.PERMANENT


def test_a_qemu_img_that_hangs_is_ended_at_its_deadline(
    place: Place, stuck_qemu_img: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it goes on."""
    monkeypatch.setattr(children, "DEADLINE_S", 0.2)
    with pytest.raises(HostError) as caught:
        place.create(disks=FileDisks(place.folders, qemu_img_program=stuck_qemu_img))
    assert class_of(caught) is ErrorClass.TRANSIENT
    assert children.making_files_in(str(place.folder)) == []


@pytest.mark.parametrize(
    ("removal", "words"),
    [
        ("remove", ("create", "-q", "-f", "qcow2")),
        ("remove_folder", ("create", "-q", "-f", "qcow2")),
        ("create", ("create", "-q", "-f", "qcow2")),
        ("create", ("convert", "-p", "-n")),
        ("remove_folder", ("/usr/sbin/mkfs.ext4", "-q")),
        ("remove_folder", ("fallocate", "--length", "1")),
        ("all", ("convert", "-p", "-n")),
    ],
)
def test_a_child_of_a_dead_worker_is_ended_before_its_file_goes(
    place: Place, stuck_qemu_img: str, removal: str, words: tuple[str, ...]
) -> None:
    """It would write on, and publish nothing; a worker that starts ends them all."""
    place.folder.mkdir(parents=True)
    half = place.folder / "root.qcow2.1.part"
    half.touch()
    child = subprocess.Popen([stuck_qemu_img, *words, str(half)], process_group=0)
    reaper = Thread(target=child.wait)  # its worker is dead: somebody else collects it
    reaper.start()
    try:
        eventually(lambda: children.making_files_in(str(place.folder)), "the child runs")
        if removal == "remove":
            place.disks.remove(place.instance, place.root)
        elif removal == "remove_folder":
            place.disks.remove_folder(place.instance)
        elif removal == "create":
            place.create(epoch=2)
        else:
            assert place.disks.end_all_children() == 1
            assert place.disks.epochs() == {place.instance: 1}
            half.unlink()
        reaper.join(SOON_S)
        assert not reaper.is_alive()
    finally:
        child.kill()
        reaper.join(SOON_S)
    assert not half.exists()


def test_who_looks_at_a_half_is_not_ended(place: Place) -> None:
    """An operator's program names it, and makes nothing."""
    place.folder.mkdir(parents=True)
    half = place.folder / "root.qcow2.1.part"
    half.touch()
    with subprocess.Popen([program("tail"), "-f", str(half)], stdout=subprocess.DEVNULL) as looking:
        place.disks.remove(place.instance, place.root)
        assert looking.poll() is None
        looking.kill()


def test_a_link_in_place_of_the_folder_is_not_followed(place: Place, tmp_path: Path) -> None:
    """What it points to stays as it is."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "root.qcow2").write_text("another's")
    place.folder.parent.mkdir(parents=True)
    place.folder.symlink_to(elsewhere)
    for call in (
        partial(place.disks.find, place.instance, place.root),
        partial(place.create, epoch=1),
        partial(place.disks.remove, place.instance, place.root),
        partial(place.disks.remove_folder, place.instance),
        partial(place.folders.make_console_log, place.instance),
    ):
        with pytest.raises(HostError) as caught:
            call()
        assert class_of(caught) is ErrorClass.CONFLICT
    assert (elsewhere / "root.qcow2").read_text() == "another's"


def test_a_link_in_place_of_a_disk_is_not_followed(place: Place, tmp_path: Path) -> None:
    """Neither read nor written; removing it removes the link."""
    target = tmp_path / "target"
    target.write_text("another's")
    place.folder.mkdir(parents=True)
    Path(place.root).symlink_to(target)
    with pytest.raises(HostError) as caught:
        place.disks.find(place.instance, place.root)
    assert class_of(caught) is ErrorClass.CONFLICT
    with pytest.raises(HostError) as caught:
        place.create()
    assert class_of(caught) is ErrorClass.CONFLICT
    place.disks.remove(place.instance, place.root)
    assert target.read_text() == "another's"


def test_a_published_file_that_is_no_qcow2_is_a_conflict(place: Place) -> None:
    """Somebody put it there; it is not described as a disk of ours."""
    place.folder.mkdir(parents=True)
    Path(place.root).write_bytes(b"\0" * 4096)
    with pytest.raises(HostError) as caught:
        place.disks.find(place.instance, place.root)
    assert class_of(caught) is ErrorClass.CONFLICT


def test_a_raw_disk_has_its_files_size(place: Place) -> None:
    """A config drive is one."""
    path = place.disks.path_for(place.instance, "config", "raw")
    place.folder.mkdir(parents=True)
    Path(path).write_bytes(b"\0" * 1536)
    found = place.disks.find(place.instance, path)
    assert found is not None
    assert (found.format, found.virtual_size_bytes, found.backing_path) == ("raw", 1536, None)


def test_a_half_removed_folder_is_something_left_and_a_replay_finishes_it(place: Place) -> None:
    """Renamed, and then the worker died; meanwhile somebody may even have made the folder again."""
    aside = Path(f"{place.folder}.removing")
    (aside / "deep").mkdir(parents=True)
    (aside / "deep" / "file").touch()
    assert place.disks.folder_exists(place.instance)
    place.create()
    place.disks.remove_folder(place.instance)
    assert not place.disks.folder_exists(place.instance)
    assert list(place.folder.parent.iterdir()) == []


def test_a_disk_that_a_process_has_open_stays_and_the_process_is_to_be_ended(place: Place) -> None:
    """Whatever libvirt believes of the guest: its blocks would be written to, whoever has them by then."""
    place.create()
    with Path(place.root).open("r+b") as disk:
        lock = struct.pack(
            "hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 101, 1, 0
        )  # as QEMU locks each permission that it has
        fcntl.fcntl(disk, fcntl.F_OFD_SETLK, lock)
        for remove in (
            partial(place.disks.remove_folder, place.instance),
            partial(place.disks.remove, place.instance, place.root),
        ):
            with pytest.raises(HostError, match=rf"a process still has {place.root} open.*fuser") as caught:
                remove()
            assert class_of(caught) is ErrorClass.TRANSIENT
        assert place.names() == ["root.qcow2"]
    place.disks.remove_folder(place.instance)
    assert not place.disks.folder_exists(place.instance)


def test_the_folder_of_one_instance_is_not_anothers(place: Place) -> None:
    """Removing one leaves the other."""
    other = UUID(int=place.instance.int ^ 1)
    place.create()
    place.disks.remove_folder(other)
    assert place.names() == ["root.qcow2"]


def test_a_console_log_keeps_what_was_written(place: Place) -> None:
    """Defined again, the guest's words stay."""
    place.folders.make_console_log(place.instance)
    Path(place.folders.console_log(place.instance)).write_text("booted")
    place.folders.make_console_log(place.instance)
    assert Path(place.folders.console_log(place.instance)).read_text() == "booted"


def test_a_console_log_goes_and_disks_stay(place: Place) -> None:
    """The folder goes with the last of them."""
    place.create()
    place.folders.make_console_log(place.instance)
    place.folders.remove_console_log(place.instance)
    assert place.names() == ["root.qcow2"]


def test_a_state_folder_must_be_absolute() -> None:
    """QEMU has another working folder."""
    with pytest.raises(HostError):
        Folders("state")
