"""Power, on a real guest: it stands still, is kept, is off and begins anew, each once, whenever the worker dies."""

from uuid import UUID

import libvirt
import pytest

from tests.end_to_end.guests import booting, done, goes_on, spawned
from tests.lab.guest_console import boots_seen, heartbeats
from tests.lab.guest_image import GuestImage
from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

BOOT_WITHIN_S = 60.0


def killed_in(site: Site, operation: str, instance: UUID, **request: object) -> dict[str, object]:
    """The job, whose worker is killed while it has it in hand, and started again."""
    job_id = site.accept(operation, instance, request)
    eventually(lambda: site.state_of(job_id) == "running", f"the {operation} runs", 20.0)
    site.kill_worker()
    site.start_worker()
    job = site.settled(job_id)
    assert job["state"] == "succeeded", job
    return job


def state(host: LibvirtHost, instance: UUID) -> int:
    """The domain's, as libvirt has it."""
    connection = libvirt.open(host.uri)
    try:
        return int(connection.lookupByUUID(instance.bytes).state()[0])
    finally:
        connection.close()


def beats_of_last_boot(site: Site, instance: UUID) -> list[int]:
    """Its heartbeats since it came up last."""
    return heartbeats(site.console(instance).rpartition("userspace up")[2])


def test_a_guest_is_paused_kept_stopped_started_and_rebooted(
    site: Site, libvirt_host: LibvirtHost, instance: UUID, guest_image: GuestImage
) -> None:
    """Its count goes on over a pause and a suspend, and begins anew with a start and a reboot, and only then."""
    site.start_worker()
    spawned(site, instance, booting(guest_image, hb="0.2"))
    assert libvirt_host.boots(instance) == 1

    done(site, "pause", instance, {})
    assert state(libvirt_host, instance) == libvirt.VIR_DOMAIN_PAUSED
    done(site, "pause", instance, {})
    done(site, "unpause", instance, {})
    goes_on(site, instance)

    killed_in(site, "suspend", instance)
    assert (state(libvirt_host, instance), site.qemu_pids(instance)) == (libvirt.VIR_DOMAIN_SHUTOFF, [])
    killed_in(site, "resume", instance)
    goes_on(site, instance)
    beats = heartbeats(site.console(instance))
    assert beats == list(range(beats[0], beats[0] + len(beats)))
    assert len(set(boots_seen(site.console(instance)))) <= 1

    killed_in(site, "stop", instance, timeout_s=20)
    assert (state(libvirt_host, instance), site.qemu_pids(instance)) == (libvirt.VIR_DOMAIN_SHUTOFF, [])
    before = libvirt_host.boots(instance)
    killed_in(site, "start", instance)
    eventually(lambda: beats_of_last_boot(site, instance)[:1] == [1], "it counts from one again", BOOT_WITHIN_S)
    assert libvirt_host.boots(instance) == before + 1

    killed_in(site, "reboot", instance, timeout_s=20)
    assert libvirt_host.boots(instance) == before + 2
    eventually(lambda: beats_of_last_boot(site, instance)[:1] == [1], "it counts from one again", BOOT_WITHIN_S)
    shown = site.hostler("instances", "list").stdout
    assert "running" in shown
    done(site, "destroy", instance, {})
    assert site.files() == []
