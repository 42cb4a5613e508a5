"""What a run of the crash suite came to, for its last line."""

from collections import Counter
from dataclasses import dataclass, field

from tests.crash.promises import Kind, Violation


@dataclass
class Tally:
    """Counted while rows are carried out."""

    rows: int = 0
    kills: int = 0  #: faults that were made
    broken: Counter[Kind] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)  #: of rows that broke a promise

    def row(self, name: str, violations: list[Violation]) -> None:
        """One row was carried out."""
        self.rows += 1
        self.broken.update(violation.kind for violation in violations)
        if violations:
            self.names.append(name)


TALLY = Tally()
