"""What every measurement has in common: a stopwatch, and what is made of its readings."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any


def timed(action: Callable[[], object]) -> float:
    """How long it took, in milliseconds."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


class Times:
    """Readings of operations, each done through Hostler and bare."""

    def __init__(self) -> None:
        self._of: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, operation: str, way: str, action: Callable[[], object], *, counts: bool = True) -> None:
        """Do it and keep how long it took; the rounds in which both sides warm up do not count."""
        took = timed(action)
        if counts:
            self._of[operation, way].append(took)

    def figures(self) -> dict[str, dict[str, Any]]:
        """For each operation the medians, in milliseconds, and their ratio."""
        operations = dict.fromkeys(operation for operation, _ in self._of)
        return {operation: self._figures_of(operation) for operation in operations}

    def _figures_of(self, operation: str) -> dict[str, Any]:
        ours = statistics.median(self._of[operation, "hostler"])
        bare = statistics.median(self._of[operation, "bare"])
        return {"hostler_ms": round(ours, 1), "bare_ms": round(bare, 1), "ratio": round(ours / bare, 3)}
