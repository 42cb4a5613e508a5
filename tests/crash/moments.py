"""The moments of a step at which something is to happen, armed from outside and met, each once, by a mortal worker.

A test arms a moment of a step in the worker's folder: the worker then dies there (`Deed.DIE`), or says that it is there
and waits until it may go on (`Deed.HOLD`), so that the test can break anything else exactly then.
"""

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.lab.waiting import NeverHappenedError, eventually

HELD_WITHIN_S = 60.0
#: A worker that is held goes on by itself after this: a test that failed meanwhile must not hang it.
HOLDS_FOR_S = 60.0
#: In the place of a step's name, for what belongs to a job as a whole.
JOB = "job"


class Moment(StrEnum):
    """When, in the life of a step."""

    LOOK = "look"  #: before it is looked at
    LOOKED = "looked"  #: after it was looked at
    INTENDING = "intending"  #: in the transaction of the intent, before its commit
    INTENDED = "intended"  #: after the intent's commit, before the effect
    DO = "do"  #: while the effect is being made
    MADE = "made"  #: after the effect, before anything is journaled of it
    DONE = "done"  #: after the commit that says so
    SETTLE = "settle"  #: of a job: in the transaction that ends it, before its commit
    UNDO = "undo"  #: after the undo's intent, before it
    UNDONE = "undone"  #: after the undo, before anything is journaled of it


#: A step on its way forward, and on its way back.
MAKING = (Moment.LOOK, Moment.INTENDED, Moment.DO, Moment.MADE)
UNDOING = (Moment.UNDO, Moment.UNDONE)


class Deed(StrEnum):
    """What a worker does at an armed moment."""

    DIE = "die"
    HOLD = "hold"


@dataclass(frozen=True)
class Armed:
    """One moment of one step, armed in the folder of a site's worker: of one job, or of whichever comes first."""

    folder: Path
    step: str
    moment: Moment
    job: str = ""

    def arm(self, deed: Deed = Deed.DIE) -> None:
        """From now on it is met by whichever worker of the folder comes there first."""
        for left in (self._met, self._released):
            left.unlink(missing_ok=True)
        unfinished = self._file("arming")
        unfinished.write_text(deed.value)
        unfinished.rename(self._file("armed"))

    def disarm(self) -> None:
        """Nothing happens there any more; a worker that is held goes on."""
        self._file("armed").unlink(missing_ok=True)
        self.release()

    def meet(self) -> Deed | None:
        """What is to be done, if it is armed: asked by the worker; each armed moment is met once."""
        try:
            self._file("armed").rename(self._met)
        except FileNotFoundError:
            return None
        return Deed(self._met.read_text())

    @property
    def met(self) -> bool:
        """Whether a worker has come there."""
        return self._met.exists()

    def release(self) -> None:
        """Let the worker that is held there go on."""
        self._released.touch()

    def hold(self) -> None:
        """Wait to be released, in the worker, for so long at most."""
        with suppress(NeverHappenedError):
            eventually(self._released.exists, f"{self.step} may go on", HOLDS_FOR_S, poll_s=0.05)

    @property
    def _met(self) -> Path:
        return self._file("met")

    @property
    def _released(self) -> Path:
        return self._file("released")

    def _file(self, state: str) -> Path:
        return self.folder / ".".join(word for word in (self.step, self.moment, self.job, state) if word)
