"""`make demo`: the main job on a real guest, on a libvirtd, a Redis and a PostgreSQL private to this run."""

import subprocess
import sys
import time
from contextlib import ExitStack
from uuid import uuid4

from rich.console import Console

from tests.lab.guest_console import boots_seen
from tests.lab.guest_image import base_image, guest_image
from tests.lab.hosts import LibvirtHost
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.places import CHECKOUT
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from tests.lab.waiting import eventually
from worker.cli.exits import OK
from worker.cli.following import follow

USERSPACE_WITHIN_S = 60.0


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
    """Spawn, spawn again, destroy; and look, each time, at what is really there."""
    began = time.monotonic()
    with ExitStack() as lab:
        say("A libvirtd, a Redis and a PostgreSQL of this demo's own …")
        libvirt = lab.enter_context(LibvirtHost("demo"))
        redis = lab.enter_context(RedisServer())
        journal = lab.enter_context(PostgresServer(durable=False)).create_database()
        orchestrator = Orchestrator(redis.url)
        lab.callback(orchestrator.close)
        site = lab.enter_context(Site(libvirt=libvirt, database_url=journal, broker_url=redis.url))
        tell_story(site, libvirt, orchestrator)
    say(f"\nDone in {time.monotonic() - began:.0f} s; libvirtd, Redis and PostgreSQL are gone again.")


def tell_story(site: Site, libvirt: LibvirtHost, orchestrator: Orchestrator) -> None:
    """The main job."""
    hostler(site, "db", "upgrade")
    site.start_worker()
    say(f"\n$ hostler worker\n{site.log.strip().splitlines()[0]}\n   … ready, pid {site.worker.pid}")
    hostler(site, "hosts", "list")

    instance, job_id = uuid4(), "demo-spawn"
    guest, image = guest_image(), base_image(site.images / "base.qcow2")
    request = {
        "name": "demo",
        "memory_mib": 96,
        "image": {"path": str(image), "format": "qcow2"},
        "boot": {"kernel": str(guest.kernel), "initrd": str(guest.initrd), "cmdline": guest.cmdline},
    }
    say("\nA plain Celery client sends, through Redis:")
    say(f'   send_task("compute.spawn", kwargs={{"instance": "{instance}", "request": {{…}}, "host": "h1"}},')
    say(f'             task_id="{job_id}", queue="host.h1")')
    spawned = orchestrator.send("spawn", instance, request, job_id=job_id)
    watch(site, job_id)
    outcome = spawned.get(timeout=RESULT_WITHIN_S)
    require(outcome["state"] == "succeeded", "Celery's result says that it succeeded")

    say("\nThe guest's own console:")
    line = eventually(
        lambda: next((line for line in site.console(instance).splitlines() if boots_seen(line)), ""),
        "the guest's userspace comes up",
        USERSPACE_WITHIN_S,
    )
    say(f"   {line}")

    say("\nThe same job is sent again, three times:")
    for _ in range(3):
        orchestrator.send("spawn", instance, request, job_id=job_id).get(timeout=RESULT_WITHIN_S)
    job = site.job(job_id)
    require(job["outcome"] == outcome and job["epoch"] == 1, "one job, one claim, one outcome")
    require(libvirt.boots(instance) == 1 and len(boots_seen(site.console(instance))) == 1, "one boot of the guest")
    hostler(site, "instances", "list")

    say("\nIt is destroyed:")
    orchestrator.send("destroy", instance, {}, job_id="demo-destroy")
    require(watch(site, "demo-destroy") == OK, "the destroy succeeded")
    require(site.files() == [] and not libvirt.qemu_pids(), "no file and no process of it is left")
    hostler(site, "jobs", "list")


if __name__ == "__main__":
    main()
