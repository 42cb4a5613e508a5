"""Hostile images are refused by what they are, and good ones are not."""

import re
from pathlib import Path

import pytest

from tasks.host import HostError, Image, ImageSource
from tests.worker.host.hostile_images import HOSTILE, MIB, Hostile, as_stream, created, streamed, written
from tests.worker.host.image_scene import Scene, noting


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_image_is_refused_before_qemu_img_runs(tmp_path: Path, hostile: Hostile) -> None:
    """For good, in one sentence: where it lies, fetched, and as the base of a disk, if it was another one before."""
    scene = Scene(tmp_path, qemu_img=noting(tmp_path / "run"))
    path = hostile.make(scene.root / "image")
    sentence = scene.unfit(path, hostile.declared)
    assert str(path) in sentence
    assert hostile.why in sentence
    assert sentence.isprintable()
    assert hostile.why in scene.refused(ImageSource(f"file://{path}", hostile.declared))
    with pytest.raises(HostError, match=re.escape(hostile.why)):
        scene.overlay(Image(str(path), hostile.declared, MIB))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
def test_a_vmdk_that_is_one_file_is_an_image(tmp_path: Path, subformat: str) -> None:
    """An overlay is made on it."""
    scene = Scene(tmp_path)
    path = written(scene.root / "image", "vmdk", "-o", f"subformat={subformat}")
    image = scene.images.inspect(str(path), "vmdk")
    assert (image.format, image.virtual_size_bytes) == ("vmdk", MIB)
    instance = scene.overlay(image)
    disk = scene.disks.find(instance, scene.disks.path_for(instance, "root", "qcow2"))
    assert disk is not None
    assert (disk.backing_path, disk.virtual_size_bytes) == (str(path), MIB)


def test_a_stream_with_a_footer_is_an_image(tmp_path: Path) -> None:
    """However long it is: its tables are told of at its end."""
    scene = Scene(tmp_path)
    path = as_stream(streamed(scene.root / "image"))
    assert path.stat().st_size > MIB
    assert scene.images.inspect(str(path), "vmdk").virtual_size_bytes == 2 * MIB
    scene.overlay(scene.images.inspect(str(path), "vmdk"))


@pytest.mark.parametrize("options", [[], ["-c"], ["-o", "compat=0.10"], ["-o", "cluster_size=2M"]], ids=str)
def test_a_good_qcow2_image_passes(tmp_path: Path, options: list[str]) -> None:
    """Whatever its clusters are like."""
    scene = Scene(tmp_path)
    path = written(scene.root / "image", "qcow2", *options)
    assert scene.images.inspect(str(path), "qcow2").virtual_size_bytes == MIB
    created(scene.root / "empty", "qcow2", size="1T")
    assert scene.images.inspect(str(scene.root / "empty"), "qcow2").virtual_size_bytes == MIB * MIB
