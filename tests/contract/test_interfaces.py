"""The port's `Interfaces`: the same promises on every host."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from uuid import UUID

import pytest

from models.states import ErrorClass
from tasks.host import DomainState, NetworkKind
from tests.contract.bench import Bench
from tests.contract.devices import SOON_S, guest, interface, refused, refused_class, running


@pytest.mark.parametrize("kind", NetworkKind)
def test_what_the_host_lacks_is_refused_by_its_name(bench: Bench, kind: NetworkKind) -> None:
    """No guest is given an interface to nowhere."""
    nic = replace(interface(network="none-such"), kind=kind)
    for call in (bench.host.interfaces.plugged, bench.host.interfaces.plug):
        error = refused(partial(call, nic))
        assert error.error_class is ErrorClass.PERMANENT
        assert "'none-such'" in str(error)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "lo", "sixteen-or-more-"])
def test_what_is_no_bridge_is_refused(bench: Bench, name: str) -> None:
    """Whatever else of that name there is."""
    assert refused_class(lambda: bench.host.interfaces.plugged(interface(network=name))) is ErrorClass.PERMANENT


def test_a_bridge_of_the_host_can_be_plugged_into(bridged_bench: Bench) -> None:
    """Nothing is made before a guest is given the interface."""
    nic, interfaces = interface(), bridged_bench.host.interfaces
    assert interfaces.plugged(nic)
    interfaces.plug(nic)
    interfaces.plug(nic)
    assert not interfaces.left(nic)


def test_where_nothing_is_left_there_is_nothing_to_take_away(bench: Bench) -> None:
    """No error, however often."""
    assert not bench.host.interfaces.left(interface())
    bench.host.interfaces.unplug(interface())
    bench.host.interfaces.unplug(interface())


def test_a_tap_is_there_while_a_guest_has_it_and_goes_with_it(bridged_bench: Bench, instance: UUID) -> None:
    """It is not taken from a guest."""
    nic, interfaces = interface(), bridged_bench.host.interfaces
    running(bridged_bench, instance, nic)
    assert interfaces.left(nic)
    assert refused_class(lambda: interfaces.unplug(nic)) is ErrorClass.TRANSIENT
    assert interfaces.left(nic)
    bridged_bench.host.domains.kill(instance)
    interfaces.unplug(nic)
    assert not interfaces.left(nic)


def test_a_guest_stands_still_until_what_it_sends_is_passed_on(bridged_bench: Bench, instance: UUID) -> None:
    """Told as its bridge comes up; before that the wait ends at its deadline, and the guest has not begun."""
    host, nic = bridged_bench.host, interface()
    host.domains.define(guest(instance, nic))
    bridged_bench.bridge_is(up=False)
    try:
        host.domains.start(instance, paused=True)
        host.domains.start(instance, paused=True)
        assert state(bridged_bench, instance) is DomainState.PAUSED
        assert refused_class(lambda: host.interfaces.wait_forwarding((nic,), 0.2)) is ErrorClass.TRANSIENT
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(host.interfaces.wait_forwarding, (nic,), SOON_S)
            bridged_bench.bridge_is(up=True)
            waiting.result(timeout=SOON_S)
    finally:
        bridged_bench.bridge_is(up=True)
    assert state(bridged_bench, instance) is DomainState.PAUSED
    host.power.unpause(instance)
    assert state(bridged_bench, instance) is DomainState.RUNNING
    host.interfaces.wait_forwarding((nic,), SOON_S)


def test_a_guest_that_ends_is_not_waited_for(bridged_bench: Bench, instance: UUID) -> None:
    """Whoever destroys it meanwhile need not wait either."""
    host, nic = bridged_bench.host, interface()
    host.domains.define(guest(instance, nic))
    bridged_bench.bridge_is(up=False)
    try:
        host.domains.start(instance, paused=True)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(host.interfaces.wait_forwarding, (nic,), SOON_S)
            host.domains.kill(instance)
            waiting.result(timeout=SOON_S)
    finally:
        bridged_bench.bridge_is(up=True)


def test_a_guest_without_interfaces_waits_for_nothing(bench: Bench) -> None:
    """At once."""
    bench.host.interfaces.wait_forwarding((), 0.0)


def state(bench: Bench, instance: UUID) -> DomainState:
    """What its guest does."""
    domain = bench.host.domains.find(instance)
    assert domain is not None
    return domain.state
