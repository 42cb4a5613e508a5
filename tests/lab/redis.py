"""A Redis of our own, on a free port of the loopback interface and on a UNIX socket."""

import secrets
import socket

from typing_extensions import override

from tests.lab.opening import Server
from tests.lab.places import program, scratch_folder
from tests.lab.processes import free_port


class RedisServer(Server):
    """A private Redis. It forgets everything when it ends, unless `persistent` (append-only file, synced always)."""

    called = "Redis"
    ready_within_s = 10.0

    def __init__(self, *, port: int | None = None, persistent: bool = False) -> None:
        super().__init__()
        self.port = port or free_port()
        self._password = secrets.token_hex(8)  # it runs as root, and other users of the machine reach its port
        self.url = f"redis://:{self._password}@127.0.0.1:{self.port}/0"
        self._persistent = persistent

    @override
    def _open(self) -> None:
        self._folder = self._cleanups.enter_context(scratch_folder("redis"))
        # Debian's redis-server is this binary, called by another name; it comes with redis-tools, without a service.
        self._binary = self._folder / "redis-server"
        self._binary.symlink_to(program("redis-server", "redis-check-rdb"))
        self._cleanups.callback(self.kill)
        self.start()

    @property
    def socket_url(self) -> str:
        """The address for who is in another network: of a UNIX socket, as broker and as result backend alike."""
        return f"redis+socket://:{self._password}@{self._folder / 'socket'}?virtual_host=0"

    def start(self) -> None:
        """Start it on the same port as before, and return when it answers."""
        self._refuse_running()
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
        self._run([self._binary, configuration], log=self._folder / "log")

    def restart(self) -> None:
        """End it without warning and start it again: same URL, and empty unless persistent."""
        self.kill()
        self.start()

    def flush(self) -> None:
        """Make it forget everything at once, while its clients stay connected."""
        if not self._call("FLUSHALL").startswith(b"+OK"):
            raise RuntimeError("Redis refused FLUSHALL")

    @override
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
