"""Network block devices of our own: a file that guests of several hosts may hold at once, as a volume is held."""

from itertools import count
from pathlib import Path

from typing_extensions import override

from tests.lab.namespaces import inside
from tests.lab.opening import Opened
from tests.lab.places import program, scratch_folder
from tests.lab.processes import Process, free_port

READY_WITHIN_S = 10.0
_PORTS = count(10809)  # of network namespaces, where nobody else listens


class NbdServer(Opened):
    """A raw file, exported as a disk. It serves any number of clients, and goes on whatever becomes of them.

    It listens on the loopback interface, or on `address` in a network namespace, or on a UNIX socket only.
    """

    def __init__(
        self,
        size_mib: int = 16,
        *,
        export: str = "",
        address: str = "127.0.0.1",
        network_namespace: str | None = None,
        on_socket: bool = False,
    ) -> None:
        super().__init__()
        self.size_mib = size_mib
        self.export = export
        self.address = address
        self.port = free_port() if network_namespace is None else next(_PORTS)
        self._network_namespace = network_namespace
        self._on_socket = on_socket

    @override
    def _open(self) -> None:
        self._folder = self._cleanups.enter_context(scratch_folder("nbd"))
        with self.file.open("wb") as disk:
            disk.truncate(self.size_mib * 1024**2)
        self.start()

    @property
    def file(self) -> Path:
        """The disk's data."""
        return self._folder / "disk.raw"

    @property
    def socket(self) -> Path:
        """Where it listens when it listens `on_socket`."""
        return self._folder / "socket"

    @property
    def url(self) -> str:
        """The disk, as QEMU's tools name it."""
        if self._on_socket:
            return f"nbd+unix:///{self.export}?socket={self.socket}"
        return f"nbd://{self.address}:{self.port}/{self.export}"

    @property
    def source_xml(self) -> str:
        """The disk, as the source element of a libvirt definition names it."""
        place = f"transport='unix' socket='{self.socket}'"
        if not self._on_socket:
            place = f"name='{self.address}' port='{self.port}'"
        name = f" name='{self.export}'" if self.export else ""
        return f"<source protocol='nbd'{name}><host {place}/></source>"

    @property
    def process(self) -> Process:
        """The running, or last, server."""
        return self._process

    def start(self) -> None:
        """Start it, and return when it can be connected to."""
        ready = self._folder / "pid"
        ready.unlink(missing_ok=True)
        listens = ["--socket", self.socket] if self._on_socket else ["--bind", self.address, "--port", str(self.port)]
        options = ["--persistent", "--shared", "0", "--format", "raw", "--export-name", self.export]
        command = [program("qemu-nbd"), *options, *listens, "--pid-file", ready, self.file]
        self._process = Process(inside(self._network_namespace, command), log=self._folder / "log")
        self._cleanups.enter_context(self._process)
        self._process.wait_ready(ready.exists, "the NBD server is ready", READY_WITHIN_S)

    def kill(self) -> None:
        """Kill it, as the loss of its machine would; what it wrote is kept, and `start` serves it again."""
        self._process.kill()
