"""How the end of a migration is known: its call returns; or, where that is another process's, libvirt has no job."""

import threading
from collections.abc import Callable
from uuid import UUID

from models.states import ErrorClass
from tasks.host import Half, HostError
from worker.host.threaded_call import ThreadedCall

#: Libvirt's word, as sightings give it.
POST_COPY_FAILED = "postcopy failed"


class OwnEnding:
    """The call is this process's: it tells all."""

    def __init__(self, call: ThreadedCall[None]) -> None:
        self._call = call

    def reached(self, within_s: float) -> bool:
        """Whether the call has returned by then."""
        return self._call.returned(within_s)

    def conclude(self) -> None:
        """Raise what the call raised."""
        self._call.result()


class AdoptedEnding:
    """The call was that of a process which is gone. Looks that fail raise: whoever called looks again."""

    def __init__(self, instance: UUID, look: Callable[[UUID], Half]) -> None:
        self._instance = instance
        self._look = look
        self._half = Half(None, under_way=True)
        self._never = threading.Event()

    def reached(self, within_s: float) -> bool:
        """Whether libvirt has no migration of it any more, after that time, or none that gets on."""
        self._never.wait(within_s)
        self._half = self._look(self._instance)
        return not self._half.under_way or _has_broken(self._half)

    def conclude(self) -> None:
        """Nobody is left to say why it failed."""
        domain = self._half.domain
        if domain is not None and domain.active:
            message = f"the migration of {self._instance} ended, and the guest is still here ({domain.reason})"
            raise HostError(ErrorClass.TRANSIENT, message)


def _has_broken(half: Half) -> bool:
    """A post-copy that came to a halt stays under way until it is taken up again."""
    return half.domain is not None and half.domain.reason == POST_COPY_FAILED
