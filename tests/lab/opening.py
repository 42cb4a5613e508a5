"""What the lab opens and closes: whatever fails on the way in, all that was opened by then is closed again."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.lab.processes import Process


class Opened(ABC):
    """A part of the lab, there while its context lasts."""

    def __init__(self) -> None:
        self._cleanups = ExitStack()

    @abstractmethod
    def _open(self) -> None:
        """Bring it up; each thing to be closed again is entered into `_cleanups` as it is opened."""
        ...

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._cleanups.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanups.close()


class Server(Opened):
    """One that is a process, which a test may end and start again."""

    called: ClassVar[str]  #: its name, in sentences
    ready_within_s: ClassVar[float]

    def __init__(self) -> None:
        super().__init__()
        self._process: Process | None = None

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it serves by now."""
        ...

    @property
    def process(self) -> Process:
        """The running server."""
        if self._process is None:
            raise RuntimeError(f"{self.called} is not running")
        return self._process

    def kill(self) -> None:
        """End it without warning, if it runs."""
        if self._process is not None:
            process, self._process = self._process, None
            process.end()

    def _refuse_running(self) -> None:
        if self._process is not None:
            raise RuntimeError(f"{self.called} is running already")

    def _run(
        self, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start it, and return when it answers."""
        self._process = Process(argv, log=log, env=env, cwd=cwd)
        self._process.start()
        try:
            self._process.wait_ready(self._answers, f"{self.called} answers", self.ready_within_s)
        except BaseException:
            self.kill()
            raise
