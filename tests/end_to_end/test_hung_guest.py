"""A guest whose QEMU does not answer: calls on it hang, and neither this worker nor the next hangs with them."""

import os
import signal
import time
from typing import Any
from uuid import UUID

import libvirt
import pytest

from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

HASTY = ("-m", "tests.end_to_end.hasty_worker", "worker")
#: What is promised of a worker that is started again at once, with a guest on the host that hangs, in seconds.
FIRST_LOOK_WITHIN_S = 45.0


def serials(host: LibvirtHost, instance: UUID) -> list[str]:
    """The serials of the guest's disks, as libvirt shows them."""
    connection = libvirt.open(host.uri)
    try:
        document = connection.lookupByUUID(instance.bytes).XMLDesc()
    finally:
        connection.close()
    return [line.strip() for line in document.splitlines() if "<serial>" in line and "disk" not in line]


def test_a_call_on_a_guest_that_hangs_is_written_off_and_outlived(
    libvirt_host: LibvirtHost, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """Its job waits and says why, also after the worker was killed in the call; the guest is given its volume once."""
    with Site(libvirt=libvirt_host, worker_command=HASTY) as site:
        volume = site.state / "volumes" / "v.raw"
        volume.parent.mkdir()
        volume.write_bytes(bytes(1024**2))
        site.start_worker()
        assert site.settled(site.accept("spawn", instance, small_guest))["state"] == "succeeded"
        [qemu] = site.qemu_pids(instance)
        os.kill(qemu, signal.SIGSTOP)
        try:
            request = {"volume": {"id": "v1", "kind": "file", "path": str(volume), "format": "raw"}}
            attach = site.accept("attach_volume", instance, request)
            doing = f"step: job={attach} step=VolumeAttached direction=do"
            eventually(lambda: doing in site.log, "the call has been made", 20)
            site.kill_worker()
            killed = time.monotonic()
            site.start_worker(ready=False)
            claimed = f"job claimed: job={attach}"
            eventually(lambda: site.log.count(claimed) == 2, "the next worker looks at it", FIRST_LOOK_WITHIN_S)
            first_look_s = time.monotonic() - killed
            eventually(lambda: site.state_of(attach) == "waiting", "it is given up", 20)
            said = site.job(attach)["error"]["message"]
        finally:
            os.kill(qemu, signal.SIGCONT)
        settled = site.settled(attach)
        shown = serials(libvirt_host, instance)
        assert site.settled(site.accept("destroy", instance, {}))["state"] == "succeeded"
        assert site.files() == []
    assert first_look_s < FIRST_LOOK_WITHIN_S
    assert "libvirt was asked to attach the device" in said
    assert settled["state"] == "succeeded"
    assert len([serial for serial in shown if "v1" in serial]) == 1
