"""A small web server of images, on loopback, which counts what it is asked for and can be told to misbehave."""

import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from tests.lab.authority import Certificate

END_WITHIN_S = 10.0


class ImageServer:
    """Serves ``files``, by path, until the context is left.

    ``redirects`` are other URLs for paths; ``breaks_after`` so many bytes the next answer's connection breaks.
    """

    def __init__(self, address: str = "127.0.0.1", *, certificate: Certificate | None = None) -> None:
        """With a certificate it speaks https."""
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.headers: dict[str, str] = {}  #: of every answer; an empty one is left out
        self.asked: list[tuple[str, str, str | None]] = []  #: method, path, range
        self.breaks_after: int | None = None
        self.status: int | None = None
        self.meanwhile: Callable[[], object] | None = None  #: called once, half-way through an answer
        outer = self

        class Handler(_Handler):
            server_of = outer

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "http" if certificate is None else "https"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="image-server")

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = self._server.server_address[:2]
        return f"{self._scheme}://{host!s}:{port}"

    @property
    def gets(self) -> int:
        """How often a file's bytes were asked for."""
        return sum(method == "GET" for method, _, _ in self.asked)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(END_WITHIN_S)


class _Handler(BaseHTTPRequestHandler):
    server_of: ImageServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def _answer(self, *, with_body: bool) -> None:
        server = self.server_of
        wanted = self.headers.get("Range")
        server.asked.append((self.command, self.path, wanted))
        path = self.path.partition("?")[0]
        if server.status is not None or path in server.redirects or path not in server.files:
            self.send_response(server.status or (302 if path in server.redirects else 404))
            if path in server.redirects:
                self.send_header("Location", server.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.files[path]
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        fits = begin < len(body)
        self.send_response(200 if not wanted else 206 if fits else 416)
        headers = {"Content-Length": str(len(body) - begin if fits else 0), "ETag": f'"{hash(body)}"'}
        if wanted:
            span = f"{begin}-{len(body) - 1}" if fits else "*"
            headers["Content-Range"] = f"bytes {span}/{len(body)}"
        for name, value in (headers | server.headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if with_body:
            self._send(body[begin:])

    def _send(self, body: bytes) -> None:
        server, half = self.server_of, len(body) // 2
        breaks_after, server.breaks_after = server.breaks_after, None
        if breaks_after is not None:
            self.wfile.write(body[:breaks_after])
            self.close_connection = True
            return
        self.wfile.write(body[:half])
        meanwhile, server.meanwhile = server.meanwhile, None
        if meanwhile is not None:
            self.wfile.flush()
            meanwhile()
        with suppress(ConnectionError):  # the other side may have had enough
            self.wfile.write(body[half:])
