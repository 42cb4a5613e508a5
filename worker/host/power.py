"""Power through libvirt: asked of the domain, waited for by event, and told by a look."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final
from uuid import UUID

import libvirt

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.connections import ConnectionClass, Connections
from worker.host.domain_calls import DomainCalls
from worker.host.errors import Call, is_look_first
from worker.host.event_loop import Wakeups
from worker.host.sightings import Presence
from worker.host.threaded_call import ThreadedCall

_log = logging.getLogger(__name__)

#: An event lost with a connection must not cost the whole deadline.
LOOK_AGAIN_S: Final = 2.0
#: Between two looks at a guest whose asking hangs.
LEAST_PAUSE_S: Final = 0.5


class LibvirtPower:
    """The port's `Power`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._calls = DomainCalls(connections)

    def shut_down(self, instance: UUID, *, deadline_s: float, again_every_s: float) -> None:
        """Asked through ACPI, or the guest's agent where there is one.

        The call has a thread of its own, for a QEMU that hangs would keep it past the deadline; what it meets is
        logged: whether the guest is off, a look tells.
        """
        end = time.monotonic() + deadline_s
        asking: ThreadedCall[None] | None = None
        asked_last = 0.0
        first = self._calls.ours(ConnectionClass.LOOK, instance)
        with self._connections.events.watching(instance) as wakeups:
            while first is not None and first.active:  # until the deadline, which each round compares
                now = self._calls.ours(ConnectionClass.LOOK, instance)
                if now is None or now.run != first.run or time.monotonic() >= end:
                    return
                if asking is None or (asking.returned() and time.monotonic() >= asked_last + again_every_s):
                    asked_last = time.monotonic()
                    asking = ThreadedCall(partial(self._ask, instance), name=f"shut-down-{instance}")
                _wait(wakeups, min(end, max(asked_last + again_every_s, time.monotonic() + LEAST_PAUSE_S)))

    def _ask(self, instance: UUID) -> None:
        """In a thread that may be left behind: the call returns at the latest when the guest's process has ended."""
        try:
            with self._connections.calling(ConnectionClass.POWER, Call.SHUT_DOWN) as connection:
                connection.lookupByUUID(instance.bytes).shutdown()
        except HostError as error:
            level = logging.INFO if is_look_first(error, Call.SHUT_DOWN) else logging.WARNING
            _log.log(level, "a guest could not be asked to shut down: instance=%s %s", instance, error)

    def pause(self, instance: UUID) -> None:
        """Libvirt's ``suspend``."""
        self._steer(instance, Call.PAUSE, lambda domain: domain.suspend(), libvirt.VIR_DOMAIN_PAUSED)

    def unpause(self, instance: UUID) -> None:
        """Libvirt's ``resume``."""
        self._steer(instance, Call.RESUME, lambda domain: domain.resume(), libvirt.VIR_DOMAIN_RUNNING)

    def save(self, instance: UUID, *, deadline_s: float) -> None:
        """Libvirt's managed save, called off by aborting its job."""
        present = self._active(instance, "save")
        called_off = threading.Timer(deadline_s, self._call_off, args=(instance,))
        called_off.start()
        try:
            with self._connections.calling_alone(Call.SAVE) as connection:
                connection.lookupByUUID(instance.bytes).managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)
        except HostError:
            now = self._calls.ours(ConnectionClass.POWER, instance)
            if now is None or now.run == present.run or not self.is_saved(instance):
                raise
        finally:
            called_off.cancel()

    def is_saved(self, instance: UUID) -> bool:
        """As libvirt knows."""
        present = self._calls.ours(ConnectionClass.LOOK, instance)
        if present is None:
            return False
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK):
            return bool(present.domain.hasManagedSaveImage())

    def _call_off(self, instance: UUID) -> None:
        """In the timer's thread; whoever saves meets the abort, or the connection's loss, as its own error."""
        with suppress(HostError), self._connections.calling(ConnectionClass.POWER, Call.ABORT) as connection:
            connection.lookupByUUID(instance.bytes).abortJob()

    def _steer(self, instance: UUID, call: Call, effect: Callable[[libvirt.virDomain], object], wanted: int) -> None:
        """Have the effect, unless it is so; libvirt's refusal is no error if a look shows that it is."""
        present = self._active(instance, call)
        refusal = self._calls.attempt(ConnectionClass.POWER, call, lambda: effect(present.domain))
        if refusal is not None:
            with self._connections.calling(ConnectionClass.LOOK, Call.LOOK):
                state, _ = present.domain.state()
            if state != wanted:
                raise refusal

    def _active(self, instance: UUID, what: str) -> Presence:
        present = self._calls.ours(ConnectionClass.POWER, instance)
        if present is None or not present.active:
            message = f"the domain {instance} does not run; libvirt cannot {what}"
            raise HostError(ErrorClass.PERMANENT, message, code="OPERATION_INVALID", domain="QEMU")
        return present


def _wait(wakeups: Wakeups, until: float) -> None:
    left = until - time.monotonic()
    if left > 0:
        wakeups.wait(min(left, LOOK_AGAIN_S))
