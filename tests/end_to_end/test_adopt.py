"""Domains that were there before Hostler: taken into the journal through the command line, and given back."""

import json
import re
from contextlib import closing
from uuid import UUID

import libvirt
import pytest

from models.observing import list_drift
from tests.end_to_end.guests import domain
from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

_DOMAIN = """
<domain type='qemu'><name>old-server</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
"""

#: libvirt leaves an empty element where the last one was taken out.
_METADATA = re.compile(r"\s*<metadata(?:/>|>.*?</metadata>)", re.DOTALL)


def described(host: LibvirtHost, instance: UUID) -> tuple[int, list[str]]:
    """The process's number, and what both sides say, but for metadata."""
    with domain(host, instance) as found:
        sides = [found.XMLDesc(), found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)]
        return found.ID(), [_METADATA.sub("", side) for side in sides]


def jobs_of(site: Site, *arguments: str) -> list[str]:
    """The jobs that the command submits, each with its end."""
    said = site.hostler("instances", *arguments, "--json")
    assert said.returncode == 0, said.stderr
    return [site.settled(job["id"])["state"] for job in json.loads(said.stdout)]


def test_a_domain_is_adopted_used_and_given_back(site: Site, libvirt_host: LibvirtHost, instance: UUID) -> None:
    """Its process, name and devices are the same before, between and after; in between its instance is as any other."""
    with closing(libvirt.open(libvirt_host.uri)) as connection:
        connection.defineXML(_DOMAIN.format(uuid=instance)).create()
        try:
            before = described(libvirt_host, instance)
            site.start_worker()
            seen = eventually(lambda: list_drift(site.database, host=site.host), "the worker saw the domain", 20.0)
            assert [drift.subject for drift in seen] == [str(instance)]
            assert jobs_of(site, "adopt", "--host", site.host, "--all") == ["succeeded"]
            assert described(libvirt_host, instance) == before
            again = site.hostler("instances", "adopt", "--host", site.host, str(instance))
            assert (again.returncode, "in the journal already" in again.stderr) == (2, True)

            paused = site.settled(site.accept("pause", instance, {}))
            assert paused["state"] == "succeeded", paused
            assert site.settled(site.accept("unpause", instance, {}))["state"] == "succeeded"

            assert jobs_of(site, "release", str(instance)) == ["succeeded"]
            assert described(libvirt_host, instance) == before
            refused = site.settled(site.accept("stop", instance, {}))
            assert (refused["state"], refused["error"]["class"]) == ("failed", "conflict")
        finally:
            left = connection.lookupByUUID(instance.bytes)
            left.destroy()
            left.undefine()
