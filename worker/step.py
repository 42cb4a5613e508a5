"""One step, carried out: look, intend, do, look; or undo, look. What was seen is committed with the next intent."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from models.engine import Database
from models.journal.claiming import Lease
from models.journal.stepping import Intend, Seen, advance, attempt_failed
from models.records import Change, Device, DeviceAdded, DeviceRemoved, ErrorRecord, StepRecord
from models.states import Direction, ErrorClass, StepState
from tasks.host import Host, HostError
from tasks.operation import Absent, InProgress, NotNeeded, NotOurs, Operation, Partial, Sight, Step, There, Work
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
    progressed: bool = False  #: whether a step got on since the claim
    _seen: list[Seen] = field(default_factory=list)

    def make_true(self, step: Step[Any], record: StepRecord) -> None:
        """Make the step's fact true, if it is not; raises HostError or CancelNoticed."""
        work = self._work(record)

        def cycle() -> StepState:
            nonlocal work
            sight = step.look(work, self.host)
            if isinstance(sight, Absent | Partial):
                work, attempt = self._intend_to_make(step, record, work)
                self._attempt(step, Direction.DO, record.position, attempt, lambda: step.do(work, self.host))
                sight = step.look(work, self.host)
            return _judge(step, sight, work)

        state = self.patience.try_step(cycle)
        self._saw(Seen(record.position, state, changes=() if state is StepState.SKIPPED else step.changes(work)))
        self.progressed |= record.state in {StepState.PENDING, StepState.INTENDED}

    def _intend_to_make(self, step: Step[Any], record: StepRecord, work: Work[Any]) -> tuple[Work[Any], int]:
        """Commit the intent; from then on the fact may be of this job's making, whatever becomes of the attempt."""
        intent = work.intent if work.intended else step.plan(work, self.host)
        passes_return = self.operation.is_past_return(step.name)
        attempt = self._intend(Intend(record.position, intent, passes_return=passes_return))
        if passes_return:
            self.lease = replace(self.lease, job=replace(self.lease.job, past_return=True))
        return replace(work, intent=intent, intended=True), attempt

    def take_back(self, step: Step[Any], made: StepRecord) -> None:
        """Undo a step that this run intended, and see that it is undone; raises HostError.

        What belongs to somebody else by now is left alone. What is not there is undone all the same: a look does
        not see the unpublished half of an effect.
        """
        work = self._work(made)

        def undo() -> None:
            if isinstance(step.look(work, self.host), NotOurs):
                return
            step.undo(work, self.host)
            if isinstance(step.look(work, self.host), There | Partial | InProgress):
                raise HostError(ErrorClass.TRANSIENT, f"{step.name} was undone, and is still there")

        def cycle() -> None:
            attempt = self._intend(Intend(made.position, work.intent, Direction.UNDO))
            self._attempt(step, Direction.UNDO, made.position, attempt, undo)

        self.patience.try_step(cycle)
        self._saw(Seen(made.position, StepState.DONE, Direction.UNDO, _reversed(step.changes(work))))
        self.progressed = True

    def _intend(self, intend: Intend) -> int:
        """Commit what was seen and what is intended; the number of the attempt that may now be made."""
        advanced = advance(self.database, self.lease, self.take_seen(), intend)
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
        return Work(
            job=self.lease.job.id,
            instance=self.lease.job.instance,
            epoch=self.lease.epoch,
            request=self.request,
            devices=self.devices,
            intent=record.intent or {},
            intended=record.intent is not None,
        )

    def _saw(self, fact: Seen) -> None:
        self._seen.append(fact)
        self.devices = _with_changes(self.devices, fact.changes)

    def take_seen(self) -> tuple[Seen, ...]:
        """What was seen since the last commit; the caller commits it."""
        seen = tuple(self._seen)
        self._seen.clear()
        return seen


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
        if isinstance(change, DeviceAdded):
            kept[change.device.kind, change.device.key] = change.device
        elif isinstance(change, DeviceRemoved):
            kept.pop((change.kind, change.key), None)
    return tuple(kept.values())


def _reversed(changes: Sequence[Change]) -> tuple[Change, ...]:
    """What the inventory learns when a fact is taken back."""
    return tuple(
        DeviceRemoved(change.device.kind, change.device.key) for change in changes if isinstance(change, DeviceAdded)
    )
