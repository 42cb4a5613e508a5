"""Connections to libvirt, one per class of calls: opened when first used, opened again when lost.

libvirtd serves five calls of one connection at a time, so slow calls of one class must not hold up another's.
The embedded driver has no daemon and no such limit; there all classes share one connection.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Final
from uuid import UUID

import libvirt

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.embedded import is_embedded, prepare
from worker.host.errors import Call, os_errors, row_for, translated
from worker.host.event_loop import DomainEvents, start_event_loop
from worker.host.opening import Opener
from worker.host.under_way import CallsUnderWay

_log = logging.getLogger(__name__)

#: A daemon that says nothing for interval * (count + 1) = 20 s is given up, and its calls return.
KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 5, 3
OPEN_DEADLINE_S = 15.0
#: Each abandoned open is a thread and a socket; a daemon that hangs must not collect more of them than this.
ABANDONED_OPENS = 6


class ConnectionClass(StrEnum):
    """Calls of one class share a connection."""

    LOOK = "look"  #: questions, and the events
    SPAWN = "spawn"
    DESTROY = "destroy"  #: calls that no hung guest holds up: they end its process, or need it ended
    ATTACH = "attach"  #: and detach
    POWER = "power"  #: what is asked of a running guest, whose QEMU may hang
    MIGRATE = "migrate"  #: what is asked of a migration under way; the migration itself calls alone


class Connections:
    """The connections of one process to one libvirt."""

    def __init__(self, uri: str, *, open_deadline_s: float = OPEN_DEADLINE_S) -> None:
        self.events = DomainEvents()
        self._uri = uri
        self.under_way = CallsUnderWay()  #: but for those that have a connection alone: they may take their time
        self._open_deadline_s = open_deadline_s
        self._opener: Opener[_Opened] = Opener(open_deadline_s, ABANDONED_OPENS)
        if is_embedded(uri):
            shared = _Slot(uri, self._opener, self.events)
            self._slots = dict.fromkeys(ConnectionClass, shared)
        else:
            self._slots = {
                each: _Slot(uri, self._opener, self.events if each is ConnectionClass.LOOK else None)
                for each in ConnectionClass
            }

    @contextmanager
    def calling(self, connection_class: ConnectionClass, call: Call) -> Iterator[libvirt.virConnect]:
        """A connection for one call; libvirt's errors leave as HostErrors, and a broken connection is not used again.

        Nothing is sent twice here: whoever called decides whether to call again.
        """
        slot = self._slots[connection_class]
        with self.under_way.one(call) as under_way, self._calling(slot, call) as connection:
            if not is_embedded(self._uri):  # which has one connection for all
                under_way.leave = partial(slot.drop, connection)
            yield connection

    @contextmanager
    def calling_alone(self, call: Call) -> Iterator[libvirt.virConnect]:
        """A connection for this one call, however long that takes; the embedded driver has one for all.

        Measured: beside a call that lasts, others on its connection wait now and then for the next keepalive, 5 s; and
        libvirtd has only five calls of one connection in hand at a time.
        """
        if is_embedded(self._uri):
            with self.calling(ConnectionClass.MIGRATE, call) as connection:
                yield connection
            return
        slot = _Slot(self._uri, self._opener, None)
        try:
            with self._calling(slot, call) as connection:
                yield connection
        finally:
            slot.close()

    @contextmanager
    def _calling(self, slot: "_Slot", call: Call) -> Iterator[libvirt.virConnect]:
        connection = slot.connected(self._open_deadline_s)
        try:
            yield connection
        except libvirt.libvirtError as error:
            if row_for(error, call).connection_broken:
                slot.drop(connection)
            raise translated(error, call) from error

    def close(self) -> None:
        """Let go of every connection; guests live on."""
        for slot in set(self._slots.values()):
            slot.close()


class _Opened:
    """An open connection with the callbacks that were registered on it."""

    def __init__(self, uri: str, events: DomainEvents | None) -> None:
        start_event_loop()
        with os_errors(f"prepare the root of {uri}"):
            prepare(uri)
        self.connection = libvirt.open(uri)
        self._events = events
        self._callbacks: list[int] = []
        try:
            self._register()
        except libvirt.libvirtError:
            self.put_away()
            raise

    def _register(self) -> None:
        # The embedded driver and the test driver know neither keepalive nor loss.
        with _unless_unsupported():
            self.connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        if self._events is None:
            return
        with _unless_unsupported():
            self.connection.registerCloseCallback(_connection_lost, self._events)
        for event, callback in _CALLBACKS.items():
            self._callbacks.append(self.connection.domainEventRegisterAny(None, event, callback, self._events))

    def put_away(self) -> None:
        """Undo the registrations, each of which keeps the connection open.

        The connection itself is closed with its last reference, for another thread may be inside a call on it.
        """
        if self._events is None:
            return
        with suppress(libvirt.libvirtError):  # a broken connection cannot say goodbye
            self.connection.unregisterCloseCallback()
        for callback in self._callbacks:
            with suppress(libvirt.libvirtError):
                self.connection.domainEventDeregisterAny(callback)


class _Slot:
    """The place of one connection, which one thread at a time fills."""

    def __init__(self, uri: str, opener: Opener[_Opened], events: DomainEvents | None) -> None:
        self._uri = uri
        self._opener = opener
        self._events = events
        self._filling = threading.Lock()
        self._state = threading.Lock()  # of the two below; never held across a call to libvirt
        self._opened: _Opened | None = None
        self._dropped: list[_Opened] = []

    def connected(self, deadline_s: float) -> libvirt.virConnect:
        opened = self._opened
        if opened is not None and opened.connection.isAlive():
            return opened.connection
        # Whoever fills it now has the same deadline, and then it is this thread's turn.
        if not self._filling.acquire(timeout=2 * deadline_s):
            raise HostError(ErrorClass.TRANSIENT, "another call is still waiting for a connection to libvirt")
        try:
            opened = self._opened
            if opened is None or not opened.connection.isAlive():
                opened = self._fill()
            return opened.connection
        finally:
            self._filling.release()

    def drop(self, connection: libvirt.virConnect) -> None:
        """The connection is broken, or a call hangs on it; another, that somebody else opened since, is left alone."""
        with self._state:
            if self._opened is not None and self._opened.connection is connection:
                self._dropped.append(self._opened)
                self._opened = None

    def close(self) -> None:
        for opened in self._take_all():
            opened.put_away()

    def _fill(self) -> _Opened:
        dropped = self._take_all()

        def opening() -> _Opened:
            # In the thread that may be abandoned: a daemon that hangs can hang a deregistration as well.
            for each in dropped:
                each.put_away()
            return _Opened(self._uri, self._events)

        opened = self._opener.open(opening, _Opened.put_away)
        with self._state:
            self._opened = opened
        _log.info("connected to libvirt", extra={"action": "libvirt_connected", "uri": self._uri})
        if self._events is not None:
            self._events.tell_all()  # nobody told of what happened while there was no connection
        return opened

    def _take_all(self) -> list[_Opened]:
        with self._state:
            dropped = self._dropped
            self._dropped = []
            if self._opened is not None:
                dropped.append(self._opened)
                self._opened = None
        return dropped


@contextmanager
def _unless_unsupported() -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


def _lifecycle(
    _connection: libvirt.virConnect, domain: libvirt.virDomain, _event: int, _detail: int, events: DomainEvents
) -> None:
    """Runs on the event loop's thread: hands over, and returns."""
    events.tell(UUID(bytes=domain.UUID()))


