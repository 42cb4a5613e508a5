"""Disks that are copied, formatted and allocated, as real files."""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from models.states import ErrorClass
from tasks.host import FileSystem, HostError, Image
from tests.lab.places import program
from tests.worker.host.disk_scene import Place, class_of, stuck_program
from worker.host import children
from worker.host.disks import FileDisks

MIB = 1024**2


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A state folder that is not there yet."""
    return Place(tmp_path / "state")


@pytest.fixture
def stuck_qemu_img(tmp_path: Path) -> Iterator[str]:
    """A qemu-img that never comes to its end."""
    with stuck_program(tmp_path) as program_path:
        yield program_path


def content_of(path: Path, disk_format: str) -> bytes:
    """What a guest would read."""
    raw = path.with_name("read")
    command = [program("qemu-img"), "convert", "-f", disk_format, "-O", "raw", str(path), str(raw)]
    subprocess.run(command, check=True, timeout=30)
    content = raw.read_bytes()
    raw.unlink()
    return content


def image_in(folder: Path, image_format: str) -> tuple[Image, bytes]:
    """An image with something at its beginning and at its end; what it holds."""
    content = b"begins" + bytes(4 * MIB - 10) + b"ends"
    raw, path = folder / "image.raw", folder / f"image.{image_format}"
    raw.write_bytes(content)
    if image_format == "qcow2":
        command = [program("qemu-img"), "convert", "-c", "-f", "raw", "-O", "qcow2", str(raw), str(path)]
        subprocess.run(command, check=True, timeout=30)
    return Image(str(path), image_format, 4 * MIB), content


@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_a_copy_has_the_images_content_and_nothing_behind_it(
    place: Place, tmp_path: Path, image_format: str, disk_format: str
) -> None:
    """It takes no space for what is empty, and tells how far it has come."""
    image, content = image_in(tmp_path, image_format)
    path = place.disks.path_for(place.instance, "root", disk_format)
    place.disks.copy(place.instance, path, image=image, size_bytes=5 * MIB, epoch=1)
    assert content_of(Path(path), disk_format) == content + bytes(MIB)
    assert Path(path).stat().st_blocks * 512 < MIB
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert place.names() == [f"root.{disk_format}"]


def test_a_guests_header_in_a_raw_image_is_copied_and_never_read(place: Place, tmp_path: Path) -> None:
    """A qcow2 file that is declared raw is just bytes, whatever they refer to."""
    secret, path = tmp_path / "secret", tmp_path / "image"
    secret.write_bytes(b"secret" * 1000)
    command = [program("qemu-img"), "create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(path)]
    subprocess.run(command, check=True, timeout=30)
    image, content = Image(str(path), "raw", path.stat().st_size), path.read_bytes()
    copied = place.disks.path_for(place.instance, "root", "raw")
    place.disks.copy(place.instance, copied, image=image, size_bytes=MIB, epoch=1)
    assert Path(copied).read_bytes() == content + bytes(MIB - len(content))


def test_a_copy_that_is_watched_ends_when_it_is_not_wanted_any_more(
    place: Place, stuck_qemu_img: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its child with it, and its half, and what was promised to it."""
    monkeypatch.setattr(children, "WATCH_S", 0.05)
    image, _ = image_in(tmp_path, "raw")
    told = []

    def twice(done: int, total: int) -> bool:
        told.append((done, total))
        return len(told) < 2

    disks = FileDisks(place.folders, qemu_img_program=stuck_qemu_img)
    path = place.disks.path_for(place.instance, "root", "raw")
    with pytest.raises(HostError, match="ended before it was done") as caught:
        disks.copy(place.instance, path, image=image, size_bytes=0, epoch=1, watch=twice)
    assert class_of(caught) is ErrorClass.TRANSIENT
    assert told == [(0, 4 * MIB)] * 2
    assert children.making_files_in(str(place.folder)) == []
    assert place.names() == []


def test_a_copy_tells_how_far_it_has_come(
    place: Place, stuck_qemu_img: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In qemu-img's own words."""
    monkeypatch.setattr(children, "WATCH_S", 0.05)
    words = r"(1.00/100%%)\r (25.00/100%%)\r"
    Path(stuck_qemu_img).write_text(f"#!/bin/sh\nprintf '{words}'\nread line < {tmp_path}/never\n")
    image, _ = image_in(tmp_path, "raw")
    disks = FileDisks(place.folders, qemu_img_program=stuck_qemu_img)
    path = place.disks.path_for(place.instance, "root", "raw")
    with pytest.raises(HostError, match="ended before it was done"):
        disks.copy(place.instance, path, image=image, size_bytes=0, epoch=1, watch=lambda done, _total: done < MIB)


def test_space_for_a_disk_is_promised_before_it_is_made(place: Place, tmp_path: Path) -> None:
    """For what will be written: a copy, or the whole disk where its space is asked for."""
    place.folder.mkdir(parents=True)
    free = os.statvfs(place.folder).f_bavail * os.statvfs(place.folder).f_frsize
    too_much = 2 * free
    raw = place.disks.path_for(place.instance, "data", "raw")
    image = Image(str(tmp_path), "raw", too_much)
    place.disks.create(place.instance, raw, size_bytes=too_much, backing=None, epoch=1)
    place.disks.remove(place.instance, raw)
    swap = FileSystem("swap", "swap")
    for call in (
        partial(place.disks.create, place.instance, raw, size_bytes=too_much, backing=None, epoch=1, preallocate=True),
        partial(
            place.disks.create, place.instance, place.root, size_bytes=too_much, backing=None, epoch=1, preallocate=True
        ),
        partial(
            place.disks.format, place.instance, raw, size_bytes=too_much, file_system=swap, epoch=1, preallocate=True
        ),
        partial(place.disks.copy, place.instance, raw, image=image, size_bytes=0, epoch=1),
    ):
        with pytest.raises(HostError) as caught:
            call()
        assert class_of(caught) is ErrorClass.RESOURCE
    assert not place.folder.exists() or place.names() == []


def test_a_program_that_is_missing_is_named_with_its_package(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It will not install itself, and nothing is left."""
    monkeypatch.setattr(children, "_ENVIRONMENT", {"PATH": str(place.state)})
    path = place.disks.path_for(place.instance, "data", "raw")
    file_system = FileSystem("vfat", "data")
    with pytest.raises(HostError, match=r"has no program mkfs\.vfat: install dosfstools$") as caught:
        place.disks.format(place.instance, path, size_bytes=MIB, file_system=file_system, epoch=1)
    assert class_of(caught) is ErrorClass.PERMANENT
    assert place.names() == []
