"""Spawn, destroy, attach, detach and the power operations on one host: rounds through Hostler and bare alternate.

Through Hostler means: from sending the message through Redis and Celery, over the journal (SQLite,
``synchronous=FULL``) and the steps, to holding its result. Bare: ``qemu-img create``, define, create; destroy,
undefine, unlink; attach; detach; for power the one or two calls of libvirt.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil

from tasks.host import DirectBoot
from tests.bench.bare import Bare
from tests.bench.timing import Times
from tests.lab.guest_console import boots_seen
from tests.lab.guest_image import base_image, guest_image
from tests.lab.hosts import LibvirtHost
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from tests.lab.waiting import eventually

MIB = 1024 * 1024
USERSPACE_WITHIN_S = 60.0


class OneHost:
    """A site and, beside it, bare libvirt."""

    def __init__(self, lab: ExitStack) -> None:
        host = lab.enter_context(LibvirtHost("bench"))
        redis = lab.enter_context(RedisServer())
        self.site = lab.enter_context(Site(libvirt=host, broker_url=redis.url))
        guest, image = guest_image(), base_image(self.site.images / "base.qcow2")
        boot = DirectBoot(str(guest.kernel), str(guest.initrd), guest.cmdline_with(still=1))
        self.bare = Bare(host.uri, self.site.folder, image, boot)
        lab.callback(self.bare.close)
        self._orchestrator = Orchestrator(redis.url)
        lab.callback(self._orchestrator.close)
        self.site.start_worker(settings={"SWEEP_INTERVAL_S": "5"})  # as it is by default, with a broker
        self.guest = {
            "name": "bench",
            "memory_mib": 96,
            "image": {"path": str(image), "format": "qcow2"},
            "boot": {"kernel": boot.kernel, "initrd": boot.initrd, "cmdline": boot.cmdline},
        }

    def do(self, operation: str, instance: UUID, request: dict[str, Any]) -> None:
        """Send the job and hold its result."""
        self._orchestrator.send(operation, instance, request).get(timeout=RESULT_WITHIN_S)

    @property
    def worker_rss_mb(self) -> float:
        """The worker's resident memory, in MiB."""
        return float(psutil.Process(self.site.worker.pid).memory_info().rss / MIB)


def measure_life(place: OneHost, times: Times, rounds: int) -> dict[str, Any]:
    """Spawns and destroys; what the worker's memory came to."""
    memory: list[float] = []
    for number in range(rounds + 1):
        ours, theirs, counts = uuid4(), uuid4(), number > 0
        times.add("spawn", "bare", lambda: place.bare.spawn(theirs), counts=counts)  # noqa: B023  # called at once
        times.add("destroy", "bare", lambda: place.bare.destroy(theirs), counts=counts)  # noqa: B023
        times.add("spawn", "hostler", lambda: place.do("spawn", ours, place.guest), counts=counts)  # noqa: B023
        times.add("destroy", "hostler", lambda: place.do("destroy", ours, {}), counts=counts)  # noqa: B023
        memory.append(place.worker_rss_mb)
    return {
        "worker_rss_mb": round(memory[-1], 1),
        "worker_rss_half_way_mb": round(memory[len(memory) // 2], 1),
        "jobs": 2 * rounds,
    }


def measure_volumes(place: OneHost, times: Times, rounds: int) -> None:
    """Attaches and detaches of file volumes, on two guests that answer."""
    ours, theirs = uuid4(), uuid4()
    place.do("spawn", ours, place.guest)
    place.bare.spawn(theirs)
    consoles = (place.site.state / "instances" / str(ours) / "console.log", place.site.folder / f"{theirs}.log")
    for console in consoles:
        eventually(lambda: boots_seen(console.read_text(errors="replace")), "a guest is up", USERSPACE_WITHIN_S)  # noqa: B023
    files = [_volume(place.site.state / "volumes" / name) for name in ("ours.raw", "theirs.raw")]
    volume = {"id": "bench", "kind": "file", "path": str(files[0]), "format": "raw"}
    for number in range(rounds + 1):
        counts = number > 0
        times.add("attach_volume", "bare", lambda: place.bare.attach_volume(theirs, files[1]), counts=counts)
        times.add(
            "attach_volume", "hostler", lambda: place.do("attach_volume", ours, {"volume": volume}), counts=counts
        )
        times.add("detach_volume", "bare", lambda: place.bare.detach_volume(theirs, files[1]), counts=counts)
        times.add(
            "detach_volume", "hostler", lambda: place.do("detach_volume", ours, {"volume_id": "bench"}), counts=counts
        )
    place.do("destroy", ours, {})
    place.bare.destroy(theirs)


#: A round of them leaves a guest as it found it. None waits for the guest: it would be the guest's time.
POWER_ROUND: tuple[tuple[str, dict[str, Any]], ...] = (
    ("pause", {}),
    ("unpause", {}),
    ("suspend", {}),
    ("resume", {}),
    ("reboot", {"type": "hard"}),
    ("stop", {"timeout_s": 0}),
    ("start", {}),
)


def measure_power(place: OneHost, times: Times, rounds: int) -> None:
    """Each power operation of two guests."""
    ours, theirs = uuid4(), uuid4()
    place.do("spawn", ours, place.guest)
    place.bare.spawn(theirs)
    for number in range(rounds + 1):
        for operation, request in POWER_ROUND:
            counts = number > 0
            times.add(operation, "bare", lambda: place.bare.power(operation, theirs), counts=counts)  # noqa: B023
            times.add(operation, "hostler", lambda: place.do(operation, ours, request), counts=counts)  # noqa: B023
    place.do("destroy", ours, {})
    place.bare.destroy(theirs)


def _volume(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(16 * MIB)
    return path
