"""What is around a real host: its folders, servers of its own network, and the back door."""

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from models.records import Json
from tasks.host import (
    ConfigDrives,
    Devices,
    Disks,
    Domains,
    EarlierWork,
    Host,
    Images,
    Interfaces,
    Migrations,
    Power,
    Volumes,
)
from tests.contract.backdoor import Backdoor
from tests.contract.bench import OTHER_FILE_BYTES
from tests.lab.namespaces import configure
from tests.lab.nbd import NbdServer
from tests.lab.network import GUESTS_BRIDGE
from tests.lab.places import program
from worker.host.hypervisor import Hypervisor
from worker.host.images.room import ImageRules

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class HostRooms:
    """A real host: the hypervisor's rooms, and what a worker has in hand."""

    domains: Domains
    devices: Devices
    power: Power
    images: Images
    disks: Disks
    config_drives: ConfigDrives
    volumes: Volumes
    interfaces: Interfaces
    migrations: Migrations
    earlier_work: EarlierWork


@dataclass(frozen=True)
class Places:
    """Folders around a real host: its state, its image root and its volume root, and one that is neither."""

    state: Path
    images: Path
    volumes: Path
    elsewhere: Path

    @classmethod
    def below(cls, folder: Path) -> "Places":
        """In the folder, made if need be."""
        places = cls(folder / "state", folder / "images", folder / "volumes", folder / "elsewhere")
        for place in (places.images, places.volumes, places.elsewhere):
            place.mkdir(exist_ok=True)
        return places

    def hypervisor(self, uri: str) -> Hypervisor:
        """The hypervisor that works in them, and may use NBD servers of its own machine."""
        return Hypervisor(
            uri=uri,
            state_folder=str(self.state),
            image_rules=ImageRules(roots=(str(self.images),)),
            volume_roots=(str(self.volumes),),
            volume_devices=(f"{self.volumes}/*",),
            nbd_servers=(LOOPBACK,),
            virt_type="qemu",
        )


class RealBench:
    """Around a real host; other people's deeds go through the back door. Its guests have no operating system."""

    def __init__(self, host: Host, backdoor: Backdoor, places: Places, network_namespace: str | None = None) -> None:
        self.host = host
        self._backdoor = backdoor
        self._places = places
        self._network_namespace = network_namespace
        self._nbd_servers = ExitStack()

    def image(self, name: str, image_format: str, size_bytes: int) -> str:
        """Made by qemu-img."""
        return _qemu_img(self._places.images / name, "-f", image_format, size=str(size_bytes))

    def image_with_backing(self, name: str) -> str:
        """Made by qemu-img, on a raw file beside it."""
        other = self.image(f"{name}.base", "raw", OTHER_FILE_BYTES)
        return _qemu_img(self._places.images / name, "-f", "qcow2", "-b", other, "-F", "raw")

    def image_with_data_file(self, name: str) -> str:
        """Made by qemu-img, with its data beside it."""
        options = f"data_file={self._places.images / name}.data,data_file_raw=on"
        return _qemu_img(self._places.images / name, "-f", "qcow2", "-o", options, size=str(OTHER_FILE_BYTES))

    def image_outside(self, name: str) -> str:
        """A sparse file."""
        return _qemu_img(self._places.elsewhere / name, "-f", "raw", size=str(OTHER_FILE_BYTES))

    def volume(self, name: str, volume_format: str = "raw") -> str:
        """Made by qemu-img."""
        return _qemu_img(self._places.volumes / name, "-f", volume_format, size=str(OTHER_FILE_BYTES))

    def volume_outside(self, name: str) -> str:
        """A sparse file."""
        return self.image_outside(name)

    def label_of(self, disk: str) -> str:
        """By blkid."""
        command = [program("blkid"), "--probe", "--match-tag", "LABEL", "--output", "value", disk]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    def is_allocated(self, disk: str) -> bool:
        """By the file system."""
        status = Path(disk).stat()
        return status.st_blocks * 512 >= status.st_size

    def secret(self, name: str) -> None:
        """A file that its owner alone reads."""
        path = self._places.state / "secrets" / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text("#cloud-config\n")
        path.chmod(0o600)

    def nbd_server(self) -> Json:
        """A qemu-nbd in the host's network."""
        server = NbdServer(export="volume", network_namespace=self._network_namespace)
        self._nbd_servers.enter_context(server)
        return {"host": server.address, "port": server.port, "export": server.export}

    def nbd_server_ends(self) -> None:
        """By a signal."""
        self._nbd_servers.close()

    def bridge_is(self, *, up: bool) -> None:
        """By the kernel."""
        if self._network_namespace is None:
            raise RuntimeError("this bench has no network of its own")
        configure(self._network_namespace, f"link set {GUESTS_BRIDGE} {'up' if up else 'down'}")

    def keep_devices(self, instance: UUID) -> None:
        """It does so anyway."""

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

    def reset(self, instance: UUID) -> None:
        """By libvirt."""
        self._backdoor.reset(instance)

    def clear(self) -> None:
        """By libvirt."""
        self._backdoor.clear()
        self._nbd_servers.close()


def _qemu_img(path: Path, *options: str, size: str = "") -> str:
    arguments = [program("qemu-img"), "create", "-q", *options, str(path), *filter(None, [size])]
    subprocess.run(arguments, check=True, timeout=30)
    return str(path)
