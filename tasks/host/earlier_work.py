"""What other jobs still do on the host."""

from typing import Protocol
from uuid import UUID


class EarlierWork(Protocol):
    """Calls and children of other jobs of an instance that are still at work on this host."""

    def going_on(self, instance: UUID, job: str) -> tuple[str, ...]:
        """The ids of other jobs that still have a call of theirs under way for the instance."""
        ...

    def wait_ended(self, instance: UUID, job: str, deadline_s: float) -> None:
        """Return once none is; HostError(TRANSIENT) when the deadline passed."""
        ...
