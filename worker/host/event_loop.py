"""libvirt's event loop and what it tells of domains, handed to whoever waits for one.

The loop must be registered before the first connection is opened and must run for as long as the process does:
keepalive and every event depend on it.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from uuid import UUID

import libvirt

_log = logging.getLogger(__name__)
_starting = threading.Lock()
_running: list[threading.Thread] = []
#: A loop that fails at once, again and again, must not take a processor.
_PAUSE_AFTER_FAILURE_S = 0.2


def start_event_loop() -> None:
    """Have the process's one event loop running; a second call finds it running."""
    with _starting:
        if _running:
            return
        # libvirt prints each error on stderr unless somebody takes them; ours are raised and logged once, elsewhere.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()
        loop = threading.Thread(target=_run_for_ever, name="libvirt-events", daemon=True)
        loop.start()
        _running.append(loop)


def _run_for_ever() -> None:
    pause = threading.Event()
    while True:  # for the process's life: libvirt drops a connection whose loop has stopped
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            _log.exception("libvirt's event loop failed and goes on")
            pause.wait(_PAUSE_AFTER_FAILURE_S)


class Wakeups:
    """One waiter's events. Nothing is lost between being registered and waiting."""

    def __init__(self) -> None:
        self._told: SimpleQueue[None] = SimpleQueue()
        self.refusals: frozenset[str] = frozenset()  #: aliases of devices that the guest said it will not let go

    def tell(self) -> None:
        """Wake the waiter; never blocks."""
        self._told.put(None)

    def tell_refusal(self, alias: str) -> None:
        """Wake the waiter with the guest's refusal to let that device go; never blocks."""
        self.refusals |= {alias}
        self.tell()

    def wait(self, timeout_s: float) -> bool:
        """Return at the next event, or when the time is up: whether there was one. The waiter looks either way."""
        try:
            self._told.get(timeout=max(timeout_s, 0.0))
        except Empty:
            return False
        for _ in range(self._told.qsize()):  # a burst of events is one reason to look
            self._told.get_nowait()
        return True


@dataclass(frozen=True)
class News:
    """Something happened to a domain, or may have to any of them. A ``reboot`` changes no state."""

    instance: UUID | None
    reboot: bool = False


class DomainEvents:
    """Hands what happens to domains from the loop's thread to the waiters, without ever blocking that thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: defaultdict[UUID, list[Wakeups]] = defaultdict(list)
        self._everything: SimpleQueue[News] | None = None

    def follow_all(self) -> None:
        """From now on keep what happens, to whichever domain, for `news`. One follows, once for the process."""
        self._everything = SimpleQueue()

    def news(self, timeout_s: float) -> tuple[News, ...]:
        """What happened since the last call, as soon as there is something; nothing when the time is up."""
        if self._everything is None:
            raise RuntimeError("nobody follows the events")
        try:
            found = [self._everything.get(timeout=max(timeout_s, 0.0))]
        except Empty:
            return ()
        found += [self._everything.get_nowait() for _ in range(self._everything.qsize())]
        return tuple(dict.fromkeys(found))

    def tell_reboot(self, instance: UUID) -> None:
        """The instance's guest began anew in its process."""
        self._keep(News(instance, reboot=True))

    @contextmanager
    def watching(self, instance: UUID) -> Iterator[Wakeups]:
        """Events of the instance from now on; enter before looking, so that none falls between."""
        wakeups = Wakeups()
        with self._lock:
            self._waiting[instance].append(wakeups)
        try:
            yield wakeups
        finally:
            with self._lock:
                self._waiting[instance].remove(wakeups)
                if not self._waiting[instance]:
                    del self._waiting[instance]

    def tell(self, instance: UUID) -> None:
        """Something happened to the instance."""
        self._keep(News(instance))
        for wakeups in self._waiting_for(instance):
            wakeups.tell()

    def tell_refusal(self, instance: UUID, alias: str) -> None:
        """The instance's guest said that it will not let that device go."""
        for wakeups in self._waiting_for(instance):
            wakeups.tell_refusal(alias)

    def tell_all(self) -> None:
        """Events may have been missed: everybody looks again."""
        self._keep(News(None))
        with self._lock:
            waiting = tuple(wakeups for several in self._waiting.values() for wakeups in several)
        for wakeups in waiting:
            wakeups.tell()

    def _keep(self, news: News) -> None:
        if self._everything is not None:
            self._everything.put(news)

    def _waiting_for(self, instance: UUID) -> tuple[Wakeups, ...]:
        with self._lock:
            return tuple(self._waiting.get(instance, ()))
