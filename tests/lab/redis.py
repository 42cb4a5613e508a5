"""A Redis of our own, on a free port of the loopback interface and on a UNIX socket."""

import secrets
import socket
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.lab.places import program, scratch_folder
from tests.lab.processes import Process, free_port

READY_WITHIN_S = 10.0


class RedisServer:
    """A private Redis. It forgets everything when it ends, unless `persistent` (append-only file, synced always)."""

    def __init__(self, *, port: int | None = None, persistent: bool = False) -> None:
        self.port = port or free_port()
        self._password = secrets.token_hex(8)  # it runs as root, and other users of the machine reach its port
        self.url = f"redis://:{self._password}@127.0.0.1:{self.port}/0"
        self._persistent = persistent
        self._cleanups = ExitStack()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self._folder = self._cleanups.enter_context(scratch_folder("redis"))
        # Debian's redis-server is this binary, called by another name; it comes with redis-tools, without a service.
        self._binary = self._folder / "redis-server"
        self._binary.symlink_to(program("redis-server", "redis-check-rdb"))
        try:
            self.start()
        except BaseException:
            self._cleanups.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._cleanups.close()

    @property
    def socket_url(self) -> str:
        """The address for who is in another network: of a UNIX socket, as broker and as result backend alike."""
        return f"redis+socket://:{self._password}@{self._folder / 'socket'}?virtual_host=0"

    @property
    def process(self) -> Process:
        """The running server."""
        if self._process is None:
            raise RuntimeError("Redis is not running")
        return self._process

    def start(self) -> None:
        """Start it on the same port as before, and return when it answers."""
        if self._process is not None:
            raise RuntimeError("Redis is running already")
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(self._folder / "socket"),
            "unixsocketperm": "600",
            "dir": str(self._folder),
            "requirepass": self._password,
            "save": '""',
            "appendonly": "yes" if self._persistent else "no",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        configuration = self._folder / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        self._process = Process([self._binary, configuration], log=self._folder / "log")
        self._process.start()
        try:
            self._process.wait_ready(self._answers, "Redis answers PING", READY_WITHIN_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; what it held is lost, unless it is persistent."""
        if self._process is not None:
            process, self._process = self._process, None
            process.end()

    def restart(self) -> None:
        """End it without warning and start it again: same URL, and empty unless persistent."""
        self.stop()
        self.start()

    def flush(self) -> None:
        """Make it forget everything at once, while its clients stay connected."""
        if not self._call("FLUSHALL").startswith(b"+OK"):
            raise RuntimeError("Redis refused FLUSHALL")

    def _answers(self) -> bool:
        try:
            return self._call("PING").startswith(b"+PONG")
        except OSError:
            return False

    def _call(self, command: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as client:
            client.sendall(f"AUTH {self._password}\r\n{command}\r\n".encode())
            answers = client.makefile("rb")
            answers.readline()
            return answers.readline()
