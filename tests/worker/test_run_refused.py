"""Requests for what only the host knows that nobody may have: real rooms of images, disks and volumes say no."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.engine import Database
from models.states import ErrorClass, JobState
from tests.fake_host import FakeHost
from tests.lab.image_server import ImageServer
from tests.worker.host.image_scene import Scene, noting
from tests.worker.world import World, error_class
from worker.host.connections import Connections
from worker.host.roots import Roots
from worker.host.volumes.local import BlockVolumes, FileVolumes
from worker.host.volumes.nbd import NbdVolumes
from worker.host.volumes.room import HostVolumes

pytest_plugins = ["tests.builders"]

SHA256 = "0" * 64


class NoLibvirt(Connections):
    """Connections of which none is ever asked for."""

    def __init__(self) -> None:
        """Nothing is opened."""


@pytest.fixture
def server() -> Iterator[ImageServer]:
    """A server that the host may fetch from, on loopback, where the operator listed it."""
    with ImageServer() as server:
        port = server.url.rpartition(":")[2]
        server.redirects = {
            "/images/loopback": f"http://localhost:{port}/images/a",
            "/images/link-local": "http://169.254.169.254/latest/meta-data",
            "/images/file": "file:///etc/shadow",
        }
        yield server


@pytest.fixture
def scene(tmp_path: Path, server: ImageServer) -> Scene:
    """Roots of images and volumes, with links that lead out of them, and a kernel that is permitted."""
    scene = Scene(tmp_path, urls=(f"{server.url}/images/",), qemu_img=noting(tmp_path / "run"))
    (tmp_path / "volumes").mkdir()
    for root in (scene.root, tmp_path / "volumes"):
        (root / "link").symlink_to("/etc/shadow")
        (root / "folder").symlink_to("/etc")
        (root / "device").symlink_to("/dev/sda")
    (scene.root / "kernel").touch()
    return scene


@pytest.fixture
def world(sqlite_journal: Database, scene: Scene, tmp_path: Path) -> World:
    """A host whose libvirt a test would see touched."""
    below = Roots((str(tmp_path / "volumes"),), called="a volume root", setting="HOSTLER_VOLUME_ROOTS")
    kinds = {"file": FileVolumes(below), "block": BlockVolumes(("/dev/vg0/*",)), "nbd": NbdVolumes(below, ("storage",))}
    fake = FakeHost()
    fake.images, fake.disks = scene.images, scene.disks  # type: ignore[assignment]  # they fit the port as well
    fake.volumes = HostVolumes(NoLibvirt(), kinds)  # type: ignore[assignment]  # likewise
    return World(sqlite_journal, fake)


def hostile(scene: Scene, server: ImageServer, volumes: Path) -> list[tuple[str, dict[str, Any]]]:
    """What is asked for, and the field that asks for it."""
    kernel = f"{scene.root}/kernel"
    outside = ["/etc/shadow", "/dev/sda", f"{scene.root}/../state/journal.db", f"{scene.root}/folder/shadow"]
    outside += [f"{scene.root}/link", f"{scene.root}/device", "/proc/self/environ"]
    urls = [f"file://{path}" for path in outside if ".." not in path]
    urls += [f"{server.url}/images/{name}" for name in ("loopback", "link-local", "file")]
    urls += [f"{server.url}/secret", f"{server.url}/images-of-others/a", "http://169.254.169.254/latest/meta-data"]
    urls += [server.url.replace("127.0.0.1", name) + "/images/a" for name in ("localhost", "127.1", "[::1]", "0.0.0.0")]
    inside = f"{volumes}/none"
    wanted: list[dict[str, Any]] = [
        *({"kind": "file", "path": path} for path in ("/etc/shadow", f"{volumes}/link", f"{volumes}/folder/shadow")),
        *({"kind": "block", "path": path} for path in ("/dev/sda", "/dev/vg0/../sda", f"{volumes}/device")),
        *({"kind": "nbd", "socket": path} for path in ("/run/libvirt/libvirt-sock", f"{volumes}/link", inside)),
        {"kind": "nbd", "host": "127.0.0.1"},
    ]
    return [
        *(("image.path", {"image": {"path": path, "format": "raw"}}) for path in outside),
        *(("image.url", {"image": {"url": url, "format": "raw", "sha256": SHA256}}) for url in urls),
        *(("boot.kernel", {"boot": {"kernel": path}}) for path in outside),
        *(("boot.initrd", {"boot": {"kernel": kernel, "initrd": path}}) for path in outside),
        *(("volumes.0", {"boot": {"kernel": kernel}, "volumes": [{"id": "v1", **volume}]}) for volume in wanted),
    ]


def test_what_nobody_may_have_is_refused_by_its_field_and_nothing_is_touched(
    world: World, scene: Scene, server: ImageServer, tmp_path: Path
) -> None:
    """For good, in one sentence; no program is run, no file made, nothing asked of libvirt or of another server."""
    for number, (field, request) in enumerate(hostile(scene, server, tmp_path / "volumes")):
        of_its_own, job = World(world.database, world.fake), f"job-{number}"
        of_its_own.submit(job, "spawn", {"name": "vm", "memory_mib": 64, **request})
        assert of_its_own.take(job) is None
        details = of_its_own.details(job)
        assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT), request
        assert details.job.error is not None
        assert details.job.error.message.startswith(f"{field}: "), request
        assert "\n" not in details.job.error.message
    assert world.effects == []
    assert {path for _, path, _ in server.asked} <= set(server.redirects)
    assert not (tmp_path / "run").exists()
    assert scene.cached == []
    assert not (tmp_path / "state" / "instances").exists()
