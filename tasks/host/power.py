"""Power: what a running guest may be made to do without being made or removed."""

from typing import Protocol
from uuid import UUID


class Power(Protocol):
    """The power of domains, by the UUID of their instance. Of a domain that is not ours nothing is asked: CONFLICT."""

    def shut_down(self, instance: UUID, *, deadline_s: float, again_every_s: float) -> None:
        """Ask the guest to shut down, and again as often, and return once it has, or when the deadline has passed.

        A guest without an operating system, or one that is paused, does not hear; that is no error, and a look tells.
        """
        ...

    def pause(self, instance: UUID) -> None:
        """Stop its processors, its memory kept; paused already is no error, not running is HostError(PERMANENT)."""
        ...

    def unpause(self, instance: UUID) -> None:
        """Let its processors run on; running already is no error, not active is HostError(PERMANENT)."""
        ...

    def save(self, instance: UUID, *, deadline_s: float) -> None:
        """Write its memory to a file of libvirt's, and end its process; the next start goes on from there.

        Called off at the deadline: HostError(TRANSIENT), and the guest runs on. Not active is HostError(PERMANENT).
        """
        ...

    def is_saved(self, instance: UUID) -> bool:
        """Whether there is such a file of it."""
        ...
