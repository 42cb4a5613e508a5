"""A host in memory that fits `tasks.host.Host` and passes the same contract suite as real ones.

Faults are scripted at the port: an error before a call's effect (the request was lost) or after it (the answer was
lost), half of an effect, or `Killed`, which no ``except Exception`` sees, just as nothing sees a SIGKILL.
"""

import re
from collections import Counter
from dataclasses import replace
from uuid import UUID

from models.states import ErrorClass
from tasks.host import Domain, DomainState, Guest, HostError, Identity
from tests.contract.fake_files import FakeDisks, FakeImage, FakeImages
from tests.contract.faults import Fault, Killed, Room, Script, port

__all__ = ["FakeHost", "FakeImage", "Killed", "mislabelled", "stranger"]

CONSOLE_LOG = "console.log"
_NO_XML = re.compile("[\x00-\x1f\ufffe\uffff\ud800-\udfff]")
#: Calls whose effect has a half that a crash can leave.
_HALVES = frozenset({"disks.create", "disks.remove_folder"})


class FakeHost:
    """One hypervisor host, of which a test sees and scripts everything."""

    def __init__(self) -> None:
        self._script = Script()
        self.images = FakeImages(self._script)
        self.disks = FakeDisks(self._script)
        self.domains = FakeDomains(self._script, self.disks)
        self.earlier_work = FakeEarlierWork(self._script)

    @property
    def effects(self) -> list[tuple[str, UUID]]:
        """The ledger: (method, instance), in order, only where something really changed."""
        return self._script.effects

    @property
    def calls(self) -> Counter[str]:
        """How often each method was called, with or without effect."""
        return self._script.calls

    def fail(
        self, method: str, error: BaseException, *, times: int = 1, after: bool = False, halfway: bool = False
    ) -> None:
        """Have the next calls of e.g. ``domains.start`` fail: before, half-way through or after the effect."""
        if halfway and method not in _HALVES:
            raise ValueError(f"{method} has no half")
        room, _, call = method.partition(".")
        if not callable(getattr(getattr(self, room), call)):
            raise TypeError(f"{method} is not a method of the port")
        self._script.fail(method, Fault(error, times, after, halfway))

    def unspent(self) -> tuple[str, ...]:
        """The methods whose scripted faults have not all happened."""
        return self._script.unspent()

    def leftovers(self, instance: UUID) -> tuple[str, ...]:
        """All that the host has of the instance: its domain, and each of its files by name."""
        with self._script.changed:
            domain = ("domain",) if instance in self.domains.there else ()
            aside = ("removing",) if instance in self.disks.aside else ()
            files = self.disks.folders.get(instance)
            if files is None:
                return domain + aside
            console = (CONSOLE_LOG,) if files.console_log else ()
            names = (path.rpartition("/")[2] for path in (*files.disks, *files.halves))
            return domain + aside + ("folder",) + console + tuple(sorted(names))


