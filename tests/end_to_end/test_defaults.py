"""One machine, no service installed or running: SQLite, no broker, libvirt's driver inside the worker."""

import json
from typing import Any
from uuid import UUID

import pytest

from tests.lab.guest_console import boots_seen
from tests.lab.guest_image import base_image, guest_image
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real


def test_a_guest_is_found_again_after_its_worker_was_killed_and_then_destroyed(
    embedded_site: Site, instance: UUID
) -> None:
    """Submitted in one shell, run by the worker in another; the guest outlives the worker, and obeys the next one."""
    site = embedded_site
    site.start_worker()
    guest, image = guest_image(), base_image(site.images / "base.qcow2")
    request = {
        "name": "first",
        "memory_mib": 96,
        "image": {"path": str(image)},
        "boot": {"kernel": str(guest.kernel), "initrd": str(guest.initrd), "cmdline": guest.cmdline},
    }

    spawned = site.submit("spawn", instance, request, "--wait", "--job-id", "first-job")

    assert (spawned.returncode, spawned.stdout) == (0, "first-job\n"), spawned.stderr
    for step in ("ImagesCached found", "RootDiskCreated done", "DomainDefined done", "DomainRunning done"):
        assert step in spawned.stderr
    eventually(lambda: boots_seen(site.console(instance)), "the guest's userspace comes up", 60)

    [pid] = site.qemu_pids(instance)
    site.kill_worker()
    assert site.qemu_pids(instance) == [pid]
    site.start_worker()

    shown = json.loads(site.hostler("instances", "show", str(instance), "--json").stdout)
    assert (shown["state"], shown["host"], shown["name"]) == ("running", "h1", "first")
    assert [disk["id"] for disk in shown["disks"]] == ["root"]
    assert shown["spec"] == request

    again = site.submit("spawn", instance, request, "--wait", "--job-id", "first-job")
    assert again.returncode == 0
    assert site.qemu_pids(instance) == [pid]
    assert len(boots_seen(site.console(instance))) == 1

    destroyed = site.submit("destroy", instance, {}, "--wait")

    assert destroyed.returncode == 0, destroyed.stderr
    assert site.qemu_pids(instance) == []
    assert site.files() == []
    shown = json.loads(site.hostler("instances", "show", str(instance), "--json").stdout)
    assert (shown["state"], shown["disks"]) == ("deleted", [])


def test_a_second_worker_of_the_same_hypervisor_refuses_to_start(embedded_site: Site) -> None:
    """It says who is there, and harms nothing."""
    site = embedded_site
    site.start_worker()

    second = site.hostler("worker", within_s=20)

    assert second.returncode == 6
    assert "another worker serves this libvirt already" in second.stderr
    assert f"pid {site.worker.pid}" in second.stderr
    assert site.worker.alive


def test_absent_is_success_for_destroy(embedded_site: Site, instance: UUID) -> None:
    """An instance that never was is destroyed without a word."""
    embedded_site.start_worker()

    destroyed = embedded_site.submit("destroy", instance, {}, "--wait", "--json")

    assert destroyed.returncode == 0, destroyed.stderr
    document: dict[str, Any] = json.loads(destroyed.stdout)
    assert {step["state"] for step in document["steps"]} == {"found", "skipped"}


def test_an_instance_is_spawned_once_whatever_the_ids_of_the_jobs(embedded_site: Site, instance: UUID) -> None:
    """A second spawn of a living instance is a conflict, and leaves the first one's guest and disk alone."""
    site = embedded_site
    site.start_worker()
    guest = {"name": "one", "memory_mib": 40, "disk_gib": 1}
    assert site.submit("spawn", instance, guest, "--wait").returncode == 0
    [pid] = site.qemu_pids(instance)
    files = site.files()

    second = site.submit("spawn", instance, guest, "--wait", "--json")

    assert second.returncode == 1
    document = json.loads(second.stdout)
    assert document["error"]["class"] == "conflict"
    assert site.qemu_pids(instance) == [pid]
    assert site.files() == files
    assert json.loads(site.hostler("instances", "show", str(instance), "--json").stdout)["state"] == "running"
    assert site.submit("destroy", instance, {}, "--wait").returncode == 0


def test_the_first_guest_runs_on_whatever_the_host_offers(instance: UUID, small_guest: dict[str, Any]) -> None:
    """With KVM where it opens, else emulated, with a word about it: nobody said which."""
    with Site(settings={"VIRT_TYPE": "auto"}) as site:
        site.start_worker()
        job = site.settled(site.accept("spawn", instance, small_guest))
        assert job["state"] == "succeeded", job
        assert site.settled(site.accept("destroy", instance, {}))["state"] == "succeeded"
