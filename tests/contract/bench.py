"""What a contract test may arrange around a host, beyond the port: files for it to find, and other people's deeds."""

from typing import Protocol
from uuid import UUID

from models.records import Json
from tasks.host import DomainState, Host
from tests.fake_host import FakeHost, FakeImage, mislabelled, stranger
from tests.lab.network import GUESTS_BRIDGE

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

    def volume(self, name: str, volume_format: str = "raw") -> str:
        """Put a volume's file below the volume root; its path."""
        ...

    def volume_outside(self, name: str) -> str:
        """Put a good raw volume where no volume root is."""
        ...

    def label_of(self, disk: str) -> str:
        """The label of the file system, or swap space, on a raw disk."""
        ...

    def is_allocated(self, disk: str) -> bool:
        """Whether the host has given the disk the space for all of it."""
        ...

    def secret(self, name: str) -> None:
        """Put a secret where the host looks for them."""
        ...

    def nbd_server(self) -> Json:
        """Start a permitted NBD server; where its volume is."""
        ...

    def nbd_server_ends(self) -> None:
        """It is gone."""
        ...

    def bridge_is(self, *, up: bool) -> None:
        """The guests' bridge passes on what they send, from now on, or nothing of it."""
        ...

    def keep_devices(self, instance: UUID) -> None:
        """From now on its guest lets no device go until it is reset, as a guest without an operating system does."""
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

    def reset(self, instance: UUID) -> None:
        """Somebody presses the domain's reset button."""
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

    def volume(self, name: str, volume_format: str = "raw") -> str:
        """Noted."""
        return self.host.volumes.put(name, volume_format)

    def volume_outside(self, name: str) -> str:
        """Not noted."""
        return f"/elsewhere/{name}"

    def label_of(self, disk: str) -> str:
        """As noted."""
        [label] = [files.formatted[disk].label for files in self.host.disks.folders.values() if disk in files.formatted]
        return label.upper() if "vfat" in disk else label

    def is_allocated(self, disk: str) -> bool:
        """As noted."""
        return any(disk in files.preallocated for files in self.host.disks.folders.values())

    def secret(self, name: str) -> None:
        """Noted."""
        self.host.config_drives.secrets.add(name)

    def nbd_server(self) -> Json:
        """Noted."""
        self.host.volumes.servers["nbd.example:10809"] = True
        return {"host": "nbd.example", "port": 10809, "export": "volume"}

    def nbd_server_ends(self) -> None:
        """Noted."""
        self.host.volumes.servers["nbd.example:10809"] = False

    def bridge_is(self, *, up: bool) -> None:
        """Noted."""
        self.host.interfaces.bridge_is(GUESTS_BRIDGE, up=up)

    def keep_devices(self, instance: UUID) -> None:
        """Noted."""
        self.host.devices.no_os.add(instance)

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

    def reset(self, instance: UUID) -> None:
        """Lets go."""
        self.host.devices.guest_resets(instance)

    def clear(self) -> None:
        """It goes with its test."""
