"""The port: what a step may ask of a host, waiting included.

Declared by its user; ``worker.host`` fits it, and so does the fake in the tests: both pass one contract suite.
Every method may raise `HostError`; no other exception tells of the host's condition.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from models.records import ErrorRecord
from models.states import ErrorClass


class HostError(Exception):
    """A call on the host failed; ``record`` says what it means and where it came from."""

    def __init__(
        self,
        error_class: ErrorClass,
        message: str,
        *,
        code: str | None = None,
        domain: str | None = None,
        errno: int | None = None,
    ) -> None:
        super().__init__(message)
        self.record = ErrorRecord(error_class, message, code, domain, errno)

    @property
    def error_class(self) -> ErrorClass:
        """What the error means for the job."""
        return self.record.error_class


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


@dataclass(frozen=True)
class DirectBoot:
    """A kernel that QEMU loads itself, in libvirt's words."""

    kernel: str
    initrd: str | None = None
    cmdline: str | None = None


@dataclass(frozen=True)
class Guest:
    """Everything that the definition of a domain is made from."""

    identity: Identity
    name: str  #: the user's name; it goes into ``<title>``, the domain's own name is the UUID
    memory_mib: int
    vcpus: int
    disks: tuple[GuestDisk, ...] = ()
    boot: DirectBoot | None = None


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

    @property
    def active(self) -> bool:
        """Whether a process runs for it."""
        return self.state not in {DomainState.SHUT_OFF, DomainState.CRASHED}


class Domains(Protocol):
    """Domains of the host, by the UUID of their instance."""

    def find(self, instance: UUID) -> Domain | None:
        """What libvirt shows now; None only when a proven connection says that there is no such domain."""
        ...

    def define(self, guest: Guest) -> None:
        """Define the domain persistently; the same definition again is no error."""
        ...

    def start(self, instance: UUID) -> None:
        """Start a defined domain; running already is no error, absent is HostError(PERMANENT)."""
        ...

    def wait_running(self, instance: UUID, deadline_s: float) -> None:
        """Return once the domain runs, told by event.

        Raises HostError: permanent when it stopped instead, transient when the deadline passed.
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


@dataclass(frozen=True)
class Image:
    """A file that a guest is made from, as inspected (never as declared)."""

    path: str  #: with links resolved
    format: str
    virtual_size_bytes: int


@dataclass(frozen=True)
class Disk:
    """A published disk file of an instance."""

    path: str
    format: str
    virtual_size_bytes: int
    backing_path: str | None


class Images(Protocol):
    """Image files on this host."""

    def inspect(self, path: str, declared_format: str) -> Image:
        """The image at ``path``, which must lie below an image root and be of the declared format.

        Raises HostError(PERMANENT) with one sentence naming the path when it is missing, outside the roots,
        of another format, or refers to another file.
        """
        ...

    def require_file(self, path: str) -> None:
        """Raise HostError(PERMANENT) unless ``path`` is a readable file below an image root."""
        ...


class Disks(Protocol):
    """The files of instances on this host: each instance has one folder."""

    def path_for(self, instance: UUID, name: str, disk_format: str) -> str:
        """Where the disk ``name`` of the instance is published; nothing is made."""
        ...

    def find(self, instance: UUID, path: str) -> Disk | None:
        """The published disk, or None; an unpublished half is not a disk."""
        ...

    def create(self, instance: UUID, path: str, *, size_bytes: int, backing: Image | None, epoch: int) -> None:
        """Make a qcow2 disk and publish it by rename; ``epoch`` marks the file until then.

        With ``backing`` it is an overlay of at least that image's virtual size. A file already at ``path`` is
        a HostError(CONFLICT); it is never written.
        """
        ...

    def remove(self, instance: UUID, path: str) -> None:
        """Remove the disk and every unpublished half of it; absent is no error."""
        ...

    def folder_exists(self, instance: UUID) -> bool:
        """Whether anything of the instance's files is left, a half-removed folder included."""
        ...

    def remove_folder(self, instance: UUID) -> None:
        """Remove all files of the instance: renamed aside first, so that a crash leaves what a replay finishes."""
        ...


class EarlierWork(Protocol):
    """Calls and children of other jobs of an instance that are still at work on this host."""

    def going_on(self, instance: UUID, job: str) -> tuple[str, ...]:
        """The ids of other jobs that still have a call of theirs under way for the instance."""
        ...

    def wait_ended(self, instance: UUID, job: str, deadline_s: float) -> None:
        """Return once none is; HostError(TRANSIENT) when the deadline passed."""
        ...


class Host(Protocol):
    """One hypervisor host."""

    @property
    def domains(self) -> Domains:
        """Its domains."""
        ...

    @property
    def images(self) -> Images:
        """Its image files."""
        ...

    @property
    def disks(self) -> Disks:
        """Its instances' files."""
        ...

    @property
    def earlier_work(self) -> EarlierWork:
        """What other jobs still do there."""
        ...
