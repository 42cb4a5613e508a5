"""Hardware, on a real guest: what was asked for is there."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
import pytest
from lxml import etree

from models import reading
from tests.end_to_end.guests import done
from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

HARDWARE: dict[str, Any] = {
    "cpu_mode": "maximum",
    "cpu_cores": 2,
    "rng_allowed": True,
    "rng_rate_bytes": 4096,
    "watchdog_action": "reset",
    "mem_stats_period_s": 10,
    "vnc": True,
    "qemu_guest_agent": True,
    "pcie_ports": 2,
    "os_type": "windows",
    "quota": {"disk_total_iops_sec": 100},
}


def running(host: LibvirtHost, instance: UUID) -> etree._Element:
    """The running guest as libvirt shows it."""
    with closing(libvirt.open(host.uri)) as connection:
        return etree.fromstring(connection.lookupByUUID(instance.bytes).XMLDesc())


def cut_and_written_on(site: Site, instance: UUID) -> None:
    """The console log of the running guest is kept within bounds, and QEMU appends to what was cut."""
    log = site.state / "instances" / str(instance) / "console.log"
    writing = [file for file in Path("/proc").glob("[0-9]*/fd/*") if _is_open(file, log)]
    infos = [(each.parents[1] / "fdinfo" / each.name).read_text() for each in writing]
    assert infos
    assert all(int(info.split("flags:")[1].split()[0], 8) & os.O_APPEND for info in infos)
    with log.open("a") as guest:
        guest.write("x" * 3 * 1024**2)
    eventually(lambda: log.stat().st_size == 0, "the console log is cut", 20.0)
    assert log.with_name("console.log.0").stat().st_size == 2 * 1024**2
    assert {path.stat().st_mode & 0o777 for path in log.parent.glob("console.log*")} == {0o600}


def _is_open(descriptor: Path, file: Path) -> bool:
    try:
        return descriptor.readlink() == file
    except OSError:
        return False


def test_a_guest_has_the_hardware_that_was_asked_for(site: Site, libvirt_host: LibvirtHost, instance: UUID) -> None:
    """QEMU took all of it; the machine has a version, which the journal keeps."""
    site.start_worker()
    request = {"name": "server", "memory_mib": 64, "vcpus": 2, "disk_gib": 1, "hardware": HARDWARE}
    job = done(site, "spawn", instance, request)
    domain = running(libvirt_host, instance)
    for path in (
        "cpu/topology[@cores='2']",
        "clock[@offset='localtime']/timer[@name='hpet'][@present='no']",
        "devices/disk/iotune[total_iops_sec='100']",
        "devices/rng/rate[@bytes='4096']",
        "devices/watchdog[@action='reset']",
        "devices/memballoon/stats[@period='10']",
        "devices/channel/target[@name='org.qemu.guest_agent.0']",
        "devices/graphics[@type='vnc'][@listen='127.0.0.1']",
        "devices/video/model[@type='vga']",
    ):
        assert domain.xpath(path), path
    machine = domain.xpath("string(os/type/@machine)")
    details = reading.job_details(site.database, job["id"])
    assert details is not None
    planned = [
        step.intent["platform"]["machine_type"]
        for step in details.steps
        if step.name == "DomainDefined" and step.intent
    ]
    assert planned == [machine]
    assert "warnings" not in job["outcome"]
    cut_and_written_on(site, instance)
    done(site, "destroy", instance, {})
