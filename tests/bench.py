"""`make bench`: what Hostler costs over the bare calls, measured in one run on one libvirtd.

Rounds alternate: a spawn and a destroy through Redis, Celery, the journal (SQLite, ``synchronous=FULL``) and the
steps, from sending the message to holding its result; and the same calls made bare on the same libvirtd:
``qemu-img create``, define, create; destroy, undefine, unlink. Machines are noisy: the ratio counts.
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import libvirt
import psutil
from rich.console import Console
from rich.table import Table

from tasks.host import DirectBoot, Guest, GuestDisk, Identity
from tests.lab.guest_image import base_image, guest_image
from tests.lab.hosts import LibvirtHost
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.places import program
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from worker.host.guest_xml import GuestSurroundings, domain_xml

MIB = 1024 * 1024
#: Interleaved rounds: a hundred spawns and a hundred destroys are the two hundred jobs that memory is judged after.
ROUNDS = 100


def timed(action: Callable[[], object]) -> float:
    """How long it took, in milliseconds."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


class Bare:
    """The calls that a spawn and a destroy cannot do without, made one after another."""

    def __init__(self, uri: str, folder: Path, image: Path, boot: DirectBoot) -> None:
        self._connection = libvirt.open(uri)
        self._folder = folder
        self._image = image
        self._boot = boot

    def spawn(self, instance: UUID) -> None:
        """An overlay, a definition, a running domain."""
        disk = self._folder / f"{instance}.qcow2"
        subprocess.run(
            [program("qemu-img"), "create", "-q", "-f", "qcow2", "-b", self._image, "-F", "qcow2", disk],
            check=True,
            timeout=30,
        )
        guest = Guest(
            identity=Identity(instance, "bare"),
            name="bench",
            memory_mib=96,
            vcpus=1,
            disks=(GuestDisk(str(disk), "qcow2", "vda", "ua-root", "root"),),
            boot=self._boot,
        )
        surroundings = GuestSurroundings("qemu", "x86_64", console_log=str(self._folder / f"{instance}.log"))
        self._connection.defineXML(domain_xml(guest, surroundings)).create()

    def destroy(self, instance: UUID) -> None:
        """No domain, no definition, no files."""
        domain = self._connection.lookupByUUIDString(str(instance))
        domain.destroy()
        domain.undefine()
        (self._folder / f"{instance}.qcow2").unlink()
        (self._folder / f"{instance}.log").unlink()

    def close(self) -> None:
        """Let go of libvirt."""
        self._connection.close()


def rss_mb(pid: int) -> float:
    """Resident memory, in MiB."""
    return float(psutil.Process(pid).memory_info().rss / MIB)


def measure(rounds: int) -> dict[str, Any]:
    """Medians of all rounds."""
    times: dict[str, list[float]] = {"spawn/hostler": [], "spawn/bare": [], "destroy/hostler": [], "destroy/bare": []}
    memory: list[float] = []
    with ExitStack() as lab:
        host = lab.enter_context(LibvirtHost("bench"))
        redis = lab.enter_context(RedisServer())
        site = lab.enter_context(Site(libvirt=host, broker_url=redis.url))
        guest, image = guest_image(), base_image(site.images / "base.qcow2")
        boot = DirectBoot(str(guest.kernel), str(guest.initrd), guest.cmdline)
        bare = Bare(host.uri, site.folder, image, boot)
        lab.callback(bare.close)
        orchestrator = Orchestrator(redis.url)
        lab.callback(orchestrator.close)
        site.start_worker(settings={"SWEEP_INTERVAL_S": "0.5"})  # as it is by default
        request = {
            "name": "bench",
            "memory_mib": 96,
            "image": {"path": str(image), "format": "qcow2"},
            "boot": {"kernel": boot.kernel, "initrd": boot.initrd, "cmdline": boot.cmdline},
        }

        def through_hostler(operation: str, instance: UUID, body: dict[str, Any]) -> float:
            return timed(lambda: orchestrator.send(operation, instance, body).get(timeout=RESULT_WITHIN_S))

        for number in range(rounds + 1):
            ours, theirs = uuid4(), uuid4()
            took = {
                "spawn/bare": timed(lambda: bare.spawn(theirs)),  # noqa: B023  # called at once
                "destroy/bare": timed(lambda: bare.destroy(theirs)),  # noqa: B023
                "spawn/hostler": through_hostler("spawn", ours, request),
                "destroy/hostler": through_hostler("destroy", ours, {}),
            }
            if number == 0:
                continue  # both sides warm up
            for name, milliseconds in took.items():
                times[name].append(milliseconds)
            memory.append(rss_mb(site.worker.pid))
    figures: dict[str, Any] = {}
    for operation in ("spawn", "destroy"):
        ours, theirs = times[f"{operation}/hostler"], times[f"{operation}/bare"]
        figures[operation] = {
            "hostler_ms": round(statistics.median(ours), 1),
            "bare_ms": round(statistics.median(theirs), 1),
            "ratio": round(statistics.median(ours) / statistics.median(theirs), 3),
        }
    figures["worker_rss_mb"] = round(memory[-1], 1)
    figures["worker_rss_half_way_mb"] = round(memory[len(memory) // 2], 1)
    figures["jobs"] = 2 * rounds
    return figures


def main() -> None:
    """Measure, and say it once for people and once for programs."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    figures = measure(arguments.parse_args().rounds)
    table = Table("operation", "hostler ms", "bare ms", "ratio", title="medians", box=None)
    for operation in ("spawn", "destroy"):
        row = figures[operation]
        table.add_row(operation, f"{row['hostler_ms']:.1f}", f"{row['bare_ms']:.1f}", f"{row['ratio']:.2f}")
    console = Console(width=100)
    console.print(table)
    console.print(
        f"worker: {figures['worker_rss_mb']} MiB resident after {figures['jobs']} jobs, "
        f"{figures['worker_rss_half_way_mb']} MiB half-way"
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
