"""Devices of the fake host's domains, and its side of interfaces. A guest lets go at once, if not told otherwise."""

import time
from collections.abc import Callable, Collection
from uuid import UUID

from models.states import ErrorClass
from tasks.host import GuestDevice, GuestInterface, GuestVolume, HostError, NetworkKind, ShownDevice, ShownDevices
from tests.contract.fake_domains import FakeDomains, shown
from tests.contract.fake_volumes import FakeVolumes
from tests.contract.faults import Room, Script, port

#: How often somebody who waits for a guest is asked whether to go on, in seconds.
LOOK_AGAIN_S = 0.02


class FakeDevices(Room):
    """The port's `Devices`.

    A guest in ``no_os`` lets nothing go until it is reset or ended, one in ``refusing`` says that it will not.
    """

    def __init__(
        self, script: Script, domains: FakeDomains, volumes: FakeVolumes, interfaces: "FakeInterfaces"
    ) -> None:
        super().__init__(script)
        self._domains = domains
        self._volumes = volumes
        self._interfaces = interfaces
        self.no_os: set[UUID] = set()
        self.refusing: set[UUID] = set()
        self.longest_wait_s = 60.0  #: a test need not wait as long as it tells the host to
        self._asked: set[tuple[UUID, str]] = set()

    @port("devices.shown")
    def shown(self, instance: UUID) -> ShownDevices | None:
        """What there is now."""
        with self.script.changed:
            return self._shown(instance)

    @port("devices.attach")
    def attach(self, instance: UUID, device: GuestDevice) -> None:
        """Note it on each side that lacks it."""
        with self.script.changed:
            now = self._shown(instance)
            if now is None:
                raise HostError(ErrorClass.PERMANENT, f"there is no domain {instance}")
            for each in (*(now.live or ()), *(now.persistent or ())):
                _refuse_clash(each, device)
            if now.everywhere(device):
                return
            if now.live is not None and not self._has(instance, device):
                self._require(device)
            for side, has in ((self._domains.live, now.live), (self._domains.defined, now.persistent)):
                if has is not None and not any(each.is_same(device) for each in has):
                    side[instance] = (*has, shown(device))
            self.script.did("devices.attach", instance)

    @port("devices.remove_from_definition")
    def remove_from_definition(self, instance: UUID, device: GuestDevice) -> None:
        """Forget it there."""
        with self.script.changed:
            now = self._shown(instance)
            left = tuple(each for each in (now and now.persistent) or () if not each.is_same(device))
            if now and now.persistent is not None and left != now.persistent:
                self._domains.defined[instance] = left
                self.script.did("devices.remove_from_definition", instance)

    @port("devices.release")
    def release(
        self,
        instance: UUID,
        device: GuestDevice,
        *,
        attempts: int,
        timeout_s: float,
        watch: Callable[[], bool] = lambda: True,
    ) -> None:
        """It goes, unless the guest was told not to let it."""
        with self.script.changed:
            if not self._has(instance, device):
                return
            if instance in self.refusing:
                raise HostError(ErrorClass.PERMANENT, f"the guest {instance} refused to let go of {device.alias}")
            self._asked.add((instance, device.alias))
            if instance not in self.no_os:
                self.guest_resets(instance)
            limit_s = min(attempts * timeout_s, self.longest_wait_s)
            end = time.monotonic() + limit_s
            while self._has(instance, device):
                if not watch():
                    raise HostError(ErrorClass.TRANSIENT, f"waiting for the guest {instance} was called off")
                left = end - time.monotonic()
                if left > 0:
                    self.script.changed.wait(min(left, LOOK_AGAIN_S))
                    continue
                asked = f"it was asked {attempts} times, and given {timeout_s:g} s each time"
                message = f"the guest {instance} did not let go of {device.alias}: {asked}; nothing was disconnected"
                raise HostError(ErrorClass.PERMANENT, message)
            self.script.did("devices.release", instance)

    def guest_resets(self, instance: UUID) -> None:
        """Whatever the guest was asked to let go is gone."""
        with self.script.changed:
            asked = {alias for whose, alias in self._asked if whose == instance}
            self._asked -= {(instance, alias) for alias in asked}
            if instance in self._domains.live:
                live = self._domains.live[instance]
                self._domains.live[instance] = tuple(each for each in live if each.alias not in asked)
            self.script.changed.notify_all()

    def _shown(self, instance: UUID) -> ShownDevices | None:
        domain = self._domains.ours(instance)
        if domain is None:
            return None
        return ShownDevices(
            live=self._domains.live.get(instance, ()) if domain.active else None,
            persistent=self._domains.defined.get(instance, ()) if domain.persistent else None,
        )

    def _require(self, device: GuestDevice) -> None:
        if isinstance(device, GuestVolume):
            self._volumes.require(device.volume)
        else:
            self._interfaces.require(device)
            if self._interfaces.has_tap(device):
                raise HostError(ErrorClass.CONFLICT, f"another guest has the tap {device.tap}")

    def _has(self, instance: UUID, device: GuestDevice) -> bool:
        now = self._shown(instance)
        return any(each.is_same(device) for each in (now and now.live) or ())


