"""The spine: how a job is claimed and carried out, from its first look to its settling.

For each step, in order: look. There: it is found, or done if an earlier intent of this job made it. Not there:
intend (in one commit with what was seen before), do, look again, done. An error that passes is retried for
seconds within the step, then the job waits in the journal; one that does not turns the run round, and what the
run made is undone in reverse. An undo that fails, or an error past the point of no return, quarantines the job.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from models.engine import OUT_OF_REACH, Database
from models.journal.accepting import Accepted, accept, known
from models.journal.arriving import accept_and_claim
from models.journal.claiming import Claimant, Lease, NotNow, Rewound, claim
from models.journal.holding import OvertakenError, Seen
from models.journal.settling import hop, quarantine, settle, wait
from models.journal.superseding import Terms
from models.journal.undoing import begin_undo
from models.reading import withheld_of
from models.records import ErrorRecord, JobRecord, Json, Progress, StepRecord, withheld_fields
from models.states import ENDED, Direction, ErrorClass, JobClass, JobState, Verdict
from models.submission import Submission
from tasks.catalogue import Catalogue
from tasks.host import Host, HostError
from tasks.operation import Step
from tasks.requests import BadRequestError, parse
from worker.hands import Hands
from worker.ledger.writing import Ledger
from worker.retrying import PASSING, Patience, insist
from worker.step import CancelNoticed, Run, record_of
from worker.telling import in_full

log = logging.getLogger(__name__)

#: How long a message is kept in hand while the journal is out of reach, in seconds; then it goes back to its queue.
RECORDING_DEADLINE_S = 60.0

#: How long a call of an earlier worker may go on before the job waits, in seconds: libvirt gives up a call that waits
#: for another one after 30 s.
IDLE_DEADLINE_S = 35.0

Steps = Mapping[str, Step[Any]]


class Announcer(Protocol):
    """Who tells the outside world of a job's life (Celery does)."""

    def claimed(self, job: JobRecord, *, rung: bool) -> None:
        """The job was claimed and is about to be run; ``rung`` if a message brought it."""
        ...

    def progressed(self, job: JobRecord, progress: Progress) -> None:
        """The job's call under way has come so far."""
        ...

    def left_in_outbox(self, job_id: str) -> None:
        """Something of the job may be in the outbox: a ring, or what it came to."""
        ...


class _StuckError(Exception):
    """Nothing more can be done without an operator."""

    def __init__(self, error: ErrorRecord) -> None:
        super().__init__(error.message)
        self.error = error


def _outlast_predecessor(run: Run) -> None:
    """A look counts once libvirt has done what a worker asked of it that has died since; a kill waits for nobody."""
    if run.lease.took_over and not run.operation.supersedes:
        run.host.domains.wait_idle(run.lease.job.instance, IDLE_DEADLINE_S)


def _in_hand_or_full(job_class: JobClass) -> NotNow:
    return NotNow(f"it is in hand already, or all slots for {job_class} are taken")


def _cannot(message: str) -> _StuckError:
    return _StuckError(ErrorRecord(ErrorClass.PERMANENT, message))


