"""Images on a real file system: what tests make them of, and a host's rooms around them."""

import hashlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from models.states import ErrorClass
from tasks.host import HostError, Image, ImageSource
from tests.lab.places import program
from worker.host.disks import FileDisks
from worker.host.folders import Folders
from worker.host.images.cache import PART
from worker.host.images.room import HostImages, ImageRules
from worker.host.space import Space

MIB = 1024**2


def qcow2(path: Path, *options: str, size: str = "1M") -> Path:
    """A new qcow2 file."""
    command = [program("qemu-img"), "create", "-q", "-f", "qcow2", *options, str(path), size]
    subprocess.run(command, check=True, timeout=30)
    return path


def go_on(_done: int, _total: int) -> bool:
    """A watch that never ends a fetch."""
    return True


@dataclass
class Scene:
    """A state folder and an image root, and the rooms that work there."""

    folder: Path
    urls: tuple[str, ...] = ()
    max_gib: int = 1024
    cache_max_gib: int = 100
    timeout_s: float = 30.0
    space: Space = field(default_factory=Space)
    qemu_img: str = "qemu-img"

    def __post_init__(self) -> None:
        self.root = self.folder / "images"
        self.root.mkdir(exist_ok=True)
        state = str(self.folder / "state")
        rules = ImageRules(
            roots=(str(self.root),),
            urls=self.urls,
            max_gib=self.max_gib,
            cache_max_gib=self.cache_max_gib,
            timeout_s=self.timeout_s,
        )
        self.folders = Folders(state)
        self.images = HostImages(state, self.folders, rules, self.space)
        self.disks = FileDisks(
            self.folders,
            qemu_img_program=self.qemu_img,
            space=self.space,
            held=self.images.held,
            opened=self.images.opened,
        )

    @property
    def cached(self) -> list[str]:
        """What is in the cache, less its lock."""
        folder = Path(self.images.cache.folder)
        return sorted(path.name for path in folder.iterdir() if path.name != "lock") if folder.exists() else []

    def file(self, name: str, content: bytes) -> ImageSource:
        """A raw image below the root, as a source without a checksum."""
        (self.root / name).write_bytes(content)
        return ImageSource(f"file://{self.root}/{name}", "raw")

    def fetch(self, source: ImageSource) -> Image:
        """Fetch it; the image."""
        key = self.images.identify(source)
        self.images.fetch(source, key, go_on)
        image = self.images.cached(key, source.format)
        assert image is not None
        return image

    def overlay(self, image: Image, instance: UUID | None = None) -> UUID:
        """Make a disk on the image; whose it is."""
        instance = instance or uuid4()
        path = self.disks.path_for(instance, "root", "qcow2")
        self.disks.create(instance, path, size_bytes=0, backing=image, epoch=1)
        return instance

    def refused(self, source: ImageSource, error_class: ErrorClass = ErrorClass.PERMANENT) -> str:
        """The sentence with which the fetch is refused; the cache has nothing of it."""
        before = [name for name in self.cached if not name.endswith(PART)]
        with pytest.raises(HostError) as caught:
            self.fetch(source)
        assert caught.value.error_class is error_class, caught.value
        assert [name for name in self.cached if not name.endswith(PART)] == before
        return str(caught.value)

    def unfit(self, path: Path, declared_format: str) -> str:
        """The sentence with which the image is refused for good."""
        with pytest.raises(HostError) as caught:
            self.images.inspect(str(path), declared_format)
        assert caught.value.error_class is ErrorClass.PERMANENT, caught.value
        return str(caught.value)


def noting(mark: Path) -> str:
    """A program to stand in qemu-img's place: it only makes that file, which tells that it was run."""
    trap = mark.with_name("trap")
    trap.write_text(f"#!/bin/sh\ntouch {mark}\nexit 1\n")
    trap.chmod(0o755)
    return str(trap)


def sha256(content: bytes) -> str:
    """Its SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
