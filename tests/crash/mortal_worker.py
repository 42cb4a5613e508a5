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
from tasks.operation import Reserving, Sight, Step, Work
from tests.crash.moments import Armed, Deed, Moment
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


class MortalStep:
    """The step, and the death, or the pause, of whoever carries it out."""

    def __init__(self, step: Step[Any], folder: Path) -> None:
        self._step = step
        self._folder = folder

    @property
    def name(self) -> str:
        """The step's own name: the journal sees no difference."""
        return self._step.name

    def plan(self, work: Work[Any], host: Host) -> Json:
        """As the step does."""
        return self._step.plan(work, host)

    def look(self, work: Work[Any], host: Host) -> Sight:
        """As the step does, if its worker lives."""
        self._meet(Moment.LOOK)
        return self._step.look(work, host)

    def do(self, work: Work[Any], host: Host) -> None:
        """As the step does, if its worker lives."""
        self._meet(Moment.INTENDED)
        # An effect cannot be held: what is broken in its middle is broken while it goes on.
        dies = self._at(Moment.DO).meet() is Deed.DIE
        if dies:
            threading.Timer(INTO_THE_EFFECT_S.get(self.name, INTO_ANY_EFFECT_S), _die).start()
        self._step.do(work, host)
        if dies:
            threading.Event().wait()  # whichever is first: nothing of this is journaled
        self._meet(Moment.MADE)

    def undo(self, work: Work[Any], host: Host) -> None:
        """As the step does, if its worker lives."""
        self._meet(Moment.UNDO)
        self._step.undo(work, host)
        self._meet(Moment.UNDONE)

    def changes(self, work: Work[Any]) -> tuple[Change, ...]:
        """As the step does."""
        return self._step.changes(work)

    def reserves(self, work: Work[Any]) -> tuple[Change, ...]:
        """As the step does, if it does."""
        return self._step.reserves(work) if isinstance(self._step, Reserving) else ()

    def _at(self, moment: Moment) -> Armed:
        return Armed(self._folder, self.name, moment)

    def _meet(self, moment: Moment) -> None:
        match self._at(moment).meet():
            case Deed.DIE:
                _die()
            case Deed.HOLD:
                self._at(moment).hold()
            case None:
                pass


def main() -> int:
    """Serve, with mortal steps."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = Path(os.environ["LAB_MARKS"])
    catalogue = {
        name: replace(operation, steps=tuple(MortalStep(step, folder) for step in operation.steps))
        for name, operation in OPERATIONS.items()
    }
    return run_worker(load(), catalogue=catalogue)


if __name__ == "__main__":
    sys.exit(main())