def _rebooted(_connection: libvirt.virConnect, domain: libvirt.virDomain, events: DomainEvents) -> None:
    """Runs on the event loop's thread: hands over, and returns."""
    events.tell_reboot(UUID(bytes=domain.UUID()))


def _device_removed(
    _connection: libvirt.virConnect, domain: libvirt.virDomain, _alias: str, events: DomainEvents
) -> None:
    """Runs on the event loop's thread: hands over, and returns."""
    events.tell(UUID(bytes=domain.UUID()))


def _device_removal_failed(
    _connection: libvirt.virConnect, domain: libvirt.virDomain, alias: str, events: DomainEvents
) -> None:
    """Runs on the event loop's thread: hands over, and returns."""
    events.tell_refusal(UUID(bytes=domain.UUID()), alias)


def _connection_lost(_connection: libvirt.virConnect, reason: int, events: DomainEvents) -> None:
    """Runs on the event loop's thread: whoever waits looks again, which opens the connection anew."""
    _log.warning("lost the connection to libvirt", extra={"action": "libvirt_lost", "reason": reason})
    events.tell_all()


_CALLBACKS: Final[Mapping[int, Callable[..., None]]] = MappingProxyType(
    {
        libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: _lifecycle,
        libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: _rebooted,
        libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: _device_removed,
        libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED: _device_removal_failed,
    }
)