class FakeDomains(Room):
    """The port's `Domains`."""

    def __init__(self, script: Script, disks: FakeDisks) -> None:
        super().__init__(script)
        self._disks = disks
        self.there: dict[UUID, Domain] = {}
        self.guests: dict[UUID, Guest] = {}

    @port("domains.find")
    def find(self, instance: UUID) -> Domain | None:
        """What there is now."""
        with self.script.changed:
            return self.there.get(instance)

    @port("domains.define")
    def define(self, guest: Guest) -> None:
        """Define it, or define it again."""
        instance = guest.identity.instance
        for value in (guest.name, guest.boot.cmdline or "" if guest.boot else ""):
            if _NO_XML.search(value):
                raise HostError(ErrorClass.PERMANENT, f"{value!r} has a character that a definition cannot carry")
        with self.script.changed:
            there = self._ours(instance)
            now = replace(there or Domain(DomainState.SHUT_OFF, persistent=True, identity=None))
            self.there[instance] = replace(now, persistent=True, identity=guest.identity)
            self._disks.make_folder(instance).console_log = True
            if there != self.there[instance] or self.guests.get(instance) != guest:
                self.guests[instance] = guest
                self.script.did("domains.define", instance)

    @port("domains.start")
    def start(self, instance: UUID) -> None:
        """Start it."""
        with self.script.changed:
            domain = self._ours(instance)
            if domain is None:
                raise HostError(ErrorClass.PERMANENT, f"there is no domain {instance}", code="NO_DOMAIN", domain="QEMU")
            if not domain.active:
                self.is_now(instance, DomainState.RUNNING, "booted")
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

    @port("domains.kill")
    def kill(self, instance: UUID) -> None:
        """End it."""
        with self.script.changed:
            domain = self._ours(instance)
            if domain is not None and domain.active:
                self.is_now(instance, DomainState.SHUT_OFF, "destroyed")
                self.script.did("domains.kill", instance)

    @port("domains.undefine")
    def undefine(self, instance: UUID) -> None:
        """Forget it, and its console log."""
        with self.script.changed:
            domain = self._ours(instance)
            if domain is not None and domain.active:
                raise HostError(ErrorClass.TRANSIENT, f"the domain {instance} is {domain.state}")
            if self.there.pop(instance, None):
                self.guests.pop(instance, None)
                self.script.did("domains.undefine", instance)
            if instance in self._disks.folders:
                self._disks.folders[instance].console_log = False
                self._disks.drop_folder_if_empty(instance)

    # --- what happens behind Hostler's back

    def is_now(self, instance: UUID, state: DomainState, reason: str = "") -> None:
        """The domain came to that state, whoever did it; a transient one that stops is gone."""
        with self.script.changed:
            now = replace(self.there[instance], state=state, reason=reason)
            self.there[instance] = now
            if not now.active and not now.persistent:
                del self.there[instance]
            self.script.changed.notify_all()

    def appears(self, instance: UUID, domain: Domain) -> None:
        """Somebody else made a domain."""
        with self.script.changed:
            self.there[instance] = domain

    def _state(self, instance: UUID) -> DomainState | None:
        domain = self.there.get(instance)
        return domain.state if domain else None

    def _ours(self, instance: UUID) -> Domain | None:
        domain = self.there.get(instance)
        if domain is not None and (domain.identity is None or domain.identity.instance != instance):
            raise HostError(ErrorClass.CONFLICT, f"the domain {instance} is not ours; nothing was done")
        return domain


class FakeEarlierWork(Room):
    """The port's `EarlierWork`; a test begins and ends the calls."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self._calls: Counter[tuple[UUID, str]] = Counter()

    @port("earlier_work.going_on")
    def going_on(self, instance: UUID, job: str) -> tuple[str, ...]:
        """The other jobs with calls begun and not ended."""
        with self.script.changed:
            return self._others(instance, job)

    @port("earlier_work.wait_ended")
    def wait_ended(self, instance: UUID, job: str, deadline_s: float) -> None:
        """Wait until a test ended them."""
        with self.script.changed:
            if not self.script.changed.wait_for(lambda: not self._others(instance, job), deadline_s):
                raise HostError(ErrorClass.TRANSIENT, f"calls for {instance} have not returned in {deadline_s:g} s")

    def begin(self, instance: UUID, job: str) -> None:
        """A job has a call under way."""
        with self.script.changed:
            self._calls[instance, job] += 1

    def end(self, instance: UUID, job: str) -> None:
        """One such call returned."""
        with self.script.changed:
            self._calls[instance, job] -= 1
            self.script.changed.notify_all()

    def _others(self, instance: UUID, job: str) -> tuple[str, ...]:
        others = {who for (what, who), count in self._calls.items() if count and what == instance and who != job}
        return tuple(sorted(others))


def stranger() -> Domain:
    """A running domain that Hostler did not make."""
    return Domain(DomainState.RUNNING, persistent=True, identity=None, reason="booted")


def mislabelled(other: UUID) -> Domain:
    """A domain whose metadata name another instance than its UUID does."""
    return Domain(DomainState.SHUT_OFF, persistent=True, identity=Identity(other, "job-of-another"))
