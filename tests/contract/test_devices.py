"""The port's `Devices`: the same promises on every host."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import pytest

from models.states import ErrorClass
from tasks.host import DomainState, GuestDevice
from tests.contract.bench import Bench
from tests.contract.devices import (
    SOON_S,
    disk,
    file_volume,
    given,
    guest,
    interface,
    nbd_volume,
    refused,
    refused_class,
    running,
    shown,
    sides,
)

NOT_LONG_S = 0.3
LONG_S = 30.0


def test_an_unknown_domain_has_no_devices(bench: Bench, instance: UUID) -> None:
    """None, not an empty list."""
    assert bench.host.devices.shown(instance) is None


def test_a_stopped_domain_shows_what_it_was_defined_with(bench: Bench, instance: UUID) -> None:
    """Volumes and interfaces, and no running guest's."""
    volume, nic = disk(bench), interface()
    bench.host.domains.define(guest(instance, volume, nic))
    found = shown(bench, instance)
    assert found.live is None
    assert found.persistent is not None
    assert [(each.alias, each.target, each.serial, each.mac) for each in found.persistent] == [
        ("ua-vol-1", "vdb", "vol-1", ""),
        ("ua-nic-1", "tap-1", "", "52:54:00:00:00:01"),
    ]
    assert found.persistent[0].source == volume.volume.where["path"]


def test_a_started_guest_has_what_it_was_defined_with(bench: Bench, instance: UUID) -> None:
    """Both sides show it; once it has stopped, only the definition does."""
    volume = disk(bench)
    running(bench, instance, volume)
    assert sides(shown(bench, instance), volume) == (True, True)
    bench.stop(instance)
    assert sides(shown(bench, instance), volume) == (None, True)


def test_a_stopped_domain_is_given_a_device_for_its_next_start(bench: Bench, instance: UUID) -> None:
    """In its definition, and from there in the guest."""
    volume, nic = disk(bench), interface()
    bench.host.domains.define(guest(instance))
    for device in (volume, nic):
        bench.host.devices.attach(instance, device)
        assert sides(shown(bench, instance), device) == (None, True)
    bench.host.devices.remove_from_definition(instance, nic)
    bench.host.domains.start(instance)
    assert sides(shown(bench, instance), volume) == (True, True)


@pytest.mark.parametrize("paused", [False, True])
def test_an_active_guest_is_given_a_device_at_once(bench: Bench, instance: UUID, *, paused: bool) -> None:
    """Guest and definition, in one call."""
    volume = disk(bench)
    running(bench, instance)
    if paused:
        bench.pause(instance)
    bench.host.devices.attach(instance, volume)
    assert shown(bench, instance).everywhere(volume)


def test_a_network_disk_is_given_as_such(bench: Bench, instance: UUID) -> None:
    """The guest's QEMU speaks to the server."""
    where = bench.nbd_server()
    volume = given(nbd_volume(where))
    running(bench, instance)
    bench.host.devices.attach(instance, volume)
    found = shown(bench, instance)
    assert found.everywhere(volume)
    assert found.live is not None
    assert found.live[0].source == f"nbd://{where['host']}:{where['port']}/volume"


def test_a_running_guest_is_given_an_interface_at_once(bridged_bench: Bench, instance: UUID) -> None:
    """With its tap, its MAC address and its alias."""
    nic = replace(interface(), mtu=1400)
    running(bridged_bench, instance)
    bridged_bench.host.devices.attach(instance, nic)
    found = shown(bridged_bench, instance)
    assert found.everywhere(nic)
    assert found.live is not None
    assert [(each.alias, each.target, each.mac) for each in found.live] == [(nic.alias, nic.tap, nic.mac)]


def test_what_is_attached_already_is_not_attached_again(bench: Bench, instance: UUID) -> None:
    """A replay finds it, even if what it was made from is not there any more."""
    volume = disk(bench)
    running(bench, instance)
    bench.host.devices.attach(instance, volume)
    before = shown(bench, instance)
    bench.host.devices.attach(instance, replace(volume, volume=file_volume("/gone")))
    assert shown(bench, instance) == before


