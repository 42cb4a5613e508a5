"""`make demo`: the main jobs on a real guest, on two libvirtds, a Redis and a PostgreSQL private to this run."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from rich.console import Console

from tests.lab.guest_console import boots_seen, disk_checks, disks_seen, heartbeats
from tests.lab.guest_image import base_image, guest_image
from tests.lab.host_pair import host_pair, pair_network
from tests.lab.nbd import NbdServer
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.places import CHECKOUT
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from tests.lab.site_pair import SitePair, site_pair
from tests.lab.waiting import eventually
from worker.cli.exits import OK
from worker.cli.following import follow

USERSPACE_WITHIN_S = 60.0
VOLUME = "demo-volume"


class DemoFailedError(SystemExit):
    """Something that this demonstration shows was not so."""


def say(text: str) -> None:
    """A line of the story."""
    print(text, flush=True)


def require(true: bool, sentence: str) -> None:  # noqa: FBT001  # reads as a sentence
    """Go on only if it is so."""
    if not true:
        raise DemoFailedError(f"demo: not so: {sentence}")
    say(f"   ✓ {sentence}")


def hostler(site: Site, *arguments: str) -> int:
    """Run the command line as an operator would, its output on this terminal."""
    say(f"\n$ hostler {' '.join(arguments)}")
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", *arguments], env=site.environment, cwd=CHECKOUT, check=False
    ).returncode


def watch(site: Site, job_id: str) -> int:
    """What `hostler jobs watch` does, from the moment on that the job is recorded."""
    say(f"\n$ hostler jobs watch {job_id}")
    eventually(lambda: site.state_of(job_id) is not None, "the job is recorded")
    return follow(site.database, job_id, timeout_s=RESULT_WITHIN_S, console=Console())[1]


def main() -> None:
    """Spawn, spawn again, attach, migrate, detach, destroy; and look, each time, at what is really there."""
    began = time.monotonic()
    with ExitStack() as lab:
        say("Two libvirtds, a Redis, a PostgreSQL and a server of volumes of this demo's own …")
        network = lab.enter_context(pair_network())
        hosts = lab.enter_context(host_pair(network))
        redis = lab.enter_context(RedisServer())
        journal = lab.enter_context(PostgresServer(durable=False)).create_database(socket=True)
        volume = lab.enter_context(
            NbdServer(export="volume", address=network.switch_address, network_namespace=network.switch)
        )
        orchestrator = Orchestrator(redis.url)
        lab.callback(orchestrator.close)
        sites = lab.enter_context(site_pair(hosts, database_url=journal, broker_url=redis.socket_url))
        hostler(sites.first, "db", "upgrade")
        start_workers(sites)
        story = Story(sites, orchestrator)
        story.spawn()
        story.spawn_again()
        story.attach(network.switch_address, volume)
        story.migrate()
        story.detach()
        story.destroy()
    say(f"\nDone in {time.monotonic() - began:.0f} s; the servers, their network and all guests are gone again.")


def start_workers(sites: SitePair) -> None:
    """A worker on each host."""
    sites.start_workers()
    for site in sites.sites:
        say(f"\n$ hostler worker\n{site.log.strip().splitlines()[0]}\n   … ready, pid {site.worker.pid}")
    hostler(sites.first, "hosts", "list")


class Story:
    """The life of one instance, told as it happens."""

    def __init__(self, sites: SitePair, orchestrator: Orchestrator) -> None:
        self.sites = sites
        self.orchestrator = orchestrator
        self.instance = uuid4()

    def spawn(self) -> None:
        """A plain Celery message becomes a running guest."""
        guest, image = guest_image(), base_image(self.sites.first.images / "base.qcow2")
        self.request = {
            "name": "demo",
            "memory_mib": 96,
            "image": {"path": str(image), "format": "qcow2"},
            "boot": {
                "kernel": str(guest.kernel),
                "initrd": str(guest.initrd),
                "cmdline": guest.cmdline_with(disk=VOLUME),
            },
        }
        say("\nA plain Celery client sends, through Redis:")
        say(f'   send_task("compute.spawn", kwargs={{"instance": "{self.instance}", "request": {{…}}, "host": "h1"}},')
        say('             task_id="demo-spawn", queue="host.h1")')
        self.outcome = self._do("spawn", self.request)
        say("\nThe guest's own console:")
        say(f"   {self._line(boots_seen, 'the userspace of the guest comes up')}")

    def spawn_again(self) -> None:
        """The same message again changes nothing."""
        say("\nThe same job is sent again, three times:")
        for _ in range(3):
            again = self.orchestrator.send("spawn", self.instance, self.request, job_id="demo-spawn")
            again.get(timeout=RESULT_WITHIN_S)
        job = self.sites.first.job("demo-spawn")
        require(job["outcome"] == self.outcome and job["epoch"] == 1, "one job, one claim, one outcome")
        boots = self.sites.first.boots(self.instance), len(boots_seen(self._console()))
        require(boots == (1, 1), "one boot of the guest")

    def attach(self, server: str, volume: NbdServer) -> None:
        """The guest's own kernel shows the volume, and writes to it."""
        say("\nIt is given a volume:")
        where = {"kind": "nbd", "host": server, "port": volume.port, "export": "volume"}
        self._do("attach_volume", {"volume": {"id": VOLUME, **where}})
        say("\nThe guest's own console:")
        say(f"   {self._line(lambda line: VOLUME in str(disks_seen(line)), 'the guest lists the volume')}")
        say(f"   {self._line(disk_checks, 'the guest reads back what it wrote')}")

    def migrate(self) -> None:
        """The guest goes on counting on another host."""
        say("\nIt moves to another host while it counts:")
        before = heartbeats(self.sites.first.console(self.instance))[-1]
        self._do("migrate", {"destination": "h2"})
        there = eventually(
            lambda: heartbeats(self.sites.second.console(self.instance)), "the guest counts on", USERSPACE_WITHIN_S
        )
        say(f"   it had counted to {before} on h1 before, and goes on with {there[0]} on h2")
        require(before < there[0] and there == sorted(set(there)), "the count neither restarted nor repeated")
        require(self.sites.running(self.instance) == ["h2"], "one running guest, on h2")
        require(self.sites.first.files() == [], "nothing of it is left on h1")
        hostler(self.sites.first, "instances", "list")

    def detach(self) -> None:
        """The guest lets the volume go; the job was sent to the host that it left, and found it."""
        say("\nThe volume is taken away again; the job, sent to h1, finds the instance on h2:")
        self._do("detach_volume", {"volume_id": VOLUME})
        left = eventually(self._disks_without_volume, "the guest says which disks it has left", USERSPACE_WITHIN_S)
        say(f"   ✓ the guest has the disks {', '.join(sorted(left))} left")

    def _disks_without_volume(self) -> dict[str, str]:
        seen = disks_seen(self._console())
        return seen[-1] if seen and VOLUME not in seen[-1].values() else {}

    def destroy(self) -> None:
        """Nothing is left."""
        say("\nIt is destroyed:")
        self._do("destroy", {})
        left = [site.files() for site in self.sites.sites]
        require(left == [[], []] and not self.sites.qemu_pids(self.instance), "no file and no process of it is left")
        hostler(self.sites.first, "jobs", "list")

    def _do(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Send the job, watch it, and have it succeed."""
        job_id = f"demo-{operation.replace('_', '-')}"
        result = self.orchestrator.send(operation, self.instance, request, job_id=job_id)
        require(watch(self.sites.first, job_id) == OK, f"the {operation} succeeded")
        outcome: dict[str, Any] = result.get(timeout=RESULT_WITHIN_S)
        require(outcome["state"] == "succeeded", "Celery's result says so too")
        return outcome

    def _console(self) -> str:
        return self.sites.consoles(self.instance)

    def _line(self, wanted: Callable[[str], object], what: str) -> str:
        """The first whole line of the guest's console that is wanted."""
        return eventually(
            lambda: next((line for line in self._console().splitlines() if wanted(f"{line}\n")), ""),
            what,
            USERSPACE_WITHIN_S,
        )


if __name__ == "__main__":
    main()
