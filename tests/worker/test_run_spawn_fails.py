"""A spawn that fails for good, at each of its steps, on a real host: it has its sentence, and leaves nothing."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import libvirt
import psutil
import pytest

from models.engine import Database
from models.states import InstanceState, JobState
from tasks.catalogue import OPERATIONS
from tasks.spawn import spawn
from tests.builders import runner
from tests.lab.hosts import LibvirtHost
from tests.lab.places import program, scratch_folder
from tests.lab.processes import Process
from tests.worker.world import World
from worker.host.hypervisor import Hypervisor
from worker.host.images.room import ImageRules

pytestmark = pytest.mark.real
pytest_plugins = ["tests.builders"]

#: Less than the least that a disk takes.
SMALL_KIB = 512
STRANGER = "<domain type='qemu'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os></domain>"


@dataclass(frozen=True)
class Place:
    """A real host with room, and the same one with its instances' files on a file system that is full."""

    libvirt: LibvirtHost
    folder: Path
    roomy: Hypervisor
    full: Hypervisor

    @property
    def images(self) -> Path:
        """Where images may be."""
        return self.folder / "images"

    def left(self, instance: UUID) -> list[str]:
        """All files of the instance, and what is half in the cache of images."""
        return [str(path) for path in self.folder.rglob("*") if str(instance) in path.name or path.suffix == ".part"]


