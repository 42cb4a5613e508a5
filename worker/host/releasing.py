"""Asking a running guest to let a device go: a request, and then only events and looks until its time has passed.

libvirt's own answer to the request tells no more than that it was made.
"""

import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

import libvirt

from models.states import ErrorClass
from tasks.host import GuestDevice, GuestVolume, HostError, ShownDevice
from worker.host.connections import ConnectionClass, Connections
from worker.host.domain_document import DomainDocument, refuse_anothers
from worker.host.errors import Call, is_look_first
from worker.host.event_loop import Wakeups

#: An event lost with a connection must not cost the whole time.
LOOK_AGAIN_S: Final = 2.0


class Release:
    """One device of one instance, on its way out of the running guest."""

    def __init__(
        self, connections: Connections, instance: UUID, device: GuestDevice, watch: Callable[[], bool]
    ) -> None:
        self._connections = connections
        self._instance = instance
        self._device = device
        self._watch = watch

    def ask(self, attempts: int, timeout_s: float) -> None:
        """Return once the guest does not have it; HostError(PERMANENT) when it was asked so often, in vain.

        HostError(TRANSIENT) when whoever watches has it called off.
        """
        with self._connections.events.watching(self._instance) as wakeups:
            for _ in range(attempts):
                shown = self._shown()
                if shown is None:
                    return
                end = time.monotonic() + timeout_s
                self._request(shown.alias)
                if self._gone_before(end, shown.alias, wakeups):
                    return
        times = "once" if attempts == 1 else f"{attempts} times"
        message = f"it was asked {times}, and given {timeout_s:g} s each time"
        raise HostError(ErrorClass.PERMANENT, self._told(f"did not let go of {self._called}: {message}"))

    def _request(self, alias: str) -> None:
        try:
            with self._connections.calling(ConnectionClass.ATTACH, Call.DETACH) as connection:
                # By alias libvirt only passes the request on. By XML it would hold the connection for 5 s as well.
                domain = connection.lookupByUUID(self._instance.bytes)
                domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except HostError as error:
            # A request whose answer was lost may have been made: it has its time like any other.
            if error.error_class is not ErrorClass.UNKNOWN and not is_look_first(error, Call.DETACH):
                raise

    def _gone_before(self, end: float, alias: str, wakeups: Wakeups) -> bool:
        while True:  # until the end, which each round compares
            left = end - time.monotonic()
            try:
                if self._shown() is None:
                    return True
            except HostError as error:
                # The request goes on without us: asking again before its time is up would only disturb it.
                if error.error_class is not ErrorClass.TRANSIENT or left <= 0:
                    raise
            if alias in wakeups.refusals:
                raise HostError(ErrorClass.PERMANENT, self._told(f"refused to let go of {self._called}"))
            if left <= 0:
                return False
            if not self._watch():
                raise HostError(ErrorClass.TRANSIENT, f"waiting for the guest {self._instance} was called off")
            wakeups.wait(min(left, LOOK_AGAIN_S))

    def _shown(self) -> ShownDevice | None:
        """The device as the running guest has it; None when it has not, or does not run."""
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            try:
                document = DomainDocument(connection.lookupByUUID(self._instance.bytes).XMLDesc())
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return None
                raise
        refuse_anothers(self._instance, document.identity)
        return document.find(self._device) if document.active else None

    @property
    def _called(self) -> str:
        if isinstance(self._device, GuestVolume):
            return f"the disk {self._device.target} (volume {self._device.volume.id})"
        return f"the interface {self._device.mac}"

    def _told(self, what: str) -> str:
        again = "send the job again once the guest is off, or answers"
        return f"the guest {self._instance} {what}; nothing was disconnected: {again}"
