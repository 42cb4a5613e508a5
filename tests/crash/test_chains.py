"""Chains of jobs, sent by a plain Celery client, whose workers are killed in each link."""

from uuid import UUID, uuid4

import pytest

import migrations
from tests.crash.moments import Armed, Moment
from tests.crash.verdict import Ledger, job_faults, place_faults
from tests.crash.wanderer import MORTAL
from tests.crash.witness import Consoles, guest_faults
from tests.lab.guest_console import disk_checks, disks_seen, heartbeats
from tests.lab.guest_image import GuestImage
from tests.lab.host_pair import HostPair
from tests.lab.hosts import LibvirtHost
from tests.lab.nbd import NbdServer
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from tests.lab.site_pair import site_pair
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

SMALL = {"name": "mortal", "memory_mib": 40, "disk_gib": 1}
VOLUME = "chained"
DIES_WITHIN_S = 60.0


def dies_and_is_started_again(site: Site) -> None:
    """The site's worker is killed by what is armed for it, and another takes its place."""
    eventually(lambda: not site.worker.alive, f"the worker of {site.host} dies", DIES_WITHIN_S)
    site.start_worker()


def test_a_chain_on_one_host_happens_once(libvirt_host: LibvirtHost, postgresql_url: str, redis_url: str) -> None:
    """Spawn, then destroy, sent as one chain: both are done once, and the chain's result arrives."""
    instance = uuid4()
    orchestrator = Orchestrator(redis_url)
    with Site(libvirt=libvirt_host, database_url=postgresql_url, broker_url=redis_url, worker_command=MORTAL) as site:
        migrations.upgrade(site.database)
        Armed(site.folder, "DomainRunning", Moment.DO).arm()
        Armed(site.folder, "DomainUndefined", Moment.MADE).arm()
        site.start_worker()
        spawn = orchestrator.signature("spawn", instance, SMALL)
        destroy = orchestrator.signature("destroy", instance, {})
        result = (spawn | destroy).apply_async()
        for _ in range(2):
            dies_and_is_started_again(site)

        outcome = result.get(timeout=RESULT_WITHIN_S)

        assert (outcome["operation"], outcome["state"]) == ("destroy", "succeeded")
        assert result.parent.get(timeout=5)["operation"] == "spawn"
        jobs = site.jobs()
        assert [(job["operation"], job["state"]) for job in jobs] == [("destroy", "succeeded"), ("spawn", "succeeded")]
        assert libvirt_host.boots(instance) == 1
        assert site.files() == []
        assert site.qemu_pids(instance) == []
    orchestrator.close()


def test_a_chain_over_two_hosts_happens_once(
    host_pair: HostPair,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    nbd_server: NbdServer,
    guest_image: GuestImage,
) -> None:
    """Spawn, attach a volume, migrate: each once, though the workers of both hosts are killed in them."""
    instance: UUID = uuid4()
    redis_server.flush()
    orchestrator = Orchestrator(redis_server.url)
    journal = postgres_server.create_database(socket=True)
    with site_pair(host_pair, database_url=journal, broker_url=redis_server.socket_url, worker_command=MORTAL) as pair:
        first, second = pair.sites
        migrations.upgrade(first.database)
        pair.start_workers()
        boot = {
            "kernel": str(guest_image.kernel),
            "initrd": str(guest_image.initrd),
            "cmdline": guest_image.cmdline_with(disk=VOLUME),
        }
        where = {"host": nbd_server.address, "port": nbd_server.port, "export": nbd_server.export}
        spawn = orchestrator.signature("spawn", instance, {"name": "chained", "memory_mib": 96, "boot": boot})
        attach = orchestrator.signature("attach_volume", instance, {"volume": {"id": VOLUME, "kind": "nbd", **where}})
        migrate = orchestrator.signature("migrate", instance, {"destination": second.host})
        consoles = Consoles(pair.sites, instance)
        for site, step, moment in (
            (first, "DomainRunning", Moment.DO),
            (first, "VolumeAttached", Moment.MADE),
            (second, "DestinationOpen", Moment.INTENDED),
            (first, "DomainMigrated", Moment.DO),
            (second, "DomainPersistent", Moment.LOOK),
        ):
            Armed(site.folder, step, moment).arm()
        result = (spawn | attach | migrate).apply_async()
        for site in (first, first, second, first, second):
            consoles.look()
            dies_and_is_started_again(site)

        outcome = result.get(timeout=RESULT_WITHIN_S)

        assert (outcome["operation"], outcome["state"], outcome["host"]) == ("migrate", "succeeded", second.host)
        jobs = first.jobs()
        assert [(job["operation"], job["state"]) for job in jobs] == [
            ("migrate", "succeeded"),
            ("attach_volume", "succeeded"),
            ("spawn", "succeeded"),
        ]
        ledger = Ledger(journal)
        assert [fault for job in jobs for fault in job_faults(ledger, job["id"])] == []
        assert place_faults(pair, ledger, instance) == []
        before = len(heartbeats(consoles.text))
        eventually(lambda: len(heartbeats(consoles.text)) > before, "the guest counts on", 20.0)
        eventually(lambda: disk_checks(consoles.text), "the guest has the volume", 20.0)
        assert guest_faults(consoles.text) == []
        assert disks_seen(consoles.text)[-1] == {"vda": VOLUME}
        assert all(check.ok for check in disk_checks(consoles.text))
        assert (pair.hosts.first.boots(instance), pair.hosts.second.boots(instance)) == (1, 1)
        consoles.close()
        ledger.close()
    postgres_server.drop_database(journal)
    orchestrator.close()
