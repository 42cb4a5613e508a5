"""How soon a job begins: from its submission to its first effect, and from its worker's death to its next look."""

import statistics
import time
from collections.abc import Callable, Sequence

from tests.bench_jobs.contenders import Hostler
from tests.bench_jobs.noop import STEPS
from tests.lab.waiting import eventually

RESUMED_WITHIN_S = 60.0


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """The median, and the value that 99 of 100 do not pass."""
    ordered = sorted(values)
    return {"p50": statistics.median(ordered), "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]}


def first_effects(hostler: Hostler, submit: Callable[[], str], jobs: int) -> list[float]:
    """For each job, from when it was about to be submitted to its first effect, in milliseconds; one at a time."""
    began: dict[str, float] = {}
    for _ in range(jobs):
        now = time.monotonic()
        job = submit()
        began[job] = now
        hostler.wait_settled(job)
    effects = {mark.job: mark.at for mark in reversed(hostler.marks.read()) if mark.moment == "do"}
    return [(effects[job] - at) * 1000 for job, at in began.items()]


def resumes(hostler: Hostler, rounds: int) -> list[float]:
    """For each kill, from SIGKILL in a job's first effect to the next worker's first look at it, in seconds."""
    took = []
    for _ in range(rounds):
        hostler.marks.hold()
        job = hostler.submit()
        eventually(lambda: _first(hostler, "do", job, 0.0), "the first effect is begun", RESUMED_WITHIN_S)  # noqa: B023
        killed = time.monotonic()
        hostler.site.kill_worker()
        hostler.marks.release()
        hostler.site.start_worker(ready=False)
        looked = eventually(lambda: _first(hostler, "look", job, killed), "it is looked at again", RESUMED_WITHIN_S)  # noqa: B023
        took.append(looked - killed)
        hostler.site.wait_ready()
        hostler.wait_settled(job)
    return took


def _first(hostler: Hostler, moment: str, job: str, after: float) -> float | None:
    found = (mark for mark in hostler.marks.read() if mark.moment == moment and mark.job == job and mark.at > after)
    return next((mark.at for mark in found if mark.step == STEPS[0]), None)
