"""A worker that meets what is armed at the moments of its steps: the product's own, with its steps wrapped.

``LAB_MARKS`` is the folder in which moments are armed (see `tests.crash.moments`).
"""

import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.records import Change, Json
from tasks.catalogue import OPERATIONS
from tasks.host import Host
from tasks.operation import Reserving, Sight, Step, TellingUndone, TellingWarnings, Work
from tests.crash.moments import Armed, Deed, Moment
from tests.crash.transactions import Transactions
from worker.settings import load
from worker.wiring import run_worker

#: How long after the effect was begun its middle is, in seconds, where the calls take long.
INTO_THE_EFFECT_S = {
    "DomainRunning": 0.1,
    "DomainStopped": 0.05,
    "VolumeReleased": 0.05,
    "InterfaceReleased": 0.05,
    "DomainMigrated": 0.5,
}
INTO_ANY_EFFECT_S = 0.004


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def meet(folder: Path, step: str, moment: Moment, job: str) -> None:
    """Do what is armed there, for this job or for any."""
    for armed in (Armed(folder, step, moment, job), Armed(folder, step, moment)):
        match armed.meet():
            case Deed.DIE:
                _die()
            case Deed.HOLD:
                armed.hold()
            case None:
                pass


class MortalStep:
    """The step, and the death, or the pause, of whoever carries it out."""

    def __init__(self, step: Step[Any], folder: Path, transactions: Transactions) -> None:
        self._step = step
        self._folder = folder
        self._transactions = transactions

    @property
    def name(self) -> str:
        """The step's own name: the journal sees no difference."""
        return self._step.name

    def plan(self, work: Work[Any], host: Host) -> Json:
        """As the step does."""
        return self._step.plan(work, host)

    def look(self, work: Work[Any], host: Host) -> Sight:
        """As the step does, if its worker lives."""
        self._meet(Moment.LOOK, work)
        sight = self._step.look(work, host)
        self._transactions.looked(work.job, self.name)
        self._meet(Moment.LOOKED, work)
        return sight

    def do(self, work: Work[Any], host: Host) -> None:
        """As the step does, if its worker lives."""
        self._meet(Moment.INTENDED, work)
        # An effect cannot be held: what is broken in its middle is broken while it goes on.
        middle = [Armed(self._folder, self.name, Moment.DO, job) for job in ("", work.job)]
        dies = Deed.DIE in [armed.meet() for armed in middle]
        if dies:
            threading.Timer(INTO_THE_EFFECT_S.get(self.name, INTO_ANY_EFFECT_S), _die).start()
        self._step.do(work, host)
        if dies:
            threading.Event().wait()  # whichever is first: nothing of this is journaled
        self._meet(Moment.MADE, work)
        self._transactions.made(work.job, self.name)

    def undo(self, work: Work[Any], host: Host) -> None:
        """As the step does, if its worker lives."""
        self._meet(Moment.UNDO, work)
        self._step.undo(work, host)
        self._meet(Moment.UNDONE, work)

    def changes(self, work: Work[Any]) -> tuple[Change, ...]:
        """As the step does."""
        return self._step.changes(work)

    def reserves(self, work: Work[Any]) -> tuple[Change, ...]:
        """As the step does, if it does."""
        return self._step.reserves(work) if isinstance(self._step, Reserving) else ()

    def warnings(self, work: Work[Any]) -> tuple[str, ...]:
        """As the step does, if it does."""
        return self._step.warnings(work) if isinstance(self._step, TellingWarnings) else ()

    def _meet(self, moment: Moment, work: Work[Any]) -> None:
        meet(self._folder, self.name, moment, work.job)


class MortalTellingStep(MortalStep):
    """A mortal step that tells what is left of it."""

    def undone(self, work: Work[Any], host: Host) -> bool:
        """As the step does."""
        assert isinstance(self._step, TellingUndone)
        return self._step.undone(work, host)


def main() -> int:
    """Serve, with mortal steps."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = Path(os.environ["LAB_MARKS"])
    transactions = Transactions(lambda step, moment, job: meet(folder, step, moment, job))
    transactions.watch()

    def mortal(step: Step[Any]) -> MortalStep:
        kind = MortalTellingStep if isinstance(step, TellingUndone) else MortalStep
        return kind(step, folder, transactions)

    catalogue = {
        name: replace(operation, steps=tuple(mortal(step) for step in operation.steps))
        for name, operation in OPERATIONS.items()
    }
    return run_worker(load(), catalogue=catalogue)


if __name__ == "__main__":
    sys.exit(main())
