"""The frozen values that the journal and the inventory hand out. Nothing here writes, or knows SQL."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from models.states import (
    DeviceKind,
    Direction,
    ErrorClass,
    InstanceState,
    JobClass,
    JobState,
    StepState,
    Verdict,
)

Json = Mapping[str, Any]
NOTHING: Json = MappingProxyType({})

#: What stands in a request in place of a part that is kept beside it: its digest under this name, alone.
WITHHELD = "hostler:withheld"


def withheld_fields(request: Json) -> tuple[str, ...]:
    """The fields of a request whose parts are not in it."""
    return tuple(field for field, part in request.items() if isinstance(part, Mapping) and set(part) == {WITHHELD})


@dataclass(frozen=True)
class ErrorRecord:
    """An error as the journal keeps it.

    ``code`` and ``domain`` are libvirt's own names without their prefix (``OPERATION_INVALID``, ``QEMU``);
    ``errno`` is the operating system's number where libvirt gave one. ``sentence`` is of a job's error: the message
    with all that a person needs to act on it.
    """

    error_class: ErrorClass
    message: str
    code: str | None = None
    domain: str | None = None
    errno: int | None = None
    sentence: str | None = None

    @property
    def told(self) -> str:
        """What a person is told."""
        return self.sentence or self.message

    def as_json(self) -> dict[str, Any]:
        """The shape that ``jobs show --json`` promises."""
        return {
            "class": self.error_class.value,
            "code": self.code,
            "domain": self.domain,
            "errno": self.errno,
            "message": self.message,
            **({} if self.sentence is None else {"sentence": self.sentence}),
        }

    @classmethod
    def from_json(cls, document: Json) -> "ErrorRecord":
        """The error that ``as_json`` wrote."""
        return cls(
            error_class=ErrorClass(document["class"]),
            message=document["message"],
            code=document["code"],
            domain=document["domain"],
            errno=document["errno"],
            sentence=document.get("sentence"),
        )


@dataclass(frozen=True)
class Device:
    """A device of an instance: ``key`` is unique among the instance's devices of that kind."""

    kind: DeviceKind
    key: str
    details: Json = field(default_factory=dict)
    exclusive: str | None = None  #: what no other device of any instance may have: a volume, a MAC
    place: str | None = None  #: where its bytes are, which no other device of any instance may share


@dataclass(frozen=True)
class DeviceAdded:
    """The instance has this device now; the step's undo removes it."""

    device: Device


@dataclass(frozen=True)
class DeviceChanged:
    """A device that the instance has is described so now; an undo leaves that as it is."""

    device: Device


@dataclass(frozen=True)
class DeviceRemoved:
    """The instance has this device no longer."""

    kind: DeviceKind
    key: str


@dataclass(frozen=True)
class InstanceIs:
    """The instance is in this state now, and is to be in that one also after its host has booted, if one is given."""

    state: InstanceState
    wanted: InstanceState | None = None


@dataclass(frozen=True)
class InstanceMoved:
    """The instance lives on this host now."""

    host: str


#: What a step's fact means for the inventory, committed together with the step's done.
Change = DeviceAdded | DeviceChanged | DeviceRemoved | InstanceIs | InstanceMoved


@dataclass(frozen=True)
class Progress:
    """How far the call has come that a job is in. Bytes and seconds."""

    what: str  #: what is being done, in a word: ``migrating``
    done_bytes: int
    total_bytes: int
    eta_s: float | None = None
    silent_s: float = 0.0  #: how long nothing came of it
    details: Json = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The shape that ``jobs show --json`` promises."""
        return {
            "what": self.what,
            "done_bytes": self.done_bytes,
            "total_bytes": self.total_bytes,
            "eta_s": self.eta_s,
            "silent_s": self.silent_s,
            **self.details,
        }


@dataclass(frozen=True)
class PeerRecord:
    """Another host, as it registered itself; what it has not said is empty."""

    name: str
    libvirt_uri: str
    address: str
    libvirt_host: UUID | None = None  #: the host UUID that its libvirtd answers with


@dataclass(frozen=True)
class StepRecord:
    """A step's row of the current run."""

    position: int
    name: str
    direction: Direction
    state: StepState
    host: str | None = None
    epoch: int = 0
    intent: Json | None = None
    attempts: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: ErrorRecord | None = None
    skipped_by: str | None = None  #: the operator by whose word it is not looked at


@dataclass(frozen=True)
class JobRecord:
    """A job's row."""

    id: str
    number: int  #: order of submission of its run
    operation: str
    operation_version: int | None
    job_class: JobClass
    instance: UUID
    host: str  #: where it is now
    sent_to: str  #: the host that its sender named
    home: str | None  #: the host of its first claim
    peer: str | None  #: the other host that has steps of it, where there is one
    hopping: bool  #: on its way to the host that has its next step
    request: Json
    state: JobState
    run: int
    epoch: int
    past_return: bool  #: the operation's point of no return was intended
    verdict: Verdict | None
    error: ErrorRecord | None
    outcome: Json | None
    cancel_requested: bool
    force_complete_requested: bool
    progress: Json | None  #: of the call under way
    not_before: datetime | None
    waits: int  #: how often this run has waited since a step last advanced
    submitted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    pruned_at: datetime | None  #: since when only a tombstone is left: no request, steps or history


@dataclass(frozen=True)
class InstanceRecord:
    """What the database knows of a VM."""

    id: UUID
    name: str | None
    host: str | None
    state: InstanceState
    epoch: int
    spec: Json | None
    devices: tuple[Device, ...] = field(default=())
    wanted: InstanceState | None = None  #: what a job last made it, whatever became of its host since
    made_by: str | None = None  #: the job whose claim began it


@dataclass(frozen=True)
class Ending:
    """What a run came to, or how it left for another host: enough for the journal to be told again.

    ``error`` and ``outcome`` are as the job's row has them; ``instance`` is what the same commit left of it, where that
    was this job's to say: not of a job that another one superseded.
    """

    job: str
    run: int
    state: JobState  #: WAITING where it went to another host
    operation: str
    operation_version: int | None
    job_class: JobClass
    instance_id: UUID
    host: str
    sent_to: str
    home: str | None
    payload_digest: str
    epoch: int
    error: Json | None
    outcome: Json | None
    superseded_by: str | None
    submitted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    instance: InstanceRecord | None = None
