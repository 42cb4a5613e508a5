"""An operation of four facts that are about nothing real: what a job of it takes is what Hostler itself takes.

Its facts are made in the memory of the worker, so that a worker which died finds them absent again. Where a worker is
told to keep marks, each moment of the steps is a line of a file: the moment, job, step and time.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from models.records import Change, Json
from models.states import JobClass
from tasks.host import Host
from tasks.operation import Absent, Operation, Sight, There, Work
from tasks.requests import Request
from tests.lab.waiting import eventually

#: The environment variable that names the folder of a worker's marks.
MARKS = "BENCH_JOBS_MARKS"
#: While this file is in the folder of marks, an effect does not end.
HOLD = "hold"


@dataclass(frozen=True)
class Mark:
    """One moment of one step; ``at`` is on the machine's monotonic clock, in seconds."""

    moment: str
    job: str
    step: str
    at: float


class Marks:
    """The moments that workers with this folder met, in order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "marks"

    def make(self, moment: str, job: str, step: str) -> None:
        """Add one; lines of several threads do not mix."""
        line = f"{moment} {job} {step} {time.monotonic()!r}\n".encode()
        file = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)

    def read(self) -> list[Mark]:
        """All that were made."""
        if not self._file.exists():
            return []
        lines = (line.split() for line in self._file.read_text().splitlines())
        return [Mark(moment, job, step, float(at)) for moment, job, step, at in lines]

    def hold(self) -> None:
        """From now on no effect ends."""
        (self._folder / HOLD).touch()

    def release(self) -> None:
        """Effects end at once."""
        (self._folder / HOLD).unlink(missing_ok=True)

    def wait_while_held(self, for_s: float = 60.0) -> None:
        """Return once effects end."""
        eventually(lambda: not (self._folder / HOLD).exists(), "effects end again", for_s)


class FactMade:
    """The process that carries out the job remembers having made the fact."""

    def __init__(self, name: str, marks: Marks | None) -> None:
        self.name = name
        self._marks = marks
        self._made: set[str] = set()

    def plan(self, work: Work[Request], host: Host) -> Json:
        """An identity, as every effect has one."""
        return {"id": f"{work.instance}-{self.name}"}

    def look(self, work: Work[Request], host: Host) -> Sight:
        """Remembered or not."""
        self._mark("look", work)
        return There() if work.job in self._made else Absent()

    def do(self, work: Work[Request], host: Host) -> None:
        """Remember it."""
        self._mark("do", work)
        self._made.add(work.job)
        if self._marks is not None:
            self._marks.wait_while_held()

    def undo(self, work: Work[Request], host: Host) -> None:
        """Forget it."""
        self._made.discard(work.job)

    def changes(self, work: Work[Request]) -> tuple[Change, ...]:
        """The inventory learns nothing."""
        return ()

    def _mark(self, moment: str, work: Work[Request]) -> None:
        if self._marks is not None:
            self._marks.make(moment, work.job, self.name)


STEPS = ("FirstMade", "SecondMade", "ThirdMade", "FourthMade")


def noop(marks: Marks | None = None) -> Operation[Request]:
    """The operation; each worker has its own."""
    steps = tuple(FactMade(name, marks) for name in STEPS)
    return Operation("noop", Request, steps=steps, job_class=JobClass.POWER)


def catalogue_of(operation: Operation[Request]) -> dict[str, Operation[Request]]:
    """A catalogue of it alone."""
    return {operation.name: operation}
