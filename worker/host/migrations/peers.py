"""Looks at other hosts' libvirtds, each with a deadline: a host that cannot be seen must not hold anybody up."""

import threading
from collections.abc import Callable
from typing import Final
from uuid import UUID

import libvirt

from models.states import ErrorClass
from tasks.host import Half, HostError, Peer
from worker.host.errors import Call, translated
from worker.host.event_loop import start_event_loop
from worker.host.facts import host_uuid_in
from worker.host.migrations.calls import Questions
from worker.host.migrations.jobs import half_of
from worker.host.migrations.request import libvirt_uri

#: A look, with the opening of its connection.
LOOK_DEADLINE_S: Final = 8.0
#: A daemon that says nothing for interval * (count + 1) = 4 s is given up.
KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 1, 3


class AnotherLibvirtdError(HostError):
    """What answers is not the host that was asked for: another look at it tells no more."""


def open_peer(uri: str) -> libvirt.virConnect:
    """A connection to another host's libvirtd; it never returns when that one hangs."""
    start_event_loop()
    connection = libvirt.open(uri)
    connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
    return connection


class Peers:
    """The other hosts that this process has looked at: one connection each, opened again when it is broken."""

    def __init__(
        self,
        questions: Questions,
        *,
        opening: Callable[[str], libvirt.virConnect] = open_peer,
        deadline_s: float = LOOK_DEADLINE_S,
    ) -> None:
        self._questions = questions
        self._opening = opening
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._connections: dict[str, libvirt.virConnect] = {}
        self._proven: dict[str, tuple[int, UUID]] = {}

    def half(self, instance: UUID, peer: Peer) -> Half:
        """The peer's half. A peer that has not said how it is reached is HostError(PERMANENT), all else TRANSIENT."""
        uri = libvirt_uri(peer)
        try:
            return self._questions.ask((uri, instance), lambda: self._look(uri, instance, peer), self._deadline_s)
        except AnotherLibvirtdError:
            raise
        except HostError as error:
            self._drop(uri)
            record = error.record
            raise HostError(
                ErrorClass.TRANSIENT,
                f"host {peer.name} cannot be seen: {record.message}",
                code=record.code,
                domain=record.domain,
                errno=record.errno,
            ) from error

    def resume(self, instance: UUID, peer: Peer) -> None:
        """Let a guest that has come to the peer, and waits there, run."""
        uri = libvirt_uri(peer)

        def resuming() -> None:
            try:
                self._connected(uri).lookupByUUID(instance.bytes).resume()
            except libvirt.libvirtError as error:
                raise translated(error, Call.RESUME) from error

        self._questions.ask((uri, Call.RESUME, instance), resuming, self._deadline_s)

    def close(self) -> None:
        """Let go of every connection."""
        with self._lock:
            self._connections.clear()

    def _look(self, uri: str, instance: UUID, peer: Peer) -> Half:
        connection = self._connected(uri)
        self._refuse_another(connection, uri, peer)
        try:
            return half_of(connection, instance)
        except libvirt.libvirtError as error:
            raise translated(error, Call.LOOK) from error

    def _refuse_another(self, connection: libvirt.virConnect, uri: str, peer: Peer) -> None:
        """Once per connection: a name that leads to this very host would make a guest its own destination."""
        if peer.libvirt_host is None or self._proven.get(uri) == (id(connection), peer.libvirt_host):
            return
        try:
            answering = host_uuid_in(connection.getCapabilities())
        except libvirt.libvirtError as error:
            raise translated(error, Call.LOOK) from error
        if answering != peer.libvirt_host:
            message = (
                f"at {uri} another libvirtd answers (host UUID {answering}) than that of host {peer.name} "
                f"({peer.libvirt_host}): HOSTLER_PEER_LIBVIRT_URI there is wrong"
            )
            raise AnotherLibvirtdError(ErrorClass.PERMANENT, message)
        self._proven[uri] = (id(connection), peer.libvirt_host)

    def _connected(self, uri: str) -> libvirt.virConnect:
        with self._lock:
            connection = self._connections.get(uri)
        if connection is not None and connection.isAlive():
            return connection
        try:
            connection = self._opening(uri)
        except libvirt.libvirtError as error:
            raise translated(error, Call.OPEN) from error
        with self._lock:
            self._connections[uri] = connection
        return connection

    def _drop(self, uri: str) -> None:
        """Not used again, whatever was wrong with it; it is closed with its last reference."""
        with self._lock:
            self._connections.pop(uri, None)
