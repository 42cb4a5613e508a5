"""What a contract test may arrange around a host, beyond the port: files for it to find, and other people's deeds."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from tasks.host import Disks, Domains, DomainState, EarlierWork, Host, Images
from tests.contract.backdoor import Backdoor
from tests.fake_host import FakeHost, FakeImage, mislabelled, stranger
from tests.lab.places import program

OTHER_FILE_BYTES = 1024**2


class Bench(Protocol):
    """A host under test with everything around it."""

    @property
    def host(self) -> Host:
        """The host, through its port."""
        ...

    def image(self, name: str, image_format: str, size_bytes: int) -> str:
        """Put an image below the image root; its path."""
        ...

    def image_with_backing(self, name: str) -> str:
        """Put a qcow2 image that is an overlay of another."""
        ...

    def image_with_data_file(self, name: str) -> str:
        """Put a qcow2 image that keeps its data in another file."""
        ...

    def image_outside(self, name: str) -> str:
        """Put a good raw image where no image root is."""
        ...

    def stranger(self, instance: UUID) -> None:
        """Somebody else makes and starts a domain with that UUID."""
        ...

    def mislabelled(self, instance: UUID, other: UUID) -> None:
        """Somebody makes a domain whose metadata name another instance."""
        ...

    def pause(self, instance: UUID) -> None:
        """Somebody pauses the domain."""
        ...

    def resume(self, instance: UUID) -> None:
        """Somebody resumes the domain."""
        ...

    def stop(self, instance: UUID) -> None:
        """The domain ends, and not by Hostler."""
        ...

    def clear(self) -> None:
        """Every domain of the host is gone."""
        ...


class FakeBench:
    """Around the fake host."""

    def __init__(self) -> None:
        self.host = FakeHost()

    def image(self, name: str, image_format: str, size_bytes: int) -> str:
        """Noted."""
        return self.host.images.put(name, FakeImage(image_format, size_bytes))

    def image_with_backing(self, name: str) -> str:
        """Noted."""
        return self.host.images.put(name, FakeImage("qcow2", OTHER_FILE_BYTES, refers_to="/fake/other"))

    def image_with_data_file(self, name: str) -> str:
        """Noted."""
        return self.host.images.put(name, FakeImage("qcow2", OTHER_FILE_BYTES, refers_to="/fake/other"))

    def image_outside(self, name: str) -> str:
        """Noted."""
        path = f"/elsewhere/{name}"
        self.host.images.outside[path] = FakeImage("raw", OTHER_FILE_BYTES)
        return path

    def stranger(self, instance: UUID) -> None:
        """Appears."""
        self.host.domains.appears(instance, stranger())

    def mislabelled(self, instance: UUID, other: UUID) -> None:
        """Appears."""
        self.host.domains.appears(instance, mislabelled(other))

    def pause(self, instance: UUID) -> None:
        """Changes."""
        self.host.domains.is_now(instance, DomainState.PAUSED, "user")

    def resume(self, instance: UUID) -> None:
        """Changes."""
        self.host.domains.is_now(instance, DomainState.RUNNING, "unpaused")

    def stop(self, instance: UUID) -> None:
        """Changes."""
        self.host.domains.is_now(instance, DomainState.SHUT_OFF, "shutdown")

    def clear(self) -> None:
        """It goes with its test."""


@dataclass(frozen=True)
class HostRooms:
    """A real host: the hypervisor's rooms, and what a worker has in hand."""

    domains: Domains
    images: Images
    disks: Disks
    earlier_work: EarlierWork


class RealBench:
    """Around a real host, whose image root is ``images``; other people's deeds go through the back door."""

    def __init__(self, host: Host, backdoor: Backdoor, images: Path, elsewhere: Path) -> None:
        self.host = host
        self._backdoor = backdoor
        self._images = images
        self._elsewhere = elsewhere

    def image(self, name: str, image_format: str, size_bytes: int) -> str:
        """Made by qemu-img."""
        return _qemu_img(self._images / name, "-f", image_format, size=str(size_bytes))

    def image_with_backing(self, name: str) -> str:
        """Made by qemu-img, on a raw file beside it."""
        other = self.image(f"{name}.base", "raw", OTHER_FILE_BYTES)
        return _qemu_img(self._images / name, "-f", "qcow2", "-b", other, "-F", "raw")

    def image_with_data_file(self, name: str) -> str:
        """Made by qemu-img, with its data beside it."""
        options = f"data_file={self._images / name}.data,data_file_raw=on"
        return _qemu_img(self._images / name, "-f", "qcow2", "-o", options, size=str(OTHER_FILE_BYTES))

    def image_outside(self, name: str) -> str:
        """A sparse file."""
        return _qemu_img(self._elsewhere / name, "-f", "raw", size=str(OTHER_FILE_BYTES))

    def stranger(self, instance: UUID) -> None:
        """Made through the back door."""
        self._backdoor.stranger(instance)

    def mislabelled(self, instance: UUID, other: UUID) -> None:
        """Made through the back door."""
        self._backdoor.mislabelled(instance, other)

    def pause(self, instance: UUID) -> None:
        """By libvirt."""
        self._backdoor.pause(instance)

    def resume(self, instance: UUID) -> None:
        """By libvirt."""
        self._backdoor.resume(instance)

    def stop(self, instance: UUID) -> None:
        """By libvirt."""
        self._backdoor.stop(instance)

    def clear(self) -> None:
        """By libvirt."""
        self._backdoor.clear()


def _qemu_img(path: Path, *options: str, size: str = "") -> str:
    arguments = [program("qemu-img"), "create", "-q", *options, str(path), *filter(None, [size])]
    subprocess.run(arguments, check=True, timeout=30)
    return str(path)
