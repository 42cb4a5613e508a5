"""Images as real files: where they lie, what they are, and what they refer to."""

import os
import struct
import subprocess
import time
from pathlib import Path

import pytest

from models.states import ErrorClass
from tasks.host import HostError
from tests.lab.places import program
from worker.host.images.inspecting import Inspector
from worker.host.images.local import FileImages
from worker.host.roots import Roots

MIB = 1024**2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image root."""
    root = tmp_path / "images"
    root.mkdir()
    return root


def below(*roots: str) -> FileImages:
    """Images below these roots, of a TiB at most."""
    return FileImages(Roots(roots, called="an image root", setting="HOSTLER_IMAGE_ROOTS"), Inspector(1024**4))


@pytest.fixture
def images(root: Path) -> FileImages:
    """Images below that root."""
    return below(str(root))


def qcow2(path: Path, *options: str) -> Path:
    """A new qcow2 file of one MiB."""
    subprocess.run(
        [program("qemu-img"), "create", "-q", "-f", "qcow2", *options, str(path), str(MIB)], check=True, timeout=30
    )
    return path


def raw(path: Path, head: bytes = b"", size: int = MIB) -> Path:
    """A sparse file that begins so."""
    path.write_bytes(head)
    os.truncate(path, size)
    return path


def refusal(images: FileImages, path: Path | str, declared: str = "raw") -> str:
    """The sentence with which the image is refused for good."""
    with pytest.raises(HostError) as caught:
        images.inspect(str(path), declared)
    assert caught.value.error_class is ErrorClass.PERMANENT
    return str(caught.value)


def test_without_a_root_no_image_can_be_used(root: Path) -> None:
    """And the sentence names the setting."""
    assert "HOSTLER_IMAGE_ROOTS" in refusal(below(), raw(root / "a"))


def test_a_link_within_the_roots_is_followed_to_the_file(images: FileImages, root: Path) -> None:
    """The path that is used afterwards has no link in it."""
    (root / "deep").mkdir()
    target = raw(root / "deep" / "a")
    (root / "link").symlink_to(target)
    assert images.inspect(str(root / "link"), "raw").path == str(target)


def test_a_link_out_of_the_roots_is_refused(images: FileImages, root: Path, tmp_path: Path) -> None:
    """A file's link, a folder's link, and dots."""
    outside = raw(tmp_path / "outside")
    (root / "link").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    for path in (root / "link", root / "folder" / "outside", f"{root}/../outside"):
        assert "does not lie below an image root" in refusal(images, path)


def test_a_root_that_is_a_link_is_a_root(root: Path, tmp_path: Path) -> None:
    """The operator's own links are the operator's business."""
    (tmp_path / "link").symlink_to(root)
    raw(root / "a")
    assert below(str(tmp_path / "link")).inspect(str(tmp_path / "link" / "a"), "raw").path == str(root / "a")


def test_a_root_is_not_a_prefix_of_a_name(images: FileImages, root: Path) -> None:
    """/images does not open /images-of-others."""
    others = Path(f"{root}-of-others")
    others.mkdir()
    assert "does not lie below" in refusal(images, raw(others / "a"))


@pytest.mark.parametrize("path", ["relative", "", "/nul\0", "/images/\nx", "/half a pair \ud800"])
def test_a_path_that_names_no_file_is_refused(images: FileImages, path: str) -> None:
    """One sentence, on one line."""
    assert refusal(images, path)


def test_what_is_no_regular_file_is_refused_without_waiting(images: FileImages, root: Path) -> None:
    """A pipe that nobody writes would hold the job for ever."""
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    (root / "loop").symlink_to(root / "loop")
    raw(root / "file")
    assert "not a regular file" in refusal(images, root / "pipe")
    assert "not a regular file" in refusal(images, root / "folder")
    assert "cannot be found" in refusal(images, root / "loop")
    assert "cannot be found" in refusal(images, root / "file" / "below")


def test_a_raw_disk_may_have_a_partition_table(images: FileImages, root: Path) -> None:
    """Most have; a boot sector without partitions is one too."""
    partition = struct.pack("<B3BB3BII", 0x80, 0, 2, 0, 0x83, 0, 0, 0, 2048, 2048)
    for name, head in (
        ("mbr", b"\0" * 446 + partition + b"\0" * 48 + b"\x55\xaa"),
        ("boot", b"\0" * 510 + b"\x55\xaa"),
    ):
        assert images.inspect(str(raw(root / name, head)), "raw").virtual_size_bytes == MIB


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"KDMV" + b"\1\0\0\0" + b"\0" * 504, "vmdk"),
        (b"QED\0" + b"\0" * 508, "qed"),
        (b"\0" * 0x8001 + b"CD001" + b"\0" * 4096, "iso"),
    ],
)
def test_another_format_is_named_in_the_refusal(images: FileImages, root: Path, head: bytes, found: str) -> None:
    """Both the declared format and the real one."""
    assert f"declared raw, but it is {found}" in refusal(images, raw(root / "a", head))


def test_an_image_with_two_formats_is_refused(images: FileImages, root: Path) -> None:
    """One header is hidden behind another."""
    path = qcow2(root / "a")
    with path.open("r+b") as file:
        file.seek(0x8001)
        file.write(b"CD001")
    assert "cannot be used as an image" in refusal(images, path, "qcow2")


def test_a_qcow2_image_that_refers_to_a_file_is_refused(images: FileImages, root: Path) -> None:
    """A backing file, with the reason; a data file, with the reason."""
    raw(root / "base")
    backed = qcow2(root / "backed", "-b", str(root / "base"), "-F", "raw")
    data = qcow2(root / "data", "-o", f"data_file={root / 'data.raw'}")
    assert "backing file" in refusal(images, backed, "qcow2")
    assert "data_file" in refusal(images, data, "qcow2")


def test_a_qcow2_image_with_unknown_features_is_refused(images: FileImages, root: Path) -> None:
    """A later QEMU might read something else in it."""
    path = qcow2(root / "a")
    with path.open("r+b") as file:
        file.seek(72)
        file.write(b"\x80")
    assert "cannot be used as an image" in refusal(images, path, "qcow2")


def test_a_truncated_qcow2_header_is_no_qcow2(images: FileImages, root: Path) -> None:
    """Nothing is read behind the end."""
    path = root / "a"
    path.write_bytes(b"QFI\xfb" + b"\0" * 60)
    assert "but it is raw" in refusal(images, path, "qcow2")


def test_an_empty_image_is_refused(images: FileImages, root: Path) -> None:
    """No guest starts from it."""
    assert "is empty" in refusal(images, raw(root / "a", size=0))


def test_a_huge_image_is_inspected_by_its_head(images: FileImages, root: Path) -> None:
    """Whatever its header says, no more than that is read."""
    path = raw(root / "a", b"vhdxfile" + b"\0" * 100, size=1024**4)
    begin = time.monotonic()
    with pytest.raises(HostError):
        images.inspect(str(path), "qcow2")
    assert time.monotonic() - begin < 5


def test_a_required_file_is_found_like_an_image(images: FileImages, root: Path, tmp_path: Path) -> None:
    """Below a root, regular, readable; its format is nobody's business."""
    images.require_file(str(qcow2(root / "a")))
    for path in (root / "missing", raw(tmp_path / "outside"), root):
        with pytest.raises(HostError) as caught:
            images.require_file(str(path))
        assert caught.value.error_class is ErrorClass.PERMANENT
