"""Following a job to its end: a live table on a terminal, one line per change elsewhere."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from models import reading
from models.engine import Database
from models.reading import JobDetails
from models.records import StepRecord
from models.states import FINAL, Direction, JobState, StepState
from worker.cli.exits import OF_STATE, TIMEOUT
from worker.cli.sentences import job_sentence
from worker.cli.tables import took

#: How often the journal is read, in seconds.
INTERVAL_S = 0.1

_COLOURS = {
    StepState.DONE: "green",
    StepState.FOUND: "cyan",
    StepState.INTENDED: "yellow",
    StepState.SKIPPED: "bright_black",
    StepState.PENDING: "bright_black",
}


def follow(database: Database, job_id: str, *, timeout_s: float | None, console: Console) -> tuple[JobDetails, int]:
    """Show the job until it ends, is quarantined, or the time is up; what it came to, and the exit status.

    Raises KeyboardInterrupt when it is interrupted, at a moment of its own.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    live = console.is_terminal
    with (
        Live(console=console, transient=False, auto_refresh=live, refresh_per_second=10)
        if live
        else _Lines(console) as shown,
        _interruptions() as interrupted,
    ):
        while True:
            details = reading.job_details(database, job_id)
            if details is None:
                raise LookupError(job_id)
            if isinstance(shown, Live):
                shown.update(_picture(details))
            else:
                shown.show(details)
            state = details.job.state
            if state in FINAL or state is JobState.QUARANTINED:
                return details, OF_STATE[state]
            if until is not None and time.monotonic() >= until:
                return details, TIMEOUT
            if interrupted.wait(INTERVAL_S):
                raise KeyboardInterrupt


@contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C: as an exception, it is lost when it comes while Python runs a finaliser.

    The second one is an exception again, for a journal that does not answer.
    """
    interrupted = threading.Event()

    def note(_signal: int, _frame: FrameType | None) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


class _Lines:
    """Prints what changed since it was last shown."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[object, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing to put back."""

    def show(self, details: JobDetails) -> None:
        """The job's beginning before its steps, its end after them."""
        ended = details.job.ended_at is not None
        if not ended:
            self._say("job", (details.job.state, details.job.host, _tenth(details)), _job_line(details))
        for step in details.steps:
            if step.state is not StepState.PENDING:
                self._say((step.direction, step.name), (step.state, step.attempts), _step_line(step))
        if ended:
            self._say("job", details.job.state, _job_line(details))

    def _say(self, about: object, state: object, line: str) -> None:
        if self._said.get(about) != state:
            self._said[about] = state
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _tenth(details: JobDetails) -> int | None:
    """Progress that is worth a line of its own."""
    progress = details.job.progress
    if progress is None or not progress["total_bytes"]:
        return None
    return int(10 * progress["done_bytes"] / progress["total_bytes"])


def _step_line(step: StepRecord) -> str:
    undo = "undo " if step.direction is Direction.UNDO else ""
    tries = f" attempt {step.attempts}" if step.attempts > 1 else ""
    lasted = took(step.started_at, step.ended_at)
    error = f" {step.error.error_class}: {step.error.message}" if step.error else ""
    return f"  {undo}{step.name} {step.state}{tries}{' ' + lasted if lasted else ''}{error}"


def _job_line(details: JobDetails) -> str:
    job = details.job
    parts = [f"{job.operation} {job.instance} on {job.host}: {job.state}"]
    doing = job_sentence(job)
    if doing:
        parts.append(f"({doing})")
    if job.error is not None:
        parts.append(f"{job.error.error_class}: {job.error.told}")
    if job.ended_at is not None and job.started_at is not None:
        parts.append(f"({took(job.started_at, job.ended_at)})")
    return " ".join(parts)


def _picture(details: JobDetails) -> Group:
    table = Table.grid(padding=(0, 2))
    for step in details.steps:
        colour = _COLOURS[step.state]
        undo = "undo " if step.direction is Direction.UNDO else ""
        error = f"{step.error.error_class}: {step.error.message}" if step.error else ""
        table.add_row(
            Text(f"  {undo}{step.name}"),
            Text(step.state, style=colour),
            Text(took(step.started_at, step.ended_at)),
            Text(error, style="red"),
        )
    line = Text(_job_line(details), style="bold")
    moving = details.job.state in {JobState.QUEUED, JobState.RUNNING, JobState.WAITING}
    return Group(table, Spinner("dots", text=line) if moving else line)
