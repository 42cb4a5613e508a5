"""The domains of the fake host, and what each has of devices: in its running guest, and in its definition."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from uuid import UUID

from models.states import ErrorClass
from tasks.host import (
    Domain,
    DomainState,
    Guest,
    GuestDevice,
    GuestDisk,
    GuestVolume,
    HostError,
    Identity,
    Platform,
    ShownDevice,
)
from tests.contract.fake_files import FakeDisks
from tests.contract.faults import Room, Script, port

_NO_XML = re.compile("[\x00-\x1f\ufffe\uffff\ud800-\udfff]")


class FakeDomains(Room):
    """The port's `Domains`. ``live`` and ``defined`` are the devices of running guests and of definitions."""

    def __init__(self, script: Script, disks: FakeDisks) -> None:
        super().__init__(script)
        self._disks = disks
        self.there: dict[UUID, Domain] = {}
        self.guests: dict[UUID, Guest] = {}
        self.live: dict[UUID, tuple[ShownDevice, ...]] = {}
        self.defined: dict[UUID, tuple[ShownDevice, ...]] = {}
        self.busy: set[UUID] = set()  #: those that somebody's call works on
        self.saved: set[UUID] = set()  #: those whose memory is kept
        self.warning: str | None = None  #: what is not as it should be with what guests run on
        self._runs = count(1)

    @port("domains.find")
    def find(self, instance: UUID) -> Domain | None:
        """What there is now."""
        with self.script.changed:
            return self.there.get(instance)

    @port("domains.known")
    def known(self) -> Mapping[UUID, Domain]:
        """All that there are now."""
        with self.script.changed:
            return dict(self.there)

    @port("domains.owners")
    def owners(self, instance: UUID) -> tuple[Identity | None, ...]:
        """Both sides say the same here."""
        with self.script.changed:
            domain = self.there.get(instance)
            if domain is None:
                return ()
            return (domain.identity,) * (int(domain.active) + int(domain.persistent))

    @port("domains.mark")
    def mark(self, identity: Identity) -> None:
        """Noted."""
        with self.script.changed:
            domain = self._markable(identity.instance)
            if domain is None:
                message = f"there is no domain {identity.instance}"
                raise HostError(ErrorClass.PERMANENT, message, code="NO_DOMAIN", domain="QEMU")
            if domain.identity != identity:
                self.there[identity.instance] = replace(domain, identity=identity)
                self.script.did("domains.mark", identity.instance)

    @port("domains.unmark")
    def unmark(self, instance: UUID) -> None:
        """Forgotten."""
        with self.script.changed:
            domain = self._markable(instance)
            if domain is not None and domain.identity is not None:
                self.there[instance] = replace(domain, identity=None)
                self.script.did("domains.unmark", instance)

    @port("domains.platform")
    def platform(self, machine_type: str) -> Platform:
        """One version of each machine, emulated."""
        machine = {"q35": "pc-q35-7.2", "pc": "pc-i440fx-7.2"}.get(machine_type, machine_type)
        if machine not in {"pc-q35-7.2", "pc-i440fx-7.2"}:
            raise HostError(ErrorClass.PERMANENT, f"machine_type: this host has no {machine_type}")
        return Platform("qemu", machine, self.warning)

    @port("domains.define")
    def define(self, guest: Guest) -> None:
        """Define it, or define it again."""
        instance = guest.identity.instance
        for value in (guest.name, guest.boot.cmdline or "" if guest.boot else ""):
            if _NO_XML.search(value):
                raise HostError(ErrorClass.PERMANENT, f"{value!r} has a character that a definition cannot carry")
        with self.script.changed:
            there = self.ours(instance)
            now = replace(there or Domain(DomainState.SHUT_OFF, persistent=True, identity=None))
            self.there[instance] = replace(now, persistent=True, identity=guest.identity)
            self.defined[instance] = _devices(guest)
            self._disks.make_folder(instance).console_log = True
            if there != self.there[instance] or self.guests.get(instance) != guest:
                self.guests[instance] = guest
                self.script.did("domains.define", instance)

    @port("domains.start")
    def start(self, instance: UUID, *, paused: bool = False) -> None:
        """Start it."""
        with self.script.changed:
            domain = self.ours(instance)
            if domain is None:
                raise HostError(ErrorClass.PERMANENT, f"there is no domain {instance}", code="NO_DOMAIN", domain="QEMU")
            if not domain.active:
                self.is_now(instance, DomainState.PAUSED if paused else DomainState.RUNNING, "booted")
                self.script.did("domains.start", instance)

    @port("domains.wait_running")
    def wait_running(self, instance: UUID, deadline_s: float) -> None:
        """Wait until somebody changes its state."""
        with self.script.changed:
            self.script.changed.wait_for(lambda: self._state(instance) is not DomainState.PAUSED, deadline_s)
            state = self._state(instance)
        if state is DomainState.RUNNING:
            return
        if state in {DomainState.PAUSED, DomainState.SHUTTING_DOWN}:
            raise HostError(ErrorClass.TRANSIENT, f"the domain {instance} is {state} after {deadline_s:g} s")
        raise HostError(ErrorClass.PERMANENT, f"the domain {instance} stopped instead of running")

    @port("domains.wait_idle")
    def wait_idle(self, instance: UUID, deadline_s: float) -> None:
        """Wait until it is in no call any more."""
        with self.script.changed:
            if not self.script.changed.wait_for(lambda: instance not in self.busy, deadline_s):
                raise HostError(ErrorClass.TRANSIENT, f"the domain {instance} is still busy after {deadline_s:g} s")

    @port("domains.kill")
    def kill(self, instance: UUID) -> None:
        """End it."""
        with self.script.changed:
            domain = self.ours(instance)
            if domain is not None and domain.active:
                self.is_now(instance, DomainState.SHUT_OFF, "destroyed")
                self.script.did("domains.kill", instance)

    @port("domains.undefine")
    def undefine(self, instance: UUID) -> None:
        """Forget it, and its console log."""
        with self.script.changed:
            domain = self.ours(instance)
            if domain is not None and domain.active:
                raise HostError(ErrorClass.TRANSIENT, f"the domain {instance} is {domain.state}")
            if self.there.pop(instance, None):
                self.guests.pop(instance, None)
                self.defined.pop(instance, None)
                self.saved.discard(instance)
                self.script.did("domains.undefine", instance)
            if instance in self._disks.folders:
                self._disks.folders[instance].console_log = False
                self._disks.drop_folder_if_empty(instance)

    def ours(self, instance: UUID) -> Domain | None:
        """What is there, if it is ours or nothing."""
        domain = self.there.get(instance)
        if domain is not None and (domain.identity is None or domain.identity.instance != instance):
            raise HostError(ErrorClass.CONFLICT, f"the domain {instance} is not ours; nothing was done")
        return domain

    # --- what happens behind Hostler's back

    def is_now(self, instance: UUID, state: DomainState, reason: str = "") -> None:
        """The domain came to that state, whoever did it; a transient one that stops is gone."""
        with self.script.changed:
            before = self.there[instance]
            now = replace(before, state=state, reason=reason)
            if now.active and not before.active:
                now = replace(now, run=next(self._runs))
                self.saved.discard(instance)
            elif not now.active:
                now = replace(now, run=None)
            self.there[instance] = now
            if now.active:
                self.live.setdefault(instance, self.defined.get(instance, ()))
            else:
                self.live.pop(instance, None)
            if not now.active and not now.persistent:
                del self.there[instance]
            self.script.changed.notify_all()

    def appears(self, instance: UUID, domain: Domain) -> None:
        """Somebody else made a domain."""
        with self.script.changed:
            self.there[instance] = domain

    def _markable(self, instance: UUID) -> Domain | None:
        """What is there, unless it is another instance's."""
        domain = self.there.get(instance)
        if domain is not None and domain.identity is not None:
            return self.ours(instance)
        return domain

    def _state(self, instance: UUID) -> DomainState | None:
        domain = self.there.get(instance)
        return domain.state if domain else None


def shown(device: GuestDisk | GuestDevice) -> ShownDevice:
    """The device as its domain's XML would show it."""
    if isinstance(device, GuestDisk):
        return ShownDevice(device.alias, device.target, serial=device.serial, source=device.path)
    if isinstance(device, GuestVolume):
        where = device.volume.where
        address = f"nbd://{where.get('host')}:{where.get('port')}/{where.get('export', '')}"
        source = where.get("path") or where.get("socket") or address
        return ShownDevice(device.alias, device.target, serial=device.serial, source=source)
    return ShownDevice(device.alias, device.tap, mac=device.mac, source=device.network)


def _devices(guest: Guest) -> tuple[ShownDevice, ...]:
    devices: tuple[GuestDisk | GuestDevice, ...] = (*guest.disks, *guest.volumes, *guest.interfaces)
    return tuple(shown(device) for device in devices)


def stranger() -> Domain:
    """A running domain that Hostler did not make."""
    return Domain(DomainState.RUNNING, persistent=True, identity=None, reason="booted")


def mislabelled(other: UUID) -> Domain:
    """A domain whose metadata name another instance than its UUID does."""
    return Domain(DomainState.SHUT_OFF, persistent=True, identity=Identity(other, "job-of-another"))
