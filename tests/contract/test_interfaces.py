"""The port's `Interfaces`: the same promises on every host."""

from dataclasses import replace
from functools import partial
from uuid import UUID

import pytest

from models.states import ErrorClass
from tasks.host import NetworkKind
from tests.contract.bench import Bench
from tests.contract.devices import interface, refused, refused_class, running


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
