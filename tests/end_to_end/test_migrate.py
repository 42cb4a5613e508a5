"""Live migration of real guests between two real hosts, each with a worker of its own."""

from contextlib import closing
from uuid import UUID

import libvirt
import pytest
from celery import chain

from models.reading import list_hosts
from tests.end_to_end.guests import (
    AGAIN_IF_LOST,
    Said,
    booting,
    done,
    heard,
    label_of,
    nbd_volume,
    only_on,
    spawned,
)
from tests.lab.guest_console import boots_seen, counter_on, disk_checks, heartbeats, keeps, pattern_on
from tests.lab.guest_image import GuestImage
from tests.lab.nbd import NbdServer
from tests.lab.orchestrator import Orchestrator
from tests.lab.site import READY_WITHIN_S, Site
from tests.lab.site_pair import SitePair
from tests.lab.waiting import eventually

pytestmark = [pytest.mark.real, AGAIN_IF_LOST]


@pytest.mark.parametrize("disk", ["volume", "root"])
def test_a_guest_that_moves_five_times_loses_no_beat_and_no_byte(
    sites: SitePair, instance: UUID, guest_image: GuestImage, nbd_server: NbdServer, disk: str
) -> None:
    """On a volume that both hosts reach, and on disks of its own that go with it: one boot, each number once."""
    of_kind = (
        {"disk_gib": 1, "swap_mib": 16, "user_data": "#cloud-config\n"}
        if disk == "root"
        else {"volumes": [nbd_volume(nbd_server, "volume")]}
    )
    spawned(sites.first, instance, booting(guest_image, disk=disk, keep=1) | of_kind)
    drives = [site.state / "instances" / str(instance) / "config.raw" for site in sites.sites]
    told = drives[0].read_bytes() if disk == "root" else None
    with closing(Said(sites.first, instance)) as said:
        eventually(lambda: keeps(said.text), "the guest keeps its disk", 30.0)
        for here, there in [sites.sites, sites.sites[::-1]] * 2 + [sites.sites]:
            job = done(here, "migrate", instance, {"destination": there.host})
            assert job["outcome"]["host"] == there.host
            only_on(sites, there, instance)
            said.comes_to(there)
            heard(there, instance, lambda at=there: len(keeps(at.console(instance))) > 1, "the guest keeps on")
        text = said.text
    assert (drives[1].read_bytes() if drives[1].exists() else None) == told  # what it was told goes with it
    assert len(boots_seen(text)) == 1
    assert heartbeats(text) == list(range(1, len(heartbeats(text)) + 1))
    assert keeps(text) == [(number, True) for number in range(1, len(keeps(text)) + 1)]
    [check] = disk_checks(text)
    assert check.ok
    if disk == "volume":
        assert pattern_on(nbd_server.file) == check.md5
        assert counter_on(nbd_server.file) >= len(keeps(text))
    else:
        assert label_of(sites.second.state / "instances" / str(instance) / "swap.raw") == "swap"


def test_a_chain_spawns_a_guest_gives_it_a_volume_and_moves_it(
    sites: SitePair, outsider: Orchestrator, instance: UUID, guest_image: GuestImage, nbd_server: NbdServer
) -> None:
    """Sent by a plain Celery client at once: each link is done once, in order; the last one's outcome comes back.

    In the end the second host's machine wants to be the first one: its worker refuses, in one sentence.
    """
    links = [
        outsider.signature("spawn", instance, booting(guest_image, disk="volume", keep=1)),
        outsider.signature("attach_volume", instance, {"volume": nbd_volume(nbd_server, "volume")}),
        outsider.signature("migrate", instance, {"destination": "h2"}),
    ]
    said_at_the_end = outsider.app.signature("audit.moved", queue="audit")

    outcome = chain(*links, app=outsider.app).apply_async(link=said_at_the_end).get(timeout=60.0)

    assert (outcome["operation"], outcome["state"], outcome["host"]) == ("migrate", "succeeded", "h2")
    jobs = sites.first.jobs()[::-1]
    assert [job["operation"] for job in jobs] == ["spawn", "attach_volume", "migrate"]
    assert [job["state"] for job in jobs] == ["succeeded"] * 3
    assert [job["run"] for job in jobs] == [1] * 3
    only_on(sites, sites.second, instance)
    with outsider.app.connection_for_read() as connection:
        eventually(lambda: connection.default_channel.client.llen("audit") == 1, "the link at the end is sent")
    # It was sent on its way while it booted: what it makes of its volume is shown where it has come up before.
    with closing(libvirt.open(sites.hosts.second.uri)) as connection:
        assert "<serial>volume</serial>" in connection.lookupByUUID(instance.bytes).XMLDesc()
    done(sites.second, "destroy", instance, {})
    refuses_to_be(sites.second, sites.first)


def refuses_to_be(machine: Site, other: Site) -> None:
    """A worker under the name of another machine, whose own worker goes on, ends at once and changes nothing."""
    machine.end_worker()
    before = len(machine.log)
    worker = machine.start_worker(ready=False, settings={"HOST": other.host})
    assert worker.wait(READY_WITHIN_S) == 2
    [sentence] = [line for line in machine.log[before:].splitlines() if line.startswith("hostler: ")]
    assert f"HOSTLER_HOST: the name {other.host} is bound to machine" in sentence
    assert f"hostler hosts rebind {other.host}" in sentence
    assert other.worker.alive
    [host] = [each for each in list_hosts(other.database) if each.name == other.host]
    assert (host.worker_pid, host.recovering_because) == (other.worker.pid, None)