def test_only_the_side_that_lacks_it_is_given_it(bench: Bench, instance: UUID) -> None:
    """First the definition's turn, then the guest's."""
    volume = disk(bench)
    bench.keep_devices(instance)
    running(bench, instance)
    bench.host.devices.attach(instance, volume)
    bench.host.devices.remove_from_definition(instance, volume)
    assert sides(shown(bench, instance), volume) == (True, False)
    bench.host.devices.attach(instance, volume)
    assert shown(bench, instance).everywhere(volume)
    released(bench, instance, volume)
    assert sides(shown(bench, instance), volume) == (False, True)
    bench.host.devices.attach(instance, volume)
    assert shown(bench, instance).everywhere(volume)


def test_another_device_with_its_alias_target_or_address_is_a_conflict(bench: Bench, instance: UUID) -> None:
    """Told before anything is done."""
    first, nic = disk(bench), interface()
    second = disk(bench, "vol-2", "vdc")
    bench.host.domains.define(guest(instance, first, nic))
    before = shown(bench, instance)
    clashes: list[GuestDevice] = [
        replace(second, alias=first.alias),
        replace(second, target=first.target),
        replace(interface("nic-2", 2), alias=nic.alias),
        replace(interface("nic-2", 2), tap=nic.tap),
        replace(interface("nic-2", 2), mac=nic.mac),
    ]
    for clash in clashes:
        assert refused_class(partial(bench.host.devices.attach, instance, clash)) is ErrorClass.CONFLICT
    assert shown(bench, instance) == before


def test_a_tap_that_another_guest_has_is_a_conflict(bridged_bench: Bench, instance: UUID) -> None:
    """Two guests do not share one."""
    nic, other = interface(), uuid4()
    running(bridged_bench, other, nic)
    running(bridged_bench, instance)
    taken = replace(interface("nic-2", 2), tap=nic.tap)
    assert refused_class(partial(bridged_bench.host.devices.attach, instance, taken)) is ErrorClass.CONFLICT
    assert sides(shown(bridged_bench, instance), taken) == (False, False)


def test_a_device_that_the_host_lacks_is_refused_and_nothing_of_it_is_left(bench: Bench, instance: UUID) -> None:
    """Neither in the guest nor in the definition."""
    path = bench.volume("gone.raw")
    running(bench, instance)
    for device in (given(file_volume(f"{path}.not")), interface(network="br-none")):
        assert refused_class(partial(bench.host.devices.attach, instance, device)) is ErrorClass.PERMANENT
        assert sides(shown(bench, instance), device) == (False, False)


def test_a_device_needs_a_domain(bench: Bench, instance: UUID) -> None:
    """It will not come by waiting."""
    volume = disk(bench)
    assert refused_class(lambda: bench.host.devices.attach(instance, volume)) is ErrorClass.PERMANENT


def test_a_device_leaves_the_definition_and_the_guest_keeps_it(bench: Bench, instance: UUID) -> None:
    """The next start has none; other devices stay."""
    volume, other = disk(bench), disk(bench, "vol-2", "vdc")
    running(bench, instance, volume, other)
    bench.host.devices.remove_from_definition(instance, volume)
    found = shown(bench, instance)
    assert sides(found, volume) == (True, False)
    assert found.everywhere(other)


def test_an_interface_leaves_the_definition(bench: Bench, instance: UUID) -> None:
    """The one with its address."""
    nic, other = interface(), interface("nic-2", 2)
    bench.host.domains.define(guest(instance, nic, other))
    bench.host.devices.remove_from_definition(instance, nic)
    found = shown(bench, instance)
    assert (sides(found, nic), sides(found, other)) == ((None, False), (None, True))


def test_taking_away_what_is_not_there_is_no_error(bench: Bench, instance: UUID) -> None:
    """No domain, no such device, and no running guest."""
    volume, nic = disk(bench), interface()
    devices = bench.host.devices
    for device in (volume, nic):
        devices.remove_from_definition(instance, device)
        devices.release(instance, device, attempts=1, timeout_s=NOT_LONG_S)
    bench.host.domains.define(guest(instance, volume))
    devices.release(instance, volume, attempts=1, timeout_s=NOT_LONG_S)
    devices.remove_from_definition(instance, nic)
    bench.host.domains.start(instance)
    devices.release(instance, nic, attempts=1, timeout_s=NOT_LONG_S)
    assert shown(bench, instance).everywhere(volume)


