"""Stands between clients and a PostgreSQL, on a UNIX socket of its own, and breaks what passes when it is told to."""

import socket
import threading
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import make_url

CHUNK_BYTES = 65536
ENDED_WITHIN_S = 5.0


class Passing(StrEnum):
    """What the proxy does with what comes."""

    ALL = "all"
    NOTHING = "nothing"  #: it keeps what comes, and passes it on when it may again: a server that is stalled
    QUESTIONS = "questions"  #: what clients say reaches the server, and its answers are lost
    NOBODY = "nobody"  #: new clients are turned away, those that were there are cut off: a server that is gone


class DatabaseProxy:
    """A PostgreSQL's address that can be broken. Leaving the context cuts everybody off."""

    def __init__(self, url: str, folder: Path) -> None:
        """``url`` names the server by its UNIX socket's folder; the proxy's own socket is made in ``folder``."""
        server = make_url(url)
        port = str(server.query["port"])
        self._server = Path(str(server.query["host"])) / f".s.PGSQL.{port}"
        self._listening_at = folder / f".s.PGSQL.{port}"
        self.url = server.update_query_dict({"host": str(folder)}).render_as_string(hide_password=False)
        self._changed = threading.Condition()
        self._passing = Passing.ALL
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._listening_at))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, name="database-proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_pass(Passing.NOBODY)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(ENDED_WITHIN_S)
        self._listening_at.unlink()

    def let_pass(self, what: Passing) -> None:
        """From now on."""
        with self._changed:
            self._passing = what
            self._changed.notify_all()
        if what is Passing.NOBODY:
            self.cut()

    def cut(self) -> None:
        """Close every connection that there is; new ones pass as before."""
        with self._changed:
            ends, self._open = self._open, set()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:  # until the listener is closed
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with self._changed:
            turned_away = self._passing is Passing.NOBODY
            if not turned_away:
                self._open |= {client, server}
        if turned_away:
            client.close()
            server.close()
            return
        try:
            server.connect(str(self._server))
        except OSError:
            self._end(client, server)
            return
        for source, sink, answers in ((client, server, False), (server, client, True)):
            pump = threading.Thread(target=self._pump, args=(source, sink), kwargs={"answers": answers}, daemon=True)
            pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                with self._changed:
                    self._changed.wait_for(lambda: self._passing is not Passing.NOTHING)
                    lost = answers and self._passing is Passing.QUESTIONS
                if not lost:
                    sink.sendall(data)
        self._end(source, sink)

    def _end(self, *ends: socket.socket) -> None:
        with self._changed:
            self._open -= set(ends)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
