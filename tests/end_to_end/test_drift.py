"""What happens behind Hostler's back, on a real host: told of by the command line, and never repaired unasked."""

import json
from typing import Any
from uuid import UUID, uuid4

import libvirt
import pytest

from models import reading
from models.observing import list_drift
from tests.contract.backdoor import Backdoor
from tests.end_to_end.guests import done, file_volume
from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

SEEN_WITHIN_S = 20.0


def state(site: Site, instance: UUID) -> str:
    """The instance's, as the journal has it."""
    found = reading.instance(site.database, instance)
    assert found is not None
    return found.state.value


def drift(site: Site, *of: UUID) -> set[tuple[str, str]]:
    """What is listed of these domains: kinds and subjects; other tests may have some of their own on the host."""
    found = {(each.kind.value, each.subject) for each in list_drift(site.database, host="h1")}
    return {(kind, subject) for kind, subject in found if subject.partition("/")[0] in {str(uuid) for uuid in of}}


def test_what_happens_behind_its_back_is_told(
    site: Site, libvirt_host: LibvirtHost, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """A guest that ends, a disk that is taken, a domain that appears, and one that goes."""
    site.start_worker(settings={"DRIFT_INTERVAL_S": "1"})
    done(site, "spawn", instance, small_guest)
    done(site, "attach_volume", instance, {"volume": file_volume(site, "v1")})
    connection = libvirt.open(libvirt_host.uri)
    try:
        backdoor, other = Backdoor(connection), uuid4()
        domain = connection.lookupByUUID(instance.bytes)
        domain.suspend()
        eventually(lambda: state(site, instance) == "paused", "it is paused", SEEN_WITHIN_S)
        domain.destroy()
        eventually(lambda: state(site, instance) == "stopped", "it is off", SEEN_WITHIN_S)
        document = json.loads(site.hostler("instances", "show", str(instance), "--json").stdout)
        told = [(event["type"], event["data"]) for event in document["events"]]
        assert told == [
            ("paused", {"from": "running", "reason": "user"}),
            ("stopped", {"from": "paused", "reason": "destroyed"}),
        ]
        assert drift(site, instance, other) == set()

        domain.detachDeviceAlias("ua-v1", libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        backdoor.stranger(other)
        expected = {("device_missing", f"{instance}/ua-v1"), ("unknown", str(other))}
        eventually(lambda: drift(site, instance, other) == expected, "both are drift", SEEN_WITHIN_S)
        backdoor.stop(other)
        backdoor.undefine(other)
        domain.undefine()
        eventually(lambda: drift(site, instance, other) == {("missing", str(instance))}, "it is missing", SEEN_WITHIN_S)
        assert "destroy the instance" in site.hostler("drift").stdout
    finally:
        connection.close()
    done(site, "destroy", instance, {})
    eventually(lambda: drift(site, instance, other) == set(), "nothing is told differently any more", SEEN_WITHIN_S)
