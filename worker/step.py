"""One step, carried out: look, intend, do, look; or undo, look. What was seen is committed with the next intent."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any, TypeGuard
from uuid import UUID

from models.engine import OUT_OF_REACH, Database
from models.journal.claiming import Lease
from models.journal.holding import Intend, Seen
from models.journal.progress import report
from models.journal.stepping import TakenError, advance, attempt_failed
from models.records import (
    NOTHING,
    Change,
    Device,
    DeviceAdded,
    DeviceChanged,
    DeviceRemoved,
    ErrorRecord,
    Json,
    Progress,
    StepRecord,
)
from models.states import Direction, ErrorClass, StepState
from tasks.host import Host, HostError, Peer, Wish
from tasks.operation import (
    Absent,
    InProgress,
    NotNeeded,
    NotOurs,
    Operation,
    Partial,
    Reserving,
    Sight,
    Step,
    TellingUndone,
    TellingWarnings,
    There,
    Work,
)
from tasks.requests import Request
from worker.retrying import Patience

log = logging.getLogger(__name__)


class CancelNoticed(Exception):  # noqa: N818  # it is a turn of events, not an error
    """A cancel was asked for, and the run has come to a safe point."""


def record_of(error: Exception) -> ErrorRecord:
    """The error as the journal keeps it; one that no room declared is a defect of ours, and says so."""
    if isinstance(error, HostError):
        return error.record
    return ErrorRecord(ErrorClass.INTERNAL, f"{type(error).__name__}: {error}")


@dataclass
class Run:
    """One carrying-out in one thread: the lease, and what was seen since the last commit."""

    database: Database
    host: Host
    patience: Patience
    lease: Lease
    operation: Operation[Any]
    request: Request
    devices: tuple[Device, ...]
    announce: Callable[[Progress], None]  #: tells others of the progress that was journaled
    written_off: Callable[[UUID], tuple[str, ...]]  #: the jobs of which a call on the instance may still take effect
    progressed: bool = False  #: whether a step got on since the claim
    at: str = ""  #: the step that is made true or taken back, or was last
    warnings: tuple[str, ...] = ()  #: of the steps that came true, for the job's result
    _told: Progress | None = None
    _intents: dict[str, Json] = field(default_factory=dict)
    _seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        """What earlier claims of this run intended is known from the journal."""
        made = (record for record in self.lease.steps if record.direction is Direction.DO)
        self._intents |= {record.name: record.intent for record in made if record.intent is not None}

    def make_true(self, step: Step[Any], record: StepRecord) -> None:
        """Make the step's fact true, if it is not; raises HostError or CancelNoticed."""
        self.at = step.name
        work = self._work(record)

        def cycle() -> StepState:
            nonlocal work
            sight = step.look(work, self.host)
            if isinstance(sight, Absent | Partial):
                self._outlast_hung_calls()
                found = sight.found if isinstance(sight, Partial) else NOTHING
                work, attempt = self._intend_to_make(step, record, work, found)
                self._attempt(step, Direction.DO, record.position, attempt, lambda: step.do(work, self.host))
                sight = step.look(work, self.host)
            return _judge(step, sight, work)

        state = self.patience.try_step(cycle)
        changes = () if state is StepState.SKIPPED else step.changes(work)
        if _tells_warnings(step):
            self.warnings += step.warnings(work)
        only_forward = step.name == self.operation.no_return_after
        self._saw(Seen(record.position, state, changes=changes, passes_return=only_forward))
        if only_forward:
            self._pass_return()
        self.progressed |= record.state in {StepState.PENDING, StepState.INTENDED}

    def is_worth_a_look(self, name: str) -> bool:
        """Whether a step that has ended is looked at once more.

        A job that came by a hop goes on where it was; any other is looked at from its first step, but for what has
        served its turn.
        """
        behind = self.lease.job.past_return and self.operation.is_behind_return(name)
        return not self.lease.arrived and not behind

    def has_passed(self, steps: Mapping[str, Step[Any]]) -> bool:
        """Whether the step has come true behind which there is only forward, though nobody has journaled it yet."""
        name = self.operation.no_return_after
        record = next((each for each in self.lease.steps if each.name == name), None)
        if record is None or record.intent is None or self.elsewhere(record.name) is not None:
            return False
        return isinstance(self.patience.try_step(lambda: steps[record.name].look(self._work(record), self.host)), There)

    def skip(self, record: StepRecord) -> None:
        """The step is another host's, and the job has no other host."""
        if record.state is not StepState.SKIPPED:
            self._saw(Seen(record.position, StepState.SKIPPED))

    def elsewhere(self, name: str) -> str | None:
        """The host that the step runs on, if it is not this one; empty where the job has no other host."""
        job = self.lease.job
        at_peer = job.peer is not None and self.lease.host == job.peer and self.lease.host != job.home
        if (name in self.operation.at_peer) == at_peer:
            return None
        return (job.home if at_peer else job.peer) or ""

    def _pass_return(self) -> None:
        self.lease = replace(self.lease, job=replace(self.lease.job, past_return=True))

    def _intend_to_make(
        self, step: Step[Any], record: StepRecord, work: Work[Any], found: Json
    ) -> tuple[Work[Any], int]:
        """Commit the intent; from then on the fact may be of this job's making, whatever becomes of the attempt."""
        intent = work.intent if work.intended else {**step.plan(work, self.host), **found}
        work = replace(work, intent=intent, intended=True)
        reserves = step.reserves(work) if _reserves(step) else ()
        passes_return = self.operation.is_past_return(step.name)
        attempt = self._intend(Intend(record.position, intent, passes_return=passes_return, reserves=reserves))
        if passes_return:
            self._pass_return()
        self._intents[step.name] = intent
        self.devices = _with_changes(self.devices, reserves)
        return replace(work, devices=self.devices), attempt

    def take_back(self, step: Step[Any], made: StepRecord) -> None:
        """Undo a step that this run intended, and see that it is undone; raises HostError.

        What belongs to somebody else by now is left alone. What is not there is undone all the same: a look does
        not see the unpublished half of an effect.
        """
        self.at = step.name
        work = self._work(made)
        reserved = step.reserves(work) if _reserves(step) else ()
        taken_back = _reversed((*reserved, *step.changes(work)))
        afterwards = replace(work, intended=False, devices=_with_changes(self.devices, taken_back))

        def undo() -> None:
            telling = isinstance(step, TellingUndone)
            if not telling and isinstance(step.look(work, self.host), NotOurs):
                return
            step.undo(work, self.host)
            gone = (
                step.undone(work, self.host)
                if isinstance(step, TellingUndone)
                else isinstance(step.look(afterwards, self.host), Absent | NotNeeded)
            )
            if not gone:
                raise HostError(ErrorClass.TRANSIENT, f"{step.name} was undone, and is still there")

        def cycle() -> None:
            self._outlast_hung_calls()
            attempt = self._intend(Intend(made.position, work.intent, Direction.UNDO))
            self._attempt(step, Direction.UNDO, made.position, attempt, undo)

        self.patience.try_step(cycle)
        self._saw(Seen(made.position, StepState.DONE, Direction.UNDO, taken_back))
        self.progressed = True

    def _outlast_hung_calls(self) -> None:
        """What was not seen may still be made by a call that was written off: wait for it. A destroy ends it."""
        jobs = () if self.operation.supersedes else self.written_off(self.lease.job.instance)
        if jobs:
            raise HostError(
                ErrorClass.TRANSIENT,
                f"a call of job {', '.join(jobs)} on instance {self.lease.job.instance} has not returned, and may yet "
                "take effect: see why its QEMU or its storage does not answer, or destroy the instance",
            )

    def _intend(self, intend: Intend) -> int:
        """Commit what was seen and what is intended; the number of the attempt that may now be made."""
        seen = self.take_seen()
        try:
            advanced = advance(self.database, self.lease, seen, intend)
        except TakenError as taken:
            self._seen[:0] = seen
            raise HostError(ErrorClass.CONFLICT, str(taken)) from taken
        if advanced.cancelled:
            raise CancelNoticed
        return advanced.attempt

    def _attempt(
        self, step: Step[Any], direction: Direction, position: int, attempt: int, act: Callable[[], None]
    ) -> None:
        """Act; an error is journaled with its attempt before it goes on its way."""
        job = self.lease.job.id
        log.info("step: job=%s step=%s direction=%s attempt=%d", job, step.name, direction, attempt)
        try:
            act()
        except Exception as error:
            failed = record_of(error)
            log.warning("step failed: job=%s step=%s class=%s %s", job, step.name, failed.error_class, failed.message)
            attempt_failed(self.database, self.lease, direction, position, attempt, failed)
            raise

    def _work(self, record: StepRecord) -> Work[Any]:
        peer = self.lease.peer
        return Work(
            job=self.lease.job.id,
            host=self.lease.host,
            instance=self.lease.job.instance,
            epoch=self.lease.epoch,
            request=self.request,
            devices=self.devices,
            intent=record.intent or {},
            intended=record.intent is not None,
            earlier=MappingProxyType(self._intents),
            peer=None if peer is None else Peer(peer.name, peer.libvirt_uri, peer.address, peer.libvirt_host),
            report=self._report,
        )

    def _report(self, progress: Progress, *, passes_return: bool = False) -> Wish:
        """Journal the progress. A journal out of reach stops no call, but none passes its point of no return then."""
        try:
            wanted = report(self.database, self.lease, progress, before=self._told, passes_return=passes_return)
        except OUT_OF_REACH as error:
            log.warning("progress not journaled: job=%s %s", self.lease.job.id, error)
            if passes_return and not self.lease.job.past_return:
                raise
            return Wish.GO_ON
        if passes_return and not wanted.cancel:
            self._pass_return()
        self._told = progress
        self.announce(progress)
        if wanted.cancel:
            return Wish.CANCEL
        return Wish.FORCE_COMPLETE if wanted.force_complete else Wish.GO_ON

    def _saw(self, fact: Seen) -> None:
        self._seen.append(fact)
        self.devices = _with_changes(self.devices, fact.changes)

    def take_seen(self) -> tuple[Seen, ...]:
        """What was seen since the last commit; the caller commits it."""
        seen = tuple(self._seen)
        self._seen.clear()
        return seen


