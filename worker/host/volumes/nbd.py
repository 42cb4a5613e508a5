"""Volumes on NBD servers, which QEMU itself speaks to. Connecting them makes nothing on this host.

A server must take several clients at a time and stay when one leaves (of qemu-nbd: ``--shared=0 --persistent``):
whoever asks whether it is within reach is one of them.
"""

import re
import socket
import time
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import override

from models.states import ErrorClass
from tasks.host import HostError, Volume
from worker.host.device_xml import DiskSource
from worker.host.roots import FileType, Roots
from worker.host.volumes.kind import refused, text_of

#: The greeting of every NBD server; see the protocol's "newstyle negotiation".
MAGIC: Final = b"NBDMAGIC"
DEFAULT_PORT: Final = 10809
#: Looking the name up, connecting and being greeted, together; a resolver that hangs has limits of its own.
REACH_DEADLINE_S: Final = 5.0
#: Several addresses of one name are tried one after another.
_ADDRESSES_TRIED: Final = 4
_EXPORT_BYTES: Final = 4096  #: the protocol's own limit
#: A name, whose labels are no longer than DNS has them, or an IPv6 address.
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9][\w-]{0,62}(\.[\w-]{1,63})*|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", re.ASCII)
_PERMITTED = re.compile(r"\[(?P<literal>[0-9A-Fa-f:.]+)\](:(?P<its_port>\d+))?|(?P<name>[^:]+):(?P<port>\d+)")


@dataclass(frozen=True)
class _Server:
    """Where a volume's bytes are served: ``host`` and ``port``, or a ``socket``."""

    export: str
    host: str = ""
    port: int = 0
    socket: str = ""

    @override
    def __str__(self) -> str:
        return self.socket or f"{self.host}:{self.port}"


class NbdVolumes:
    """Kind ``nbd``. ``servers`` are permitted: each ``HOST``, with any port, ``HOST:PORT``, or ``*``."""

    def __init__(self, roots: Roots, servers: tuple[str, ...]) -> None:
        self._roots = roots
        self._servers = frozenset(_permission(server) for server in servers)

    def connected(self, volume: Volume) -> bool:
        """Whether the server greets; HostError(TRANSIENT) when it does not in time."""
        server = self._server(volume)
        try:
            greeting = _greeting(server, time.monotonic() + REACH_DEADLINE_S)
        except OSError as error:
            message = f"the NBD server {server} of the volume {volume.id} cannot be reached: {error}"
            raise HostError(ErrorClass.TRANSIENT, message, errno=error.errno) from error
        if greeting != MAGIC:
            raise refused(volume, f"{server} is no NBD server")
        return True

    def held(self, volume: Volume) -> bool:
        """Never: connecting makes nothing."""
        return False

    def connect(self, volume: Volume) -> None:
        """See that the server greets: it is QEMU that connects."""
        self.connected(volume)

    def disconnect(self, volume: Volume) -> None:
        """Connecting made nothing."""

    def source(self, volume: Volume) -> DiskSource:
        """The export; QEMU's default cache, for the server has its own."""
        server = self._server(volume)
        export = {"name": server.export} if server.export else {}
        if server.socket:
            host = {"transport": "unix", "socket": server.socket}
        else:
            host = {"name": server.host, "port": str(server.port)}
        return DiskSource("network", "raw", {"protocol": "nbd"} | export, (host,))

    def _server(self, volume: Volume) -> _Server:
        """What the volume names, if it is permitted."""
        export = volume.where.get("export") or ""
        if not isinstance(export, str) or len(export.encode(errors="replace")) > _EXPORT_BYTES:
            raise refused(volume, "its export is no text that NBD can carry")
        if volume.where.get("socket") is not None:
            return _Server(export, socket=self._roots.found(text_of(volume, "socket"), FileType.SOCKET))
        host, port = text_of(volume, "host"), volume.where.get("port", DEFAULT_PORT)
        if not _HOST.fullmatch(host):
            raise refused(volume, f"its host {host!r} is neither a name nor an address")
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 2**16:
            raise refused(volume, f"its port is {port!r}")
        if not self._servers & {("*", None), (host.lower(), None), (host.lower(), port)}:
            raise refused(volume, f"{host}:{port} is not a server that HOSTLER_NBD_SERVERS permits")
        return _Server(export, host=host, port=port)


def _permission(server: str) -> tuple[str, int | None]:
    match = _PERMITTED.fullmatch(server)
    if match is None:
        return server.lower(), None
    host, port = match["literal"] or match["name"], match["its_port"] or match["port"]
    return host.lower(), int(port) if port else None


def _greeting(server: _Server, end: float) -> bytes:
    with _connected(server, end) as connection:
        received = b""
        while len(received) < len(MAGIC):
            connection.settimeout(_left(end))
            more = connection.recv(len(MAGIC) - len(received))
            if not more:
                raise ConnectionResetError("it hung up without a greeting")
            received += more
        return received


def _connected(server: _Server, end: float) -> socket.socket:
    if server.socket:
        return _connect(socket.AF_UNIX, server.socket, end)
    failure = OSError(f"{server.host} has no address")
    found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    for family, _, _, _, address in found[:_ADDRESSES_TRIED]:
        try:
            return _connect(family, address, end)
        except OSError as error:
            failure = error
    raise failure


def _connect(family: int, address: tuple[Any, ...] | str, end: float) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(end))
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"it did not answer within {REACH_DEADLINE_S:g} s")
    return left
