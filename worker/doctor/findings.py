"""Checks and what they find. Each runs in a thread of its own, and one that hangs is a finding as well."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from queue import Empty, SimpleQueue


class Level(StrEnum):
    """What a finding means."""

    OK = "ok"
    WARNING = "warning"  #: it works, but perhaps not as it is meant to
    PROBLEM = "problem"  #: jobs will fail, or wait
    UNKNOWN = "unknown"  #: it could not be looked at; another finding says why


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do about it (empty where nothing is to be done)."""

    check: str
    level: Level
    what: str
    do: str = ""

    @property
    def line(self) -> str:
        """The finding as one line, without its level."""
        text = f"{self.check}: {self.what}"
        return " ".join((f"{text}; {self.do}" if self.do else text).split())


def fine(check: str, what: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check, Level.OK, what)


def warning(check: str, what: str, do: str) -> Finding:
    """It works, but perhaps not as it is meant to."""
    return Finding(check, Level.WARNING, what, do)


def problem(check: str, what: str, do: str) -> Finding:
    """Something is wrong."""
    return Finding(check, Level.PROBLEM, what, do)


def unknown(check: str, why: str) -> Finding:
    """It could not be looked at."""
    return Finding(check, Level.UNKNOWN, f"not looked at: {why}")


@dataclass(frozen=True)
class Check:
    """A look at one part of the host, which may find several things.

    ``names`` are the checks that its findings are of. ``hint`` says what to do if it does not return in time.
    """

    names: tuple[str, ...]
    look: Callable[[], Sequence[Finding]]
    deadline_s: float
    hint: str


@dataclass
class _Look:
    check: Check
    results: SimpleQueue[Sequence[Finding] | Exception] = field(default_factory=SimpleQueue)

    def begin(self) -> None:
        threading.Thread(target=self._run, name=f"doctor-{self.check.names[0]}", daemon=True).start()

    def _run(self) -> None:
        try:
            self.results.put(self.check.look())
        except Exception as error:  # noqa: BLE001  # handed over, and told as a finding
            self.results.put(error)

    def end(self, began: float) -> Sequence[Finding]:
        first, *others = self.check.names
        left_s = began + self.check.deadline_s - time.monotonic()
        try:
            result = self.results.get(timeout=max(left_s, 0.0))
        except Empty:
            result = [problem(first, f"no answer within {self.check.deadline_s:g} s", self.check.hint)]
        if isinstance(result, Exception):
            what = f"the look itself failed: {type(result).__name__}: {result}"
            result = [problem(first, what, self.check.hint)]
        found = {finding.check for finding in result}
        return [*result, *(unknown(name, f"{first} comes first") for name in others if name not in found)]


def examine(checks: Sequence[Check]) -> list[Finding]:
    """What all the checks find, in their order. They look side by side; a hung one is left behind in its thread."""
    looks = [_Look(check) for check in checks]
    began = time.monotonic()
    for look in looks:
        look.begin()
    return [finding for look in looks for finding in look.end(began)]
