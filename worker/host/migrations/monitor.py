"""Watches one migration to its end: tells of its progress, obeys what is wanted, and knows when its time is up."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

from models.states import ErrorClass
from tasks.host import HostError, MigrationPlan, MigrationProgress, OnTimeout, Watch, Wish
from worker.host.migrations.pace import Gauge, JobFigures, downtime_at, downtime_steps

_log = logging.getLogger(__name__)

#: nova's tick.
TICK_S: Final = 0.5
#: An abort that has no effect yet is asked for again.
ABORT_AGAIN_S: Final = 1.0
#: Libvirt ends the destination's QEMU before it returns, which takes it up to 12 s.
ABORTED_WITHIN_S: Final = 20.0
#: Past the point of return, so long a silence is no pause.
SILENT_S: Final = 60.0


class Job(Protocol):
    """What a monitor asks of libvirt. Every answer comes in time, or is HostError."""

    def figures(self) -> JobFigures:
        """How far the migration is."""
        ...

    def permit_downtime(self, downtime_ms: int) -> None:
        """The guest may stand still for so long."""
        ...

    def start_post_copy(self) -> None:
        """The guest may run over there now."""
        ...

    def suspend(self) -> None:
        """The guest stands still."""
        ...

    def abort(self) -> None:
        """The migration is not wanted any more."""
        ...


class Ending(Protocol):
    """How a migration's end is known."""

    def reached(self, within_s: float) -> bool:
        """Whether it is over by then."""
        ...

    def conclude(self) -> None:
        """Raise what it ended with; nothing when the guest has left."""
        ...


class PostCopy(StrEnum):
    """Whether the guest may run on the destination before all of its memory is there."""

    IMPOSSIBLE = "impossible"
    POSSIBLE = "possible"
    BEGUN = "begun"


