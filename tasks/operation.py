"""Operation and Step: an operation is a tuple of facts; each can be looked at, made true and taken back.

A replay is not a special path: it looks first, and finds the fact true.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable
from uuid import UUID

from models.records import Change, Device, Json, Progress
from models.states import InstanceState, JobClass
from tasks.host import Host, Peer, Wish
from tasks.requests import Request

RequestT = TypeVar("RequestT", bound=Request)
RequestT_contra = TypeVar("RequestT_contra", bound=Request, contravariant=True)
RequestT_co = TypeVar("RequestT_co", bound=Request, covariant=True)


class Reporter(Protocol):
    """Whom a long call tells how far it has come."""

    def __call__(self, progress: Progress, *, passes_return: bool = False) -> Wish:
        """Journal the progress, and say what is wanted; with ``passes_return`` there is only forward after it.

        Raises when the job is another's by now; the call must then be ended.
        """
        ...


def unreported(progress: Progress, *, passes_return: bool = False) -> Wish:  # noqa: ARG001  # a Reporter
    """Nobody listens."""
    return Wish.GO_ON


@dataclass(frozen=True)
class Work(Generic[RequestT_co]):
    """What a step knows while it is looked at or done."""

    job: str
    host: str  #: the name of the host that the step runs on
    instance: UUID
    epoch: int  #: of this claim; it marks files until they are published
    request: RequestT_co
    devices: tuple[Device, ...] = ()  #: of the instance, as the inventory has them now
    intent: Json = field(default_factory=dict)  #: what this step fixed before its effect; empty before that
    intended: bool = False  #: whether an earlier intent of this job may have made the fact
    earlier: Mapping[str, Json] = field(default_factory=dict)  #: the intents of this run's other steps, by step
    peer: Peer | None = None  #: the other host of the job, seen from the one that the step runs on
    report: Reporter = unreported


# --- what a look can see


@dataclass(frozen=True)
class There:
    """The fact is true."""


@dataclass(frozen=True)
class Absent:
    """The fact is not true, and nothing stands in the way of making it so."""


@dataclass(frozen=True)
class Partial:
    """Half of it is there, by an earlier intent of this job or by somebody else: doing it finishes it."""

    why: str
    found: Json = field(default_factory=dict)  #: which half, where an undo must know: it goes into the intent


@dataclass(frozen=True)
class InProgress:
    """Something is still making the fact true: wait, do not act."""

    why: str


@dataclass(frozen=True)
class NotOurs:
    """What is there belongs to somebody else: a conflict, nothing is touched."""

    why: str


@dataclass(frozen=True)
class NotNeeded:
    """The request does not ask for this fact."""


Sight = There | Absent | Partial | InProgress | NotOurs | NotNeeded


class Step(Protocol[RequestT_contra]):
    """One fact that a job makes true on a host.

    The class's docstring states the fact; its ``name`` is journaled and never reused for another fact.
    """

    @property
    def name(self) -> str:
        """The step's name in the journal."""
        ...

    def plan(self, work: Work[RequestT_contra], host: Host) -> Json:
        """The identities that the effect will have (a path, a MAC, an alias), fixed before it is made."""
        ...

    def look(self, work: Work[RequestT_contra], host: Host) -> Sight:
        """What the host shows of the fact. Raises HostError when that cannot be told."""
        ...

    def do(self, work: Work[RequestT_contra], host: Host) -> None:
        """Make the fact true; called only after a look saw it absent or partial, and after the intent's commit."""
        ...

    def undo(self, work: Work[RequestT_contra], host: Host) -> None:
        """Take the fact back; called only if an intent of this job may have made it. Nothing there is no error."""
        ...

    def changes(self, work: Work[RequestT_contra]) -> tuple[Change, ...]:
        """What the inventory learns once the fact was seen."""
        ...


@runtime_checkable
class Reserving(Protocol):
    """A step whose intent takes something that only one instance may have: a volume, a MAC."""

    def reserves(self, work: Work[Request]) -> tuple[Change, ...]:
        """What the inventory holds for the instance from the intent on; another instance's is a conflict."""
        ...


@runtime_checkable
class TellingUndone(Protocol):
    """A step whose look asks for more than what it made, so that it cannot tell that all of that is gone."""

    def undone(self, work: Work[Request], host: Host) -> bool:
        """Whether nothing is left of what this job made."""
        ...


@runtime_checkable
class TellingWarnings(Protocol):
    """A step that can come true and still have something to say."""

    def warnings(self, work: Work[Request]) -> tuple[str, ...]:
        """What the job's result tells whoever sent it: one sentence each."""
        ...


@dataclass(frozen=True)
class Operation(Generic[RequestT]):
    """A kind of job: its request, and the facts it makes true in order."""

    name: str
    request: type[RequestT]
    steps: tuple[Step[RequestT], ...]
    job_class: JobClass
    version: int = 1
    #: From this step's intent on there is only forward: no cancel, no undo.
    point_of_no_return: str | None = None
    #: Once this step's fact is true there is only forward.
    no_return_after: str | None = None
    #: The steps that run on the job's other host; without one they are skipped.
    at_peer: frozenset[str] = frozenset()
    #: The request's field that names the other host, where it is the sender's choice.
    peer_field: str | None = None
    #: Takes the instance over from whatever job holds it (destroy alone does).
    supersedes: bool = False
    #: The instance's state from the first claim on, and after a run was undone whole; None leaves it.
    instance_begins_as: InstanceState | None = None
    instance_undone_as: InstanceState | None = None
    #: What the instance is to be once the job has succeeded, also after its host booted; None leaves it.
    instance_wanted_as: InstanceState | None = None

    def __post_init__(self) -> None:
        """A name that no step has would never be met."""
        named = self.at_peer | {name for name in (self.point_of_no_return, self.no_return_after) if name is not None}
        unknown = named - {step.name for step in self.steps}
        if unknown:
            raise ValueError(f"{self.name} has no step {', '.join(sorted(unknown))}")

    def is_behind_return(self, step: str) -> bool:
        """Whether the step only prepared what has come true since, and is not worth another look."""
        names = [each.name for each in self.steps]
        return self.no_return_after is not None and names.index(step) < names.index(self.no_return_after)

    def is_past_return(self, step: str) -> bool:
        """Whether an intent of this step means that there is only forward: of the point itself, or of any after it."""
        names = [each.name for each in self.steps]
        point = self.point_of_no_return
        return point is not None and names.index(step) >= names.index(point)