@pytest.fixture(scope="module")
def place(libvirt_host: LibvirtHost) -> Iterator[Place]:
    """One for all rows."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("fails"))
        (folder / "images").mkdir()
        rules = ImageRules(roots=(str(folder / "images"),))
        hosts = [
            Hypervisor(
                uri=libvirt_host.uri,
                state_folder=str(state),
                image_rules=rules,
                volume_roots=(str(folder / "volumes"),),
                virt_type="qemu",
            )
            for state in (folder / "state", stack.enter_context(small_file_system(folder / "full")))
        ]
        for host in hosts:
            stack.callback(host.close)
        yield Place(libvirt_host, folder, *hosts)


@contextmanager
def small_file_system(folder: Path) -> Iterator[Path]:
    """One of its own at the folder, in the mounts of a process that keeps it; the path by which others reach it."""
    folder.mkdir()
    mounting = f'mount -t tmpfs -o size={SMALL_KIB}k none "$1"; echo mounted; exec sleep infinity'
    command = [program("unshare"), "--mount", "--propagation", "private", "/bin/sh", "-ec", mounting, "sh", folder]
    with Process(command, log=folder.with_suffix(".log")) as keeper:
        keeper.wait_ready(lambda: "mounted" in keeper.log, "the file system is mounted", 20.0)
        yield Path(f"/proc/{keeper.pid}/root{folder}")


@dataclass(frozen=True)
class Hopeless:
    """Something to ask for that cannot be had, and what is said of it."""

    step: str
    error_class: str
    sentence: str
    asked: dict[str, Any]
    on_full_disk: bool = False


#: GARBAGE, NOTHING and INSTANCE stand for a file that is nothing, a path with no file, and the instance's UUID.
ROWS = {
    "bad image": Hopeless("ImagesCached", "permanent", "GARBAGE is declared qcow2", {"image": {"path": "GARBAGE"}}),
    "wrong checksum": Hopeless(
        "ImagesCached",
        "permanent",
        "SHA-256",
        {"image": {"url": "file://GARBAGE", "format": "raw", "sha256": "0" * 64}},
    ),
    "disk full": Hopeless(
        "RootDiskCreated", "resource", "has 0 MiB that nobody else was promised", {}, on_full_disk=True
    ),
    "disk full for a swap disk alone": Hopeless(
        "EphemeralDisksCreated",
        "resource",
        "has 0 MiB that nobody else was promised",
        {"disk_gib": None, "boot": {"kernel": "GARBAGE"}, "swap_mib": 16},
        on_full_disk=True,
    ),
    "no such secret": Hopeless(
        "ConfigDriveWritten", "permanent", "the secret 'none' cannot be used", {"user_data": {"secret": "none"}}
    ),
    "missing volume": Hopeless(
        "VolumesConnected", "permanent", "NOTHING", {"volumes": [{"id": "v", "kind": "file", "path": "NOTHING"}]}
    ),
    "missing bridge": Hopeless(
        "InterfacesPlugged", "permanent", "nobridge", {"interfaces": [{"id": "n", "bridge": "nobridge"}]}
    ),
    "name clash": Hopeless("DomainDefined", "conflict", "domain 'INSTANCE' already exists", {}),
    "no such machine": Hopeless(
        "DomainDefined", "permanent", "this host has no pc-q35-0.1", {"hardware": {"machine_type": "pc-q35-0.1"}}
    ),
    "processor that only KVM has": Hopeless(
        "DomainRunning", "permanent", "host-passthrough", {"hardware": {"cpu_mode": "host-passthrough"}}
    ),
    "UEFI without firmware": Hopeless(
        "DomainRunning", "permanent", "firmware", {"hardware": {"firmware_type": "uefi"}}
    ),
    "QEMU exits at once": Hopeless("DomainRunning", "permanent", "kernel", {"boot": {"kernel": "GARBAGE"}}),
}


@contextmanager
def a_strangers_domain(host: LibvirtHost, name: str) -> Iterator[libvirt.virDomain]:
    """Defined under the name, with another UUID."""
    with closing(libvirt.open(host.uri)) as connection:
        domain = connection.defineXML(STRANGER.format(name=name))
        try:
            yield domain
        finally:
            domain.undefine()


def processes_of(instance: UUID) -> list[str]:
    """Whatever is at work for the instance."""
    return [
        each.info["name"]
        for each in psutil.process_iter(["name", "cmdline"])
        if any(str(instance) in argument for argument in each.info["cmdline"] or ())
    ]


def filled(value: Any, names: dict[str, str]) -> Any:  # a part of a request, or all of it
    """With what the names stand for."""
    text = json.dumps(value)
    for name, stands_for in names.items():
        text = text.replace(name, stands_for)
    return json.loads(text)


@pytest.mark.parametrize("what", ROWS)
def test_a_spawn_that_fails_for_good_leaves_nothing(place: Place, sqlite_journal: Database, what: str) -> None:
    """Its sentence says what failed at which step, on which host, for which instance, and what to do."""
    instance = uuid4()
    row = ROWS[what]
    garbage = place.images / "garbage"
    garbage.write_bytes(b"this is neither an image nor a kernel\n" * 64)
    names = {"GARBAGE": str(garbage), "NOTHING": str(place.folder / "volumes/none.raw"), "INSTANCE": str(instance)}
    host = place.full if row.on_full_disk else place.roomy
    world = World(sqlite_journal, host, instance)  # type: ignore[arg-type]  # a real host in the fake one's place
    with ExitStack() as stack:
        if what == "name clash":
            stranger = stack.enter_context(a_strangers_domain(place.libvirt, str(instance)))
        world.submit("a", "spawn", {"name": "unlucky", "memory_mib": 40, "disk_gib": 1, **filled(row.asked, names)})
        assert world.take("a", runner(sqlite_journal, host, *OPERATIONS.values())) is None
        job = world.details("a").job

        assert (job.state, job.error and job.error.error_class) == (JobState.FAILED, row.error_class), job.error
        assert job.error is not None
        assert job.error.told.startswith(f"spawn of instance {instance} on host h1 failed at {row.step}: ")
        assert filled(row.sentence, names) in job.error.told
        assert "hostler jobs retry a" in job.error.told
        assert "\n" not in job.error.told
        assert place.left(instance) == []
        assert processes_of(instance) == []
        assert (world.known.state, world.known.devices) == (InstanceState.ABSENT, ())
        assert host.domains.find(instance) is None
        if what == "name clash":
            assert stranger.name() == str(instance)


def test_each_step_of_a_spawn_has_a_row() -> None:
    """None is thought to be always possible."""
    assert {row.step for row in ROWS.values()} == {step.name for step in spawn.steps}
