"""The words of the journal and the moves between them. This file imports nothing of ours.

A job moves along ``JOB_MOVES``::

    queued -> running <-> waiting -> succeeded | failed | cancelled | quarantined

Final is final: a final job changes only when a new run of it begins.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class JobState(StrEnum):
    """What has become of a request for one operation on one instance."""

    QUEUED = "queued"  #: accepted; nothing of it was begun in this run
    RUNNING = "running"  #: a worker has claimed it
    WAITING = "waiting"  #: begun, not in hand; looked at again from ``not_before`` on
    SUCCEEDED = "succeeded"
    FAILED = "failed"  #: undone; nothing of its making is left
    CANCELLED = "cancelled"  #: undone, or never begun, or superseded by a destroy
    QUARANTINED = "quarantined"  #: its lock is kept; an operator decides


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
#: Begun and not settled: at most one such job per instance (index ``uq_jobs_one_unsettled_per_instance``).
UNSETTLED = frozenset({JobState.RUNNING, JobState.WAITING, JobState.QUARANTINED})

#: From a state to those that may follow it within one run; a new run begins from a final state at ``queued``.
JOB_MOVES: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
        JobState.RUNNING: frozenset(JobState) - {JobState.QUEUED},
        JobState.WAITING: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.QUARANTINED}),
        JobState.QUARANTINED: frozenset({JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
        JobState.SUCCEEDED: frozenset(),
        JobState.FAILED: frozenset(),
        JobState.CANCELLED: frozenset(),
    }
)


class Verdict(StrEnum):
    """Why a run is undoing what it did; it settles as this once the undoing is complete."""

    FAILED = "failed"
    CANCELLED = "cancelled"


class Direction(StrEnum):
    """Whether a step row tells of making a fact true or of taking it back."""

    DO = "do"
    UNDO = "undo"


class StepState(StrEnum):
    """How far a run has come with one step, in one direction."""

    PENDING = "pending"  #: not looked at yet, or looked at and not begun
    INTENDED = "intended"  #: the intent is committed; the effect may or may not exist
    DONE = "done"  #: an intent of this job made it, and a look saw it
    FOUND = "found"  #: a look saw it before any intent: not ours to undo
    SKIPPED = "skipped"  #: this request does not ask for it, or an operator said so


#: A step that needs nothing more in its direction.
ENDED = frozenset({StepState.DONE, StepState.FOUND, StepState.SKIPPED})


class AttemptOutcome(StrEnum):
    """How one attempt at a step's effect ended."""

    STARTED = "started"  #: no answer yet; for ever, if its worker died
    MADE = "made"
    ERROR = "error"


class InstanceState(StrEnum):
    """What the database last knew of a VM."""

    ABSENT = "absent"  #: nothing of it exists yet, or its spawn was undone
    BUILDING = "building"
    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    SUSPENDED = "suspended"  #: its memory is on disk
    DELETED = "deleted"


class Observed(StrEnum):
    """What can happen to an instance by itself; the first are the states that it came to."""

    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    REBOOTED = "rebooted"  #: its guest began anew in the same process


class DriftKind(StrEnum):
    """What host and journal can tell differently."""

    MISSING = "missing"  #: the journal says that an instance lives on the host, which shows no domain of it
    UNKNOWN = "unknown"  #: the host shows a domain of no instance that should be there
    DEVICE_MISSING = "device_missing"  #: the journal says that an instance has a device, which its domain lacks
    DEVICE_UNKNOWN = "device_unknown"  #: a domain has a volume of Hostler's that the journal does not give it


class DeviceKind(StrEnum):
    """What sort of thing a device row describes."""

    DISK = "disk"
    INTERFACE = "interface"
    VOLUME = "volume"


class JobClass(StrEnum):
    """Jobs of one class share a limit on a host."""

    SPAWN = "spawn"
    DESTROY = "destroy"
    ATTACH = "attach"  #: attaching and detaching, of volumes and interfaces
    MIGRATE = "migrate"
    POWER = "power"  #: starting, stopping, rebooting, pausing, suspending


class OutboxKind(StrEnum):
    """What an outbox row still has to tell the broker."""

    RING = "ring"  #: a worker should look at the job
    FORGET = "forget"  #: what Celery still has of an earlier run's outcome
    OUTCOME = "outcome"  #: the Celery state, result and callbacks of a settled run


class EventType(StrEnum):
    """What can happen to a job; ``job_events`` replayed in order rebuild its row."""

    SUBMITTED = "submitted"
    CLAIMED = "claimed"
    HOPPED = "hopped"  #: its next step is another host's
    REDIRECTED = "redirected"  #: its instance lives on another host; the job goes there
    WAITING = "waiting"
    UNDOING = "undoing"
    PAST_RETURN = "past_return"  #: from here on there is only forward
    CANCEL_REQUESTED = "cancel_requested"
    CANCEL_REFUSED = "cancel_refused"
    FORCE_COMPLETE_REQUESTED = "force_complete_requested"
    FORCE_COMPLETE_REFUSED = "force_complete_refused"
    STALLED = "stalled"  #: its call is under way, and nothing comes of it
    MOVING_AGAIN = "moving_again"  #: something comes of it again
    RING_REFUSED = "ring_refused"
    MISROUTED = "misrouted"
    RETRIED = "retried"  #: an operator began a new run
    RESUMED = "resumed"  #: an operator had it go on
    STEP_SKIPPED = "step_skipped"  #: an operator counts the step as past
    DECISION_REFUSED = "decision_refused"
    RECOVERED = "recovered"  #: told again from its host's ledger, which a database that went back had forgotten
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"


#: The event that settles a run; exactly one per run (index ``uq_job_events_one_final_per_run``).
FINAL_EVENTS = frozenset({EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED})


class HostState(StrEnum):
    """Whether a host takes new jobs."""

    ENABLED = "enabled"
    DISABLED = "disabled"  #: no job that brings a guest there
    DRAINING = "draining"  #: none at all; those that were begun end


class ErrorClass(StrEnum):
    """What an error means for the job that met it."""

    TRANSIENT = "transient"  #: the same call may work in a moment
    UNKNOWN = "unknown"  #: the call's outcome is not known; look, never repeat blindly
    RESOURCE = "resource"  #: the host lacks memory, space or slots
    PERMANENT = "permanent"  #: it will not work, however often
    CONFLICT = "conflict"  #: what is there is not ours
    INTERNAL = "internal"  #: a defect of Hostler
