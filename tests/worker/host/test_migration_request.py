"""What libvirt is asked for when a guest is moved."""

from dataclasses import replace

import libvirt
import pytest

from models.states import ErrorClass
from tasks.host import HostError, MigrationPlan, Peer
from worker.host.migrations.request import data_uri, flags_for, libvirt_uri, parameters_for

PLAN = MigrationPlan(Peer("h2", "qemu+tcp://h2/system", "192.0.2.2"))
WAITS_THERE = libvirt.VIR_MIGRATE_PAUSED
ALWAYS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)


@pytest.mark.parametrize(
    ("plan", "paused", "more"),
    [
        (PLAN, False, WAITS_THERE),
        (replace(PLAN, copied_disks=("vda",)), False, WAITS_THERE | libvirt.VIR_MIGRATE_NON_SHARED_DISK),
        (replace(PLAN, post_copy=True), False, libvirt.VIR_MIGRATE_POSTCOPY),
        (replace(PLAN, auto_converge=True), False, WAITS_THERE | libvirt.VIR_MIGRATE_AUTO_CONVERGE),
        (replace(PLAN, post_copy=True, auto_converge=True), False, libvirt.VIR_MIGRATE_POSTCOPY),
        (replace(PLAN, post_copy=True), True, WAITS_THERE),
        (replace(PLAN, post_copy=True, auto_converge=True), True, WAITS_THERE | libvirt.VIR_MIGRATE_AUTO_CONVERGE),
    ],
)
def test_the_flags_say_what_the_plan_says(plan: MigrationPlan, more: int, *, paused: bool) -> None:
    """Post-copy wins over auto-converge, and a guest that stands still needs none; never is libvirt overruled.

    Without post-copy the guest waits over there until no copy of it lives here.
    """
    assert flags_for(plan, paused=paused) == ALWAYS | more
    assert not flags_for(plan, paused=paused) & libvirt.VIR_MIGRATE_UNSAFE


def test_the_parameters_say_what_the_plan_says() -> None:
    """No list of disks where none is copied: libvirt would take that for all of them."""
    least = {"migrate_uri": "tcp://192.0.2.2", "destination_xml": "<running/>", "persistent_xml": "<defined/>"}
    assert parameters_for(PLAN, "<running/>", "<defined/>") == least
    plan = replace(PLAN, copied_disks=("vda", "vdb"), bandwidth_mib_s=7)
    more = {"migrate_disks": ["vda", "vdb"], "bandwidth": 7}
    assert parameters_for(plan, "<running/>", "<defined/>") == least | more


@pytest.mark.parametrize(
    ("address", "uri"),
    [("192.0.2.2", "tcp://192.0.2.2"), ("h2.example", "tcp://h2.example"), ("2001:db8::2", "tcp://[2001:db8::2]")],
)
def test_an_address_becomes_a_uri(address: str, uri: str) -> None:
    """Colons are bracketed."""
    assert data_uri(Peer("h2", address=address)) == uri


@pytest.mark.parametrize("address", ["", "h2/x", "h2 h3", "tcp://h2", "h2?x=1", "-h2", "fe80::1%eth0", "h2\n"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """For good: it would become part of a URI."""
    with pytest.raises(HostError, match="HOSTLER_MIGRATION_ADDRESS") as caught:
        data_uri(Peer("h2", address=address))
    assert caught.value.error_class is ErrorClass.PERMANENT


def test_a_host_that_has_not_said_how_it_is_reached_is_refused() -> None:
    """With the name of the setting."""
    assert libvirt_uri(PLAN.peer) == "qemu+tcp://h2/system"
    with pytest.raises(HostError, match=r"h3 .*HOSTLER_PEER_LIBVIRT_URI") as caught:
        libvirt_uri(Peer("h3"))
    assert caught.value.error_class is ErrorClass.PERMANENT