@cache
def _fits(step_class: type, protocol: type) -> bool:
    """Whether steps of the class fit: Python would look at each method of the protocol every time that it is asked."""
    return issubclass(step_class, protocol)


def _tells_warnings(step: Step[Any]) -> TypeGuard[TellingWarnings]:
    return _fits(type(step), TellingWarnings)


def _reserves(step: Step[Any]) -> TypeGuard[Reserving]:
    return _fits(type(step), Reserving)


def _judge(step: Step[Any], sight: Sight, work: Work[Any]) -> StepState:
    match sight:
        case There():
            return StepState.DONE if work.intended else StepState.FOUND
        case NotNeeded():
            return StepState.SKIPPED
        case NotOurs(why):
            raise HostError(ErrorClass.CONFLICT, why)
        case InProgress(why) | Partial(why):
            raise HostError(ErrorClass.TRANSIENT, why)
        case Absent():
            raise HostError(ErrorClass.TRANSIENT, f"{step.name} was done without an error, and cannot be seen")


def _with_changes(devices: tuple[Device, ...], changes: Sequence[Change]) -> tuple[Device, ...]:
    """The devices as they will be once the changes are committed."""
    kept = {(device.kind, device.key): device for device in devices}
    for change in changes:
        if isinstance(change, DeviceAdded | DeviceChanged):
            kept[change.device.kind, change.device.key] = change.device
        elif isinstance(change, DeviceRemoved):
            kept.pop((change.kind, change.key), None)
    return tuple(kept.values())


def _reversed(changes: Sequence[Change]) -> tuple[Change, ...]:
    """What the inventory learns when a fact is taken back."""
    return tuple(
        DeviceRemoved(change.device.kind, change.device.key) for change in changes if isinstance(change, DeviceAdded)
    )