class FakeInterfaces(Room):
    """The port's `Interfaces`, with the ``bridges`` and running ``networks`` that a test gives it.

    Each running guest's interface has its tap; ``stuck_taps`` are there as well, whatever becomes of guests.
    """

    def __init__(self, script: Script, domains: FakeDomains) -> None:
        super().__init__(script)
        self._domains = domains
        self.bridges = {"br-guests"}
        self.networks = {"default"}
        self.stuck_taps: set[str] = set()
        self.silent: set[str] = set()  #: bridges that are down

    @port("interfaces.plugged")
    def plugged(self, interface: GuestInterface) -> bool:
        """Whether the test gave it."""
        return self.require(interface)

    @port("interfaces.plug")
    def plug(self, interface: GuestInterface) -> None:
        """Nothing is made."""
        self.require(interface)

    @port("interfaces.wait_forwarding")
    def wait_forwarding(self, interfaces: Collection[GuestInterface], deadline_s: float) -> None:
        """Each that has a tap: until its bridge is up."""
        with self.script.changed:
            if not self.script.changed.wait_for(lambda: all(map(self._is_heard, interfaces)), deadline_s):
                raise HostError(ErrorClass.TRANSIENT, f"after {deadline_s:g} s nothing is passed on")

    def bridge_is(self, name: str, *, up: bool) -> None:
        """From now on."""
        with self.script.changed:
            (self.silent.discard if up else self.silent.add)(name)
            self.script.changed.notify_all()

    def _is_heard(self, interface: GuestInterface) -> bool:
        return not self.has_tap(interface) or interface.network not in self.silent

    @port("interfaces.left")
    def left(self, interface: GuestInterface) -> bool:
        """Whether there is a tap."""
        with self.script.changed:
            return self.has_tap(interface)

    @port("interfaces.unplug")
    def unplug(self, interface: GuestInterface) -> None:
        """The tap goes with the guest's hold of it."""
        with self.script.changed:
            if self.has_tap(interface):
                raise HostError(ErrorClass.TRANSIENT, f"the tap {interface.tap} is still there; something holds it")

    def require(self, interface: GuestInterface) -> bool:
        """Raise HostError(PERMANENT) unless what it is plugged into is there."""
        there = self.bridges if interface.kind is NetworkKind.BRIDGE else self.networks
        if interface.network not in there:
            raise HostError(ErrorClass.PERMANENT, f"this host has no {interface.kind} {interface.network!r}")
        return True

    def has_tap(self, interface: GuestInterface) -> bool:
        """Whether there is a tap of its name, whoever has it."""
        taps = {each.target for devices in self._domains.live.values() for each in devices if each.mac}
        return interface.tap in taps | self.stuck_taps


def _refuse_clash(there: ShownDevice, device: GuestDevice) -> None:
    if there.is_same(device) and there.alias == device.alias:
        return
    wanted = shown(device)
    same_target = there.target == wanted.target and bool(there.mac) == bool(wanted.mac)
    if there.alias == wanted.alias or same_target or (wanted.mac and there.mac == wanted.mac):
        raise HostError(ErrorClass.CONFLICT, f"another device has the alias, target or address of {device.alias}")
