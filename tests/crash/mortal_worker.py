"""A worker that kills itself at a given moment of a given step, once: the product's own, with its steps wrapped.

``LAB_KILLS`` lists ``STEP:MOMENT``; each kill leaves a file in ``LAB_MARKS`` and never happens again.
"""

import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from models.records import Change, Json
from tasks.catalogue import OPERATIONS
from tasks.host import Host
from tasks.operation import Sight, Step, Work
from worker.settings import load
from worker.wiring import run_worker


class Moment(StrEnum):
    """When, in the life of a step, its worker dies."""

    LOOK = "look"  #: before it is looked at
    INTENDED = "intended"  #: after the intent's commit, before the effect
    DO = "do"  #: while the effect is being made
    MADE = "made"  #: after the effect, before anything is journaled of it


#: How long after the effect was begun the worker dies, in seconds: in the middle of the calls that take long.
INTO_THE_EFFECT_S = {"DomainRunning": 0.1, "DomainStopped": 0.05}
INTO_ANY_EFFECT_S = 0.004


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class MortalStep:
    """The step, and the death of whoever carries it out."""

    def __init__(self, step: Step[Any], moments: dict[Moment, Path]) -> None:
        self._step = step
        self._moments = moments

    @property
    def name(self) -> str:
        """The step's own name: the journal sees no difference."""
        return self._step.name

    def _due(self, moment: Moment) -> bool:
        mark = self._moments.get(moment)
        if mark is None:
            return False
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def plan(self, work: Work[Any], host: Host) -> Json:
        """As the step does."""
        return self._step.plan(work, host)

    def look(self, work: Work[Any], host: Host) -> Sight:
        """As the step does, if its worker lives."""
        if self._due(Moment.LOOK):
            _die()
        return self._step.look(work, host)

    def do(self, work: Work[Any], host: Host) -> None:
        """As the step does, if its worker lives."""
        if self._due(Moment.INTENDED):
            _die()
        if self._due(Moment.DO):
            threading.Timer(INTO_THE_EFFECT_S.get(self.name, INTO_ANY_EFFECT_S), _die).start()
            self._step.do(work, host)
            threading.Event().wait()  # whichever is first: nothing of this is journaled
        self._step.do(work, host)
        if self._due(Moment.MADE):
            _die()

    def undo(self, work: Work[Any], host: Host) -> None:
        """As the step does."""
        self._step.undo(work, host)

    def changes(self, work: Work[Any]) -> tuple[Change, ...]:
        """As the step does."""
        return self._step.changes(work)


def main() -> int:
    """Serve, with mortal steps."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    marks = Path(os.environ["LAB_MARKS"])
    kills: dict[str, dict[Moment, Path]] = {}
    for kill in filter(None, os.environ["LAB_KILLS"].split(",")):
        step, moment = kill.split(":")
        kills.setdefault(step, {})[Moment(moment)] = marks / f"{step}-{moment}"
    catalogue = {
        name: replace(operation, steps=tuple(MortalStep(step, kills.get(step.name, {})) for step in operation.steps))
        for name, operation in OPERATIONS.items()
    }
    return run_worker(load(), catalogue=catalogue)


if __name__ == "__main__":
    sys.exit(main())
