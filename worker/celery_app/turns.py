"""Turns: what came first is recorded first, among messages about the same thing."""

import threading
from collections import deque


class Turn:
    """One place in a line."""

    def __init__(self, line: deque["Turn"], changed: threading.Condition) -> None:
        self._line = line
        self._changed = changed

    def wait(self, deadline_s: float) -> None:
        """Return once everybody before has done, or when the deadline has passed."""
        with self._changed:
            self._changed.wait_for(lambda: self not in self._line or self._line[0] is self, timeout=deadline_s)

    def done(self) -> None:
        """Let the next one go; done twice is done once."""
        with self._changed:
            if self in self._line:
                self._line.remove(self)
                self._changed.notify_all()


class Turns:
    """Lines, each kept for as long as somebody stands in it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: dict[str, deque[Turn]] = {}

    def take(self, about: str) -> Turn:
        """The next place in the line about this."""
        with self._changed:
            self._lines = {name: line for name, line in self._lines.items() if line}
            line = self._lines.setdefault(about, deque())
            turn = Turn(line, self._changed)
            line.append(turn)
            return turn
