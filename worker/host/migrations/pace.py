"""How a migration gets on, reckoned from what libvirt counts: progress, downtime steps. Pure: time is an argument."""

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from tasks.host import MigrationPlan, MigrationProgress

#: The rate is measured over this long: shorter, it jumps with every burst; longer, it is late to see a change.
RATE_WINDOW_S: Final = 10.0
#: Over less than this nothing is said.
RATE_LEAST_S: Final = 1.0


@dataclass(frozen=True)
class JobFigures:
    """What libvirt says of a migration out of a host at one moment; all zeros where it says nothing."""

    under_way: bool
    done_bytes: int = 0
    remaining_bytes: int = 0
    total_bytes: int = 0
    elapsed_s: float = 0.0
    iteration: int = 0
    post_copy: bool = False
    broken: bool = False  #: the post-copy has come to a halt, and can be taken up again


NO_JOB: Final = JobFigures(under_way=False)


@dataclass(frozen=True)
class DowntimeStep:
    """From ``after_s`` of a migration on, the guest may stand still for ``downtime_ms`` at its end."""

    after_s: float
    downtime_ms: int


def downtime_steps(plan: MigrationPlan) -> tuple[DowntimeStep, ...]:
    """The plan's steps: as high as each other, the last one the whole downtime."""
    first = plan.downtime_ms / plan.downtime_steps
    slope = (plan.downtime_ms - first) / plan.downtime_steps
    delay = int(plan.downtime_delay_s)
    return tuple(DowntimeStep(delay * i, int(first + slope * i)) for i in range(plan.downtime_steps + 1))


def downtime_at(steps: tuple[DowntimeStep, ...], elapsed_s: float) -> int | None:
    """The downtime that is permitted by then; None before the first step."""
    reached = [step.downtime_ms for step in steps if step.after_s < elapsed_s]
    return reached[-1] if reached else None


class Gauge:
    """Turns one reading after another into progress."""

    def __init__(self, now: float, *, past_return: bool = False) -> None:
        self._began = now
        self._moved = now
        self._readings: deque[tuple[float, int]] = deque()
        self._last = MigrationProgress(0, 0, 0, 0.0, post_copy=past_return)

    @property
    def past_return(self) -> bool:
        """Whether there is only forward."""
        return self._last.post_copy

    def read(self, figures: JobFigures | None, now: float) -> MigrationProgress:
        """The progress now. No figures, or ones without a total, say that nothing is known to have come through."""
        if figures is not None and figures.total_bytes > 0:
            self._note(figures, now)
        elapsed = max(now - self._began, figures.elapsed_s if figures is not None else 0.0, self._last.elapsed_s)
        self._last = replace(self._last, elapsed_s=elapsed, silent_s=max(0.0, now - self._moved), eta_s=self._eta(now))
        return self._last

    def permit(self, downtime_ms: int) -> None:
        """The downtime that is permitted from now on."""
        self._last = replace(self._last, downtime_ms=downtime_ms)

    def pass_return(self) -> None:
        """Post-copy is about to begin: from here on there is only forward."""
        self._last = replace(self._last, post_copy=True)

    def _note(self, figures: JobFigures, now: float) -> None:
        if not self._readings or figures.done_bytes != self._last.done_bytes:
            self._moved = now
        self._readings.append((now, figures.done_bytes))
        while self._readings[0][0] < now - RATE_WINDOW_S:
            self._readings.popleft()
        self._last = replace(
            self._last,
            done_bytes=figures.done_bytes,
            remaining_bytes=figures.remaining_bytes,
            total_bytes=figures.total_bytes,
            iteration=figures.iteration,
            post_copy=self._last.post_copy or figures.post_copy,
        )

    def _eta(self, now: float) -> float | None:
        """The remaining bytes at the rate of the last seconds, silence included."""
        if not self._readings:
            return None
        since, done = self._readings[0]
        sent = self._last.done_bytes - done
        if now - since < RATE_LEAST_S or sent <= 0:
            return None
        return self._last.remaining_bytes * (now - since) / sent
