"""Migrations: a running guest's way to another host, as the host that it leaves drives it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from tasks.host.devices import NO_PATHS, Paths
from tasks.host.domains import Domain


@dataclass(frozen=True)
class Peer:
    """The other host of a job, as it registered itself; empty where it has not said how it is reached."""

    name: str
    libvirt_uri: str = ""  #: how its libvirtd is reached from here: ``qemu+tcp://host/system``
    address: str = ""  #: where its guests' memory is sent to
    libvirt_host: UUID | None = None  #: the host UUID that its libvirtd answers with; None: any


@dataclass(frozen=True)
class LocalDisk:
    """A disk file of the instance that must be copied: the other host does not see this host's files."""

    target: str
    path: str
    format: str
    virtual_size_bytes: int


@dataclass(frozen=True)
class Departure:
    """What the destination must know of a guest before it may come."""

    domain_xml: str  #: as it is defined, without what is only of this run
    host_cpu: str  #: XML of the CPU that the source host has
    virt_type: str
    memory_mib: int
    paused: bool  #: whether it was paused before the migration
    console_log: str = ""  #: where it is written on this host
    disks: tuple[LocalDisk, ...] = ()
    files: tuple[str, ...] = ()  #: kernel and initrd: read again where it arrives


class OnTimeout(StrEnum):
    """What becomes of a migration that is not done in time."""

    ABORT = "abort"  #: the guest stays where it is
    FORCE_COMPLETE = "force_complete"  #: post-copy where that is permitted; else the guest is paused until it is over


@dataclass(frozen=True)
class MigrationPlan:
    """How a guest is to be moved. Times in seconds, downtimes in milliseconds; the defaults are nova's."""

    peer: Peer
    paths: Paths = field(default_factory=lambda: NO_PATHS)  #: of the files whose path differs over there
    copied_disks: tuple[str, ...] = ()  #: targets of the disks to copy; libvirt would take none for all of them
    disk_cachemode: str | None = None  #: how the other host opens them; None: as this one does
    bandwidth_mib_s: int | None = None  #: None: as fast as it goes
    post_copy: bool = False  #: whether post-copy is permitted
    auto_converge: bool = False
    completion_timeout_s: float = 0.0  #: 0: none
    on_timeout: OnTimeout = OnTimeout.ABORT
    downtime_ms: int = 500
    downtime_steps: int = 10
    downtime_delay_s: float = 75.0  #: between two steps, for this guest's size


@dataclass(frozen=True)
class MigrationProgress:
    """How far a migration has come."""

    done_bytes: int
    remaining_bytes: int
    total_bytes: int
    elapsed_s: float
    eta_s: float | None = None  #: None while nothing can be said
    iteration: int = 0
    downtime_ms: int | None = None  #: that is permitted now
    post_copy: bool = False  #: about to begin, or under way: from here on there is only forward
    silent_s: float = 0.0  #: how long no byte has come through


class Wish(StrEnum):
    """What is wanted of a migration under way."""

    GO_ON = "go_on"
    CANCEL = "cancel"
    FORCE_COMPLETE = "force_complete"


Watch = Callable[[MigrationProgress], Wish]


def ignore_progress(_progress: MigrationProgress) -> Wish:
    """Nobody watches."""
    return Wish.GO_ON


@dataclass(frozen=True)
class Half:
    """One host's view of a migrating instance."""

    domain: Domain | None
    under_way: bool = field(default=False)  #: a migration out of it, or into it, is going on there

    @property
    def runs(self) -> bool:
        """Whether the guest lives here: neither arriving nor leaving, nor only a definition."""
        return self.domain is not None and self.domain.active and not self.under_way

    @property
    def has_it(self) -> bool:
        """Whether the instance is here, running or not: its domain neither arrives nor leaves."""
        return self.domain is not None and not self.under_way


class Migrations(Protocol):
    """Migrations from and to this host."""

    def describe(self, instance: UUID) -> Departure:
        """The running, or paused, guest as the destination must know it; HostError(PERMANENT) when it is neither."""
        ...

    def check_arrival(self, departure: Departure) -> None:
        """Raise HostError(PERMANENT) with one sentence if this host cannot run the guest: CPU, type, name, files."""
        ...

    def here(self, instance: UUID) -> Half:
        """This host's half."""
        ...

    def there(self, instance: UUID, peer: Peer) -> Half:
        """The other host's half, asked of its libvirtd.

        HostError(TRANSIENT) when it cannot be seen, HostError(PERMANENT) when another libvirtd answers in its place.
        """
        ...

    def perform(self, instance: UUID, plan: MigrationPlan, watch: Watch) -> None:
        """Move the guest, or go on watching a migration of it that is under way; return when libvirt is done with it.

        ``watch`` is told of the progress every half second and says what is wanted; what it raises leaves here,
        once the migration was aborted and its call returned. Errors, in this order of truth: a migration that was
        cancelled is HostError(TRANSIENT); one that took longer than the plan permits and was aborted
        HostError(PERMANENT); a call that has not returned after an abort HostError(TRANSIENT), and the instance
        counts as under way until it does. No error says who has the guest: only looks at both hosts do.
        """
        ...

    def abort(self, instance: UUID, deadline_s: float) -> None:
        """End a migration out of this host, and return when it is over; none is no error, too late is none either."""
        ...

    def resume(self, instance: UUID) -> None:
        """Let a guest that a broken migration left paused run on here; running already is no error."""
        ...

    def console_log(self, instance: UUID) -> str:
        """Where the guest's console is, or will be, written on this host."""
        ...

    def receive(self, instance: UUID) -> None:
        """Make the console log of a guest that is to come here, and its folder; there already is no error."""
        ...

    def persist(self, instance: UUID) -> None:
        """Define the domain that came here as it runs, if it has no definition yet."""
        ...