class Monitor:
    """One migration under way."""

    def __init__(  # noqa: PLR0913 - one migration, each by name
        self, *, instance: UUID, job: Job, ending: Ending, plan: MigrationPlan, watch: Watch, post_copy: PostCopy
    ) -> None:
        self._instance = instance
        self._job = job
        self._ending = ending
        self._plan = plan
        self._watch = watch
        self._post_copy = post_copy
        self._steps = downtime_steps(plan)
        self._permitted: int | None = None
        self._gauge = Gauge(time.monotonic(), past_return=post_copy is PostCopy.BEGUN)
        self._wanted = False  # that it be forced to complete
        self._forced = False

    def run(self) -> None:
        """Return when the guest has left; the errors are those that `tasks.host.Migrations.perform` names."""
        while not self._ending.reached(TICK_S):
            figures = self._figures()
            progress = self._gauge.read(figures, time.monotonic())
            wish = self._tell(progress)
            if progress.post_copy:
                self._go_forward(progress, figures)
            elif (unwanted := self._obey(wish, progress, figures)) is not None:
                self._stop(unwanted)
                return
        self._conclude()

    def _obey(self, wish: Wish, progress: MigrationProgress, figures: JobFigures | None) -> HostError | None:
        """Do what is wanted, or due; returned is why the migration must end, if it must."""
        if wish is Wish.CANCEL:
            return self._cancelled()
        late = 0 < self._plan.completion_timeout_s < progress.elapsed_s
        if late and self._plan.on_timeout is OnTimeout.ABORT:
            message = f"the migration of {self._instance} was not done within {self._plan.completion_timeout_s:g} s"
            return HostError(ErrorClass.PERMANENT, message)
        self._wanted |= late or wish is Wish.FORCE_COMPLETE
        if self._wanted:
            return self._force(progress) if self._can_force(figures) else None
        self._permit_downtime(progress.elapsed_s)
        return None

    def _go_forward(self, progress: MigrationProgress, figures: JobFigures | None) -> None:
        """There is no way back: what was to force the end is tried until it does, and nothing is aborted.

        A call that libvirt never lets return, as when both ends of a post-copy lose each other, is left to itself.
        """
        if progress.silent_s >= SILENT_S:
            message = f"the post-copy of {self._instance} has been silent for {progress.silent_s:.0f} s"
            raise HostError(ErrorClass.TRANSIENT, message)
        if self._wanted and self._can_force(figures):
            self._switch()

    def _can_force(self, figures: JobFigures | None) -> bool:
        """Whether QEMU sends, and memory where post-copy is to follow: before, libvirt refuses or mistakes it."""
        if self._forced or figures is None or not figures.under_way:
            return False
        return figures.iteration > 0 if self._post_copy is PostCopy.POSSIBLE else figures.done_bytes > 0

    def _force(self, progress: MigrationProgress) -> HostError | None:
        """Post-copy, where it can be; else the guest stands still until all is over there.

        Whoever watches learns first that there will be no way back, and may still refuse.
        """
        if self._post_copy is PostCopy.POSSIBLE:
            if self._tell(replace(progress, post_copy=True)) is Wish.CANCEL:
                return self._cancelled()
            self._gauge.pass_return()
            self._switch()
        else:
            self._forced = _did(self._job.suspend)
        return None

    def _switch(self) -> None:
        self._forced = _did(self._job.start_post_copy) or _did(self._job.suspend)

    def _permit_downtime(self, elapsed_s: float) -> None:
        """The step that is due; libvirt's refusal is no reason to stop, as in nova."""
        due = downtime_at(self._steps, elapsed_s)
        if due is not None and due != self._permitted:
            self._permitted = due
            if _did(lambda: self._job.permit_downtime(due)):
                self._gauge.permit(due)

    def _tell(self, progress: MigrationProgress) -> Wish:
        """What whoever watches wants; one that raises has the migration ended first, unless that is past."""
        try:
            return self._watch(progress)
        except BaseException:
            with suppress(HostError):
                if not self._gauge.past_return:
                    self._aborted()
            raise

    def _conclude(self) -> None:
        """What the end was; past the point of return an error is final only if nobody is left to take the guest up."""
        try:
            self._ending.conclude()
        except HostError as error:
            record = error.record
            if not self._gauge.past_return:
                if record.code == "OPERATION_ABORTED":
                    raise self._aborted_by_another(error) from error
                raise
            if record.code == "NO_DOMAIN":
                message = f"the post-copy of {self._instance} broke, and the other host has no guest of it: it is lost"
                raise HostError(ErrorClass.PERMANENT, message, code=record.code, domain=record.domain) from error
            message = f"the post-copy of {self._instance} is not over: {record.message}"
            raise HostError(
                ErrorClass.TRANSIENT, message, code=record.code, domain=record.domain, errno=record.errno
            ) from error

    def _stop(self, why: HostError) -> None:
        """End the migration, and say why; a guest that has left all the same has left."""
        if not self._aborted():
            message = f"{why.record.message}, and libvirt has not ended it within {ABORTED_WITHIN_S:g} s"
            raise HostError(ErrorClass.TRANSIENT, message)
        try:
            self._ending.conclude()
        except HostError as ended:
            raise why from ended

    def _aborted(self) -> bool:
        """Whether it was over in time. There is nothing to abort before libvirt has begun, so it is asked again."""
        end = time.monotonic() + ABORTED_WITHIN_S
        while time.monotonic() < end:
            _did(self._job.abort)
            if self._ending.reached(ABORT_AGAIN_S):
                return True
        return False

    def _figures(self) -> JobFigures | None:
        try:
            return self._job.figures()
        except HostError:
            return None  # that is silence, which whoever watches is told of

    def _aborted_by_another(self, error: HostError) -> HostError:
        message = (
            f"the migration of {self._instance} was aborted past Hostler, as by `virsh domjobabort`, and the guest "
            "stays where it is: retry the job if it is to move all the same"
        )
        record = error.record
        return HostError(error.error_class, message, code=record.code, domain=record.domain, errno=record.errno)

    def _cancelled(self) -> HostError:
        return HostError(ErrorClass.TRANSIENT, f"the migration of {self._instance} was cancelled")


def _did(ask: Callable[[], None]) -> bool:
    """Whether libvirt did it; a refusal is not the end of a migration."""
    try:
        ask()
    except HostError as refusal:
        _log.info("a migration was not steered: %s", refusal)
        return False
    return True
