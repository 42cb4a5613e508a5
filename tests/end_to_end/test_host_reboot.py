"""A host that has booted: its guests, their taps and sockets are gone, and those that are to run, run again."""

from uuid import UUID, uuid4

import pytest

import migrations
from models import reading
from tests.end_to_end.guests import done, running
from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site

pytestmark = pytest.mark.real

ENABLED = {"START_AFTER_BOOT": "true"}


def test_guests_run_again_after_their_host_has_booted(
    postgresql_url: str, redis_url: str, instance: UUID, small_guest: dict[str, object]
) -> None:
    """The one that ran, once, with its history telling why; the one that was stopped stays off."""
    with (
        LibvirtHost("booting") as host,
        Site(libvirt=host, database_url=postgresql_url, broker_url=redis_url) as site,
    ):
        migrations.upgrade(site.database)
        stopped = uuid4()
        site.start_worker(settings=ENABLED, boot_id="first")
        for each in (instance, stopped):
            done(site, "spawn", each, small_guest)
        done(site, "stop", stopped, {"timeout_s": 0})

        site.kill_worker()
        host.reboot()
        assert site.qemu_pids(instance) == []
        site.start_worker(settings=ENABLED, boot_id="second")
        job = site.settled(f"after-boot.second.{instance}")
        assert job["state"] == "succeeded", job
        assert (running(host, instance), running(host, stopped)) == (True, False)

        assert [found.id for found in reading.list_jobs(site.database) if found.operation == "start"] == [job["id"]]
        assert site.boots(instance) == 2
        for each in (instance, stopped):
            done(site, "destroy", each, {})
