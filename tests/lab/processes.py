"""Programs that the tests start: each in a session of its own, known by pid, and ended with all that it left behind.

Each runs below a `subreaper`, so nothing outlives the test process, however that dies.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.subreaper import descendants
from tests.lab.waiting import NeverHappenedError, eventually

SUBREAPER = Path(__file__).with_name("subreaper.py")
LOG_TAIL_CHARS = 4000


class ProcessEndedError(AssertionError):
    """A program ended that should have gone on."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def accepts_connections(address: int | Path) -> bool:
    """Whether someone listens on this loopback port or UNIX socket."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(("127.0.0.1", address) if isinstance(address, int) else str(address))
        except OSError:
            return False
        return True


class Process:
    """One run of a program. As a context manager it is started on entry, and it and its guests are ended on exit."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.argv = [str(argument) for argument in argv]
        self.log_file = log
        self._env = dict(os.environ if env is None else env)
        self._cwd = cwd
        self._reaper: subprocess.Popen[bytes] | None = None
        self._status_fd = -1
        self._told = b""
        self._reading = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> None:
        """Start it, once; afterwards `pid` is known."""
        if self._reaper is not None:
            raise RuntimeError(f"started already: {self.argv[0]}")
        self._status_fd, status_writer = os.pipe()
        os.set_blocking(self._status_fd, False)
        options = ["--status-fd", str(status_writer), "--parent", str(os.getpid()), "--"]
        try:
            with self.log_file.open("ab") as log:
                self._reaper = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(SUBREAPER), *options, *self.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._env,
                    cwd=self._cwd,
                    pass_fds=[status_writer],
                    start_new_session=True,
                )
        finally:
            os.close(status_writer)
        self._read_until(b"started", 10.0)

    @property
    def pid(self) -> int:
        """The program's own pid; it leads its process group."""
        return int(self._line(b"started") or 0)

    @property
    def reaper_pid(self) -> int:
        """The pid of the sub-reaper, whose descendants are the program and its guests."""
        return self._reaper.pid if self._reaper else 0

    @property
    def returncode(self) -> int | None:
        """The program's exit status, negative for a signal; None while it runs."""
        self._read(0.0)
        status = self._line(b"ended")
        if status is None and self._reaper is not None and self._reaper.poll() is not None:
            self._read(0.0)
            return int(self._line(b"ended") or -signal.SIGKILL)
        return None if status is None else int(status)

    @property
    def alive(self) -> bool:
        """Whether the program itself still runs."""
        return self._reaper is not None and self.returncode is None

    @property
    def log(self) -> str:
        """All that it wrote on its standard output and error."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def survivors(self) -> list[int]:
        """The pids of what it started and what is still there."""
        if self._reaper is None or self._reaper.poll() is not None:
            return []
        return [pid for pid in descendants(self._reaper.pid) if pid != self.pid]

    def signal(self, number: int) -> None:
        """Send the program, and only it, a signal; nothing happens when it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, within_s: float) -> int:
        """Its exit status, once it has ended by itself."""
        if self._reaper is None:
            raise RuntimeError(f"not started: {self.argv[0]}")
        try:
            self._read_until(b"ended", within_s)
        except NeverHappenedError as error:
            raise NeverHappenedError(f"{error}\n{self._tail()}") from error
        return self.returncode or 0

    def wait_ready(self, probe: Callable[[], object], what: str, within_s: float = 10.0) -> None:
        """Return once the probe answers true; fail at once, with the log, when the program ends before."""
        try:
            eventually(lambda: bool(probe()), what, within_s, watch=self._fail_if_ended)
        except NeverHappenedError as error:
            raise NeverHappenedError(f"{error}\n{self._tail()}") from error

    def kill(self, within_s: float = 10.0) -> None:
        """Kill the program at once, its guests not, and return when it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(within_s)

    def terminate(self, within_s: float = 10.0) -> int:
        """Ask the program to end, its guests not; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(within_s)

    def end(self, within_s: float = 20.0) -> None:
        """End the program and all that it left behind. Does nothing the second time, or before the start."""
        if self._reaper is None or self._status_fd < 0:
            return
        if self._reaper.poll() is None:
            self._reaper.send_signal(signal.SIGQUIT)
        try:
            self._reaper.wait(within_s)
        except subprocess.TimeoutExpired as error:
            left = descendants(self._reaper.pid)
            raise NeverHappenedError(f"{self.argv[0]} could not be ended; still there: {left}") from error
        self._read(0.0)
        os.close(self._status_fd)
        self._status_fd = -1

    def _fail_if_ended(self) -> None:
        if not self.alive:
            raise ProcessEndedError(f"{self.argv[0]} ended with status {self.returncode}\n{self._tail()}")

    def _tail(self) -> str:
        return f"--- end of {self.log_file} ---\n{self.log[-LOG_TAIL_CHARS:]}"

    def _line(self, word: bytes) -> str | None:
        for line in self._told.splitlines():
            key, _, value = line.partition(b" ")
            if key == word:
                return value.decode()
        return None

    def _read_until(self, word: bytes, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while self._line(word) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise NeverHappenedError(f"not within {within_s:g} s: {self.argv[0]} has {word.decode()}")
            if not self._read(left_s):
                if word == b"ended":
                    return
                raise ProcessEndedError(f"{self.argv[0]} could not be started\n{self._tail()}")

    def _read(self, timeout_s: float) -> bool:
        """Read what the sub-reaper tells; False when it will tell no more. Threads may wait here side by side."""
        if self._status_fd < 0:
            return False
        readable, _, _ = select.select([self._status_fd], [], [], timeout_s)
        if not readable:
            return True
        with self._reading:
            try:
                told = os.read(self._status_fd, 4096)
            except BlockingIOError:
                return True
            self._told += told
            return bool(told)
