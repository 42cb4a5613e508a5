"""Domains: what libvirt shows of a VM, and what may be done with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from tasks.host.devices import GuestInterface, GuestVolume
from tasks.requests.hardware import Hardware


@dataclass(frozen=True)
class Identity:
    """Whose a domain is: kept in its ``<metadata>``, fixed before the domain is made."""

    instance: UUID
    job: str


@dataclass(frozen=True)
class GuestDisk:
    """A disk as the guest is given it. ``alias`` is ``ua-<id>``; ``format`` is ``qcow2`` or ``raw``."""

    path: str
    format: str
    target: str
    alias: str
    serial: str
    bus: str = "virtio"
    cache: str | None = None  #: libvirt's cache mode; None is QEMU's own: write-back


@dataclass(frozen=True)
class DirectBoot:
    """A kernel that QEMU loads itself, in libvirt's words."""

    kernel: str
    initrd: str | None = None
    cmdline: str | None = None


@dataclass(frozen=True)
class Platform:
    """What a guest is made to run on, fixed at its spawn: another libvirt or QEMU would choose otherwise."""

    virt_type: str  #: ``kvm``, or ``qemu``: emulation
    machine_type: str  #: with its version: ``pc-q35-7.2``
    warning: str | None = None  #: what is not as it should be, in one sentence


@dataclass(frozen=True)
class Guest:
    """Everything that the definition of a domain is made from."""

    identity: Identity
    name: str  #: the user's name; it goes into ``<title>``, the domain's own name is the UUID
    memory_mib: int
    vcpus: int
    disks: tuple[GuestDisk, ...] = ()
    volumes: tuple[GuestVolume, ...] = ()
    interfaces: tuple[GuestInterface, ...] = ()
    boot: DirectBoot | None = None
    hardware: Hardware = field(default_factory=Hardware)
    platform: "Platform | None" = None  #: None leaves it to the host, as it is when the guest is defined


class DomainState(StrEnum):
    """What libvirt says a domain is doing, in the distinctions that steps need."""

    STARTING = "starting"  #: its process is being made; the guest does not run yet
    RUNNING = "running"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting_down"
    SHUT_OFF = "shut_off"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Domain:
    """What libvirt shows of a VM. ``identity`` is None when the domain is not one of Hostler's."""

    state: DomainState
    persistent: bool
    identity: Identity | None
    reason: str = ""  #: libvirt's own word for how it came to that state
    run: int | None = None  #: libvirt's number of its process, new with every start; None when it has none

    @property
    def active(self) -> bool:
        """Whether a process runs for it."""
        return self.state not in {DomainState.SHUT_OFF, DomainState.CRASHED}


class Domains(Protocol):
    """Domains of the host, by the UUID of their instance."""

    def find(self, instance: UUID) -> Domain | None:
        """What libvirt shows now; None only when a proven connection says that there is no such domain."""
        ...

    def known(self) -> Mapping[UUID, Domain]:
        """All domains of the host, those of others too, as libvirt shows them now."""
        ...

    def owners(self, instance: UUID) -> tuple[Identity | None, ...]:
        """Whose the running guest, if it runs, and the definition, if there is one, say that it is.

        Empty only when a proven connection says that there is no such domain.
        """
        ...

    def mark(self, identity: Identity) -> None:
        """Write into the running guest's description and its definition whose it is, and change nothing else.

        The same again is no error; absent is HostError(PERMANENT), another instance's HostError(CONFLICT).
        """
        ...

    def unmark(self, instance: UUID) -> None:
        """Take out of both whose it is; not marked or absent is no error, another instance's HostError(CONFLICT)."""
        ...

    def platform(self, machine_type: str) -> Platform:
        """What a guest that asks for this machine is made to run on here.

        HostError(PERMANENT) when there is no such machine, or neither KVM nor leave to emulate.
        """
        ...

    def define(self, guest: Guest) -> None:
        """Define the domain persistently; the same definition again is no error."""
        ...

    def start(self, instance: UUID, *, paused: bool = False) -> None:
        """Start a defined domain, its processors standing still if ``paused``.

        Active already is no error, absent is HostError(PERMANENT).
        """
        ...

    def wait_running(self, instance: UUID, deadline_s: float) -> None:
        """Return once the domain runs, told by event.

        Raises HostError: permanent when it stopped instead, transient when the deadline passed.
        """
        ...

    def wait_idle(self, instance: UUID, deadline_s: float) -> None:
        """Return once nobody has a call under way that works on the running domain; what does not run is idle.

        HostError(TRANSIENT) when the deadline passed. A migration, which is watched in its own way, is no such call.
        """
        ...

    def kill(self, instance: UUID) -> None:
        """End the domain's process at once, without asking the guest; not running or absent is no error."""
        ...

    def undefine(self, instance: UUID) -> None:
        """Remove the definition with all libvirt keeps beside it; absent is no error.

        An active domain is HostError(TRANSIENT): libvirt would leave it without a definition.
        """
        ...