@dataclass(frozen=True)
class Runner:
    """Takes jobs and carries them out, each in the calling thread."""

    database: Database
    host: Host
    claimant: Claimant
    catalogue: Catalogue
    hands: Hands
    ledger: Ledger
    patience: Patience
    announcer: Announcer
    outbox: bool  #: whether there is a broker or a result backend to tell of anything

    def take(self, job: JobRecord) -> NotNow | None:
        """Claim the job and carry it out, if it can be claimed now and its class has a slot.

        An error that is raised means that the job was let go as it is; the sweeper claims it again, a little later.
        """
        with self.hands.grasp(job.id, job.instance, job.job_class) as grasped:
            if not grasped:
                return _in_hand_or_full(job.job_class)
            if self.ledger.held is not None:
                return NotNow(self.ledger.held)
            with self.ledger.claiming() as under_way:
                claimed = claim(
                    self.database, job.id, self.claimant, self._terms, outbox=self.outbox, seen=under_way.seen
                )
                under_way.sequence = claimed.host_sequence if isinstance(claimed, Lease) else None
            self._go_on(claimed, rung=False)
        self.announcer.left_in_outbox(job.id)
        return claimed if isinstance(claimed, NotNow) else None

    def take_new(self, submission: Submission, recorded: Callable[[Accepted], None]) -> NotNow | None:
        """Record what was sent, call ``recorded``, and carry the job out, if it can be claimed now.

        Raises what recording it raises, before ``recorded`` was called: DifferentPayloadError, or after
        `RECORDING_DEADLINE_S` what a journal out of reach raises.
        """
        with self.hands.grasp(submission.id, submission.instance, submission.job_class) as grasped:
            accepted, claimed = insist(
                lambda: self._record(submission, claiming=grasped), on=OUT_OF_REACH, for_s=RECORDING_DEADLINE_S
            )
            recorded(accepted)
            self._go_on(claimed, rung=True)
        self.announcer.left_in_outbox(submission.id)
        return claimed if isinstance(claimed, NotNow) else None

    def _record(self, submission: Submission, *, claiming: bool) -> tuple[Accepted, Lease | NotNow]:
        if not claiming:
            return self._accepted(submission), _in_hand_or_full(submission.job_class)
        if self.ledger.held is not None:
            return self._accepted(submission), NotNow(self.ledger.held)
        with self.ledger.claiming() as under_way:
            accepted, claimed = accept_and_claim(
                self.database, submission, self.claimant, self._terms, outbox=self.outbox, seen=under_way.seen
            )
            under_way.sequence = claimed.host_sequence if isinstance(claimed, Lease) else None
        return accepted, claimed

    def _accepted(self, submission: Submission) -> Accepted:
        there = known(self.database, submission)
        return accept(self.database, submission, outbox=False) if there is None else there

    def _go_on(self, claimed: Lease | NotNow, *, rung: bool) -> None:
        if isinstance(claimed, Rewound):
            self.ledger.suspect(claimed.why)
        if isinstance(claimed, Lease):
            self.ledger.claimed(claimed)
            self.ledger.told(claimed.ended)
            self.announcer.claimed(claimed.job, rung=rung)
            for superseded in claimed.superseded:
                self.announcer.left_in_outbox(superseded)
            self._carry_out(claimed)

    def _terms(self, job: JobRecord) -> Terms:
        operation = self.catalogue.get(job.operation)
        if operation is None:
            return Terms(version=0, steps=(), supersedes=False, begins_as=None)
        return Terms(
            version=operation.version,
            steps=tuple(step.name for step in operation.steps),
            supersedes=operation.supersedes,
            begins_as=operation.instance_begins_as,
            name=job.request.get("name"),
            peer=None if operation.peer_field is None else job.request.get(operation.peer_field),
        )

    def _carry_out(self, lease: Lease) -> None:
        job = lease.job
        log.info("job claimed: job=%s %s instance=%s epoch=%d", job.id, job.operation, job.instance, job.epoch)
        try:
            run, steps = self._prepare(lease)
            self.hands.entrust(job.id, lambda why: self._give_up(run, why))
            try:
                if job.verdict is None:
                    self._make(run, steps)
                else:
                    self._unmake(run, steps, lease.steps)
            except _StuckError as stuck:
                self._quarantine(run.lease, stuck.error, run.take_seen(), at=run.at)
        except _StuckError as unreadable:
            self._quarantine(lease, unreadable.error)
        except OvertakenError as overtaken:
            log.warning("run given up, another claim has passed it: %s", overtaken)
        except OUT_OF_REACH:
            raise  # the job stays running in the journal with no thread at it: the sweeper claims it again
        except SQLAlchemyError as defect:
            log.exception("the journal cannot be written: job=%s", job.id)
            self._quarantine(lease, record_of(defect))

    def _prepare(self, lease: Lease) -> tuple[Run, Steps]:
        """Read the job with this revision's words; what they do not cover is an operator's."""
        operation = self.catalogue.get(lease.job.operation)
        if operation is None:
            raise _cannot(f"this worker knows no operation {lease.job.operation}")
        steps: Steps = {step.name: step for step in operation.steps}
        for record in lease.steps:
            if record.name not in steps:
                raise _cannot(f"this worker knows no step {record.name} of {operation.name}")
        try:
            request = parse(operation.request, self._whole(lease.job))
        except BadRequestError as error:
            raise _cannot(f"its request can no longer be read: {error}") from error
        run = Run(
            self.database,
            self.host,
            self.patience,
            lease,
            operation,
            request,
            lease.devices,
            announce=lambda progress: self.announcer.progressed(lease.job, progress),
            written_off=self.hands.written_off,
        )
        return run, steps

    def _whole(self, job: JobRecord) -> Json:
        """The request with what is withheld from it."""
        lacking = withheld_fields(job.request)
        if not lacking:
            return job.request
        parts = withheld_of(self.database, job.id)
        if parts is None:
            raise _cannot(f"its {lacking[0]} is gone: it is dropped once a job has ended")
        return {**job.request, **parts}

    def _make(self, run: Run, steps: Steps) -> None:
        """Make every fact true, or turn round."""
        try:
            _outlast_predecessor(run)
            if run.lease.job.cancel_requested and not run.lease.job.past_return and not run.has_passed(steps):
                raise CancelNoticed  # noqa: TRY301  # as if it were noticed a step later
            if not self._make_all_here(run, steps):
                return
        except CancelNoticed:
            self._turn_round(run, steps, Verdict.CANCELLED, None)
        except HostError as error:
            passing = error.error_class in PASSING
            if passing and (error.error_class is not ErrorClass.RESOURCE or run.lease.job.past_return):
                self._wait(run, error.record)
            else:
                self._turn_round(run, steps, Verdict.FAILED, error.record)
        except (OvertakenError, SQLAlchemyError):
            raise
        except Exception as error:
            log.exception("a step has a defect: job=%s", run.lease.job.id)
            self._turn_round(run, steps, Verdict.FAILED, record_of(error))
        else:
            if not self._settle(run, JobState.SUCCEEDED, None):
                self._turn_round(run, steps, Verdict.CANCELLED, None)

    def _make_all_here(self, run: Run, steps: Steps) -> bool:
        """Make each fact true up to the first that is another host's to make; False if the job went there."""
        for record in run.lease.steps:
            elsewhere = run.elsewhere(record.name)
            if elsewhere is None:
                if record.skipped_by is None and (record.state not in ENDED or run.is_worth_a_look(record.name)):
                    run.make_true(steps[record.name], record)
            elif not elsewhere:
                run.skip(record)
            elif record.state not in ENDED:
                self._hop(run, elsewhere)
                return False
        return True

    def _turn_round(self, run: Run, steps: Steps, verdict: Verdict, error: ErrorRecord | None) -> None:
        """Undo what the run made; past the point of no return there is only forward."""
        if error is not None and run.lease.job.past_return:
            raise _StuckError(error)
        if error is not None:
            error = in_full(error, run.lease.job, run.lease.host, JobState.FAILED, run.at)
        records = begin_undo(self.database, run.lease, verdict, error, run.take_seen())
        run.lease = replace(run.lease, job=replace(run.lease.job, verdict=verdict, error=error))
        self._unmake(run, steps, records)

    def _unmake(self, run: Run, steps: Steps, records: Sequence[StepRecord]) -> None:
        """Take back, in reverse, every fact that the run intended; then settle as the verdict says."""
        made = {record.position: record for record in records if record.direction is Direction.DO}
        try:
            _outlast_predecessor(run)
            for record in records:
                if record.direction is Direction.UNDO and record.state not in ENDED:
                    elsewhere = run.elsewhere(record.name)
                    if elsewhere is not None:
                        self._hop(run, elsewhere)
                        return
                    run.take_back(steps[record.name], made[record.position])
        except HostError as error:
            if error.error_class in PASSING:
                self._wait(run, error.record)
                return
            raise _StuckError(error.record) from error
        except (OvertakenError, SQLAlchemyError):
            raise
        except Exception as error:
            log.exception("an undo has a defect: job=%s", run.lease.job.id)
            raise _StuckError(record_of(error)) from error
        cancelled = run.lease.job.verdict is Verdict.CANCELLED
        self._settle(run, JobState.CANCELLED if cancelled else JobState.FAILED, run.lease.job.error)

    def _hop(self, run: Run, to: str) -> None:
        self.ledger.told([hop(self.database, run.lease, to, run.take_seen(), outbox=self.outbox)])
        log.info("job goes on elsewhere: job=%s host=%s", run.lease.job.id, to)

    def _settle(self, run: Run, state: JobState, error: ErrorRecord | None) -> bool:
        settled = settle(
            self.database,
            run.lease,
            state,
            error=error,
            seen=run.take_seen(),
            warnings=run.warnings if state is JobState.SUCCEEDED else (),
            undone_as=None if state is JobState.SUCCEEDED else run.operation.instance_undone_as,
            wanted_as=run.operation.instance_wanted_as if state is JobState.SUCCEEDED else None,
            outbox=self.outbox,
        )
        why = "" if error is None else f" {error.error_class}: {error.told}"
        if settled is None:
            return False
        self.ledger.told([settled])
        log.info("job settled: job=%s state=%s%s", run.lease.job.id, state, why)
        return True

    def _wait(self, run: Run, error: ErrorRecord) -> None:
        delay = self.patience.wait_after(0 if run.progressed else run.lease.job.waits)
        error = in_full(error, run.lease.job, run.lease.host, JobState.WAITING, run.at)
        wait(self.database, run.lease, delay, error, run.take_seen(), progressed=run.progressed)
        log.warning("job waits %.0f s: job=%s %s", delay.total_seconds(), run.lease.job.id, error.told)

    def _give_up(self, run: Run, why: str) -> None:
        """Have the job wait in the journal while its thread hangs: whatever that thread does next is overtaken."""
        delay = self.patience.wait_after(run.lease.job.waits)
        error = in_full(ErrorRecord(ErrorClass.UNKNOWN, why), run.lease.job, run.lease.host, JobState.WAITING, run.at)
        try:
            wait(self.database, run.lease, delay, error)
        except OvertakenError:
            return  # it has gone on after all, or somebody else has taken it
        log.error("job given up by a thread that hangs, and waits: job=%s %s", run.lease.job.id, error.told)

    def _quarantine(self, lease: Lease, error: ErrorRecord, seen: Sequence[Seen] = (), *, at: str = "") -> None:
        error = in_full(error, lease.job, lease.host, JobState.QUARANTINED, at)
        quarantine(self.database, lease, error, seen)
        log.error("job quarantined, an operator decides: job=%s %s", lease.job.id, error.told)