def test_a_guest_that_does_not_let_go_keeps_the_device(bench: Bench, instance: UUID) -> None:
    """Refused for good, in a sentence that says how often and how long it was asked."""
    volume = disk(bench)
    bench.keep_devices(instance)
    running(bench, instance, volume)
    error = refused(lambda: bench.host.devices.release(instance, volume, attempts=2, timeout_s=NOT_LONG_S))
    assert error.error_class is ErrorClass.PERMANENT
    assert all(part in str(error) for part in ("2 times", "0.3 s", "nothing was disconnected"))
    assert sides(shown(bench, instance), volume) == (True, True)
    release = partial(bench.host.devices.release, instance, volume, attempts=8, timeout_s=LONG_S, watch=called_off)
    assert refused_class(release) is ErrorClass.TRANSIENT


def called_off() -> bool:
    """Whether to go on waiting; the embedded driver's process is handed it by name."""
    return False


def test_a_paused_guest_does_not_let_go(bench: Bench, instance: UUID) -> None:
    """It does not run to be asked, and says so by silence."""
    volume = disk(bench)
    bench.keep_devices(instance)
    running(bench, instance, volume)
    bench.pause(instance)
    release = partial(bench.host.devices.release, instance, volume, attempts=1, timeout_s=NOT_LONG_S)
    assert refused_class(release) is ErrorClass.PERMANENT


def test_a_release_returns_once_the_guest_has_let_go(bench: Bench, instance: UUID) -> None:
    """Told by event, long before its time is up."""
    volume = disk(bench)
    bench.keep_devices(instance)
    running(bench, instance, volume)
    released(bench, instance, volume)
    found = shown(bench, instance)
    assert sides(found, volume) == (False, True)
    bench.host.devices.release(instance, volume, attempts=1, timeout_s=NOT_LONG_S)


def test_a_guest_that_stops_instead_has_let_go(bench: Bench, instance: UUID) -> None:
    """There is nobody left to ask."""
    volume = disk(bench)
    bench.keep_devices(instance)
    running(bench, instance, volume)
    with ThreadPoolExecutor(1) as pool:
        releasing = pool.submit(bench.host.devices.release, instance, volume, attempts=1, timeout_s=LONG_S)
        bench.stop(instance)
        releasing.result(SOON_S)
    domain = bench.host.domains.find(instance)
    assert domain is not None
    assert domain.state is DomainState.SHUT_OFF


def test_a_strangers_devices_are_neither_shown_nor_touched(bench: Bench, instance: UUID) -> None:
    """A domain without our name on it is nobody to ask."""
    bench.stranger(instance)
    devices, volume = bench.host.devices, disk(bench)
    for call in (
        lambda: devices.shown(instance),
        lambda: devices.attach(instance, volume),
        lambda: devices.remove_from_definition(instance, volume),
        lambda: devices.release(instance, volume, attempts=1, timeout_s=NOT_LONG_S),
    ):
        assert refused_class(call) is ErrorClass.CONFLICT


def test_devices_of_a_domain_of_another_instance_are_not_touched(bench: Bench, instance: UUID) -> None:
    """Its metadata decide, not its UUID."""
    bench.mislabelled(instance, uuid4())
    volume = disk(bench)
    assert refused_class(lambda: bench.host.devices.attach(instance, volume)) is ErrorClass.CONFLICT


def released(bench: Bench, instance: UUID, device: GuestDevice) -> None:
    """Have the guest let the device go: it is asked, and reset until it does."""
    with ThreadPoolExecutor(1) as pool:
        releasing = pool.submit(bench.host.devices.release, instance, device, attempts=1, timeout_s=LONG_S)
        while not releasing.done():
            bench.reset(instance)
            try:
                releasing.result(0.5)
            except TimeoutError:
                continue
