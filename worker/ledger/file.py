"""The file of a ledger: lines are appended, and kept within bounds by setting a full file aside, one at a time."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from worker.ledger.entries import Begun, Entry, entry_of, line_of

#: How large a file may become, in bytes: with the one set aside, some ten thousands of jobs are remembered.
FILE_MAX_BYTES: Final = 16 * 1024**2
#: What of the end of a file a worker reads as it starts, in bytes.
TAIL_BYTES: Final = 256 * 1024
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


class LedgerFile:
    """One host's file and the older one beside it, of one process at a time: its worker holds the host's lock."""

    def __init__(self, folder: Path, host: str, *, max_bytes: int = FILE_MAX_BYTES) -> None:
        self.path = folder / f"{host}.jsonl"
        self.older = folder / f"{host}.jsonl.1"
        self._host = host
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._descriptor: int | None = None
        self._size = 0
        self._written = 0
        self._synced = 0

    @property
    def exists(self) -> bool:
        """Whether there is a ledger of the host."""
        return self.path.exists() or self.older.exists()

    def read(self) -> Iterator[Entry]:
        """All that is kept, oldest first; a line that was torn is passed over."""
        return self._entries(None)

    def tail(self) -> Iterator[Entry]:
        """The newest of it, some hundred lines: enough for a worker that starts."""
        return self._entries(TAIL_BYTES)

    def _entries(self, at_most: int | None) -> Iterator[Entry]:
        """``at_most`` so many bytes of the end of each file."""
        for path in (self.older, self.path):
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue
            with file:
                if at_most is not None and (left := file.seek(0, os.SEEK_END) - at_most) > 0:
                    file.seek(left)
                    file.readline()  # of which this may be a part
                elif at_most is not None:
                    file.seek(0)
                yield from (entry for entry in map(entry_of, file) if entry is not None)

    def append(self, entry: Entry, *, last_claim: int) -> int:
        """Add a line, which outlives this process from now on; how many there are, for `sync`. May raise OSError.

        ``last_claim`` begins a new file, where this one is full.
        """
        line = line_of(entry)
        with self._lock:
            if self._descriptor is not None and self._size + len(line) > self._max_bytes:
                self._set_aside()
            try:
                if self._descriptor is None:
                    self._open(last_claim)
                self._write(line)
            except OSError:
                self._close()  # what was half written is ended as the file is opened again
                raise
            self._written += 1
            return self._written

    def sync(self, written: int) -> None:
        """Have that many lines outlive the machine, too; who waits for another one's sync needs none of its own."""
        with self._syncing:
            if self._synced >= written:
                return
            with self._lock:
                upto, descriptor = self._written, self._descriptor
                kept = None if descriptor is None else os.dup(descriptor)
            if kept is not None:
                try:
                    os.fdatasync(kept)
                finally:
                    os.close(kept)
            self._synced = upto

    def close(self) -> None:
        """Write no more."""
        with self._lock:
            self._close()

    def _open(self, last_claim: int) -> None:
        self.path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, _FLAGS, FILE_MODE)
        self._size = os.fstat(self._descriptor).st_size
        if self._size == 0:
            self._write(line_of(Begun(self._host, last_claim)))
            os.fsync(self._descriptor)
            self._sync_folder()
        else:
            with self.path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    self._write(b"\n")  # a line was torn, by a kill or a full disk

    def _write(self, line: bytes) -> None:
        assert self._descriptor is not None  # noqa: S101  # for mypy: whoever writes has opened it
        while line:
            written = os.write(self._descriptor, line)
            self._size += written
            line = line[written:]

    def _set_aside(self) -> None:
        assert self._descriptor is not None  # noqa: S101  # for mypy: only an open file is full
        os.fdatasync(self._descriptor)
        self._close()
        self.path.replace(self.older)
        self._sync_folder()

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
