"""Writing the ledger: what the worker tells as it goes, and what it knows by that of the host sequence."""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from models.journal.claiming import Lease
from models.records import Ending
from worker.ledger.entries import Claimed, Entry, Recovered, Told
from worker.ledger.file import LedgerFile
from worker.ledger.reading import Remembered, remembered

log = logging.getLogger(__name__)


@dataclass
class Claiming:
    """A claim under way."""

    seen: int  #: the highest host sequence that was seen committed
    sequence: int | None = None  #: what the claim raised it to


class Ledger:
    """What this worker knows of its host sequence, in memory and in the file.

    While it is `held`, no job is claimed: somebody has found that the database may have gone back in time.
    """

    def __init__(self, file: LedgerFile) -> None:
        self.file = file
        self.was_lost = not file.exists
        self.held: str | None = None
        self.jumped: str | None = None  # how the database came to have more claims than this worker can have made
        self.suspected = threading.Event()
        self._lock = threading.Lock()
        self._added = 0  # lines, so far
        self._known: tuple[int, Remembered] | None = None  # after so many
        self._last = remembered(file.tail()).last
        self._under_way = 0  # claims without an answer yet
        self._unanswered = 0  # claims that never had one: a commit may be among them
        self._missing: set[int] = set()  # numbers below the last that nobody has told yet

    @property
    def last(self) -> int:
        """The highest host sequence that was seen committed."""
        with self._lock:
            return self._last

    def read(self) -> Remembered:
        """All that the file tells, and the last claim that memory has, if that is newer."""
        added = self._added
        if self._known is None or self._known[0] != added:
            self._known = (added, remembered(self.file.read()))
        return self._with_last(self._known[1])

    def tail(self) -> Remembered:
        """The newest of it, with the last claim and the run that ended last."""
        return self._with_last(remembered(self.file.tail()))

    def _with_last(self, found: Remembered) -> Remembered:
        found.last = max(found.last, self.last)
        return found

    @contextmanager
    def claiming(self) -> Iterator[Claiming]:
        """A claim is made inside; its maker notes the sequence that it came to."""
        with self._lock:
            self._under_way += 1
            claim = Claiming(self._last)
        try:
            yield claim
        except BaseException:
            with self._lock:
                self._under_way -= 1
                self._unanswered += 1
            raise
        with self._lock:
            self._under_way -= 1
            jumped = claim.sequence is not None and self._jumps_to(claim.sequence)
        if jumped:
            self.jumped = f"the database is at claim {claim.sequence} of this host, ahead of what its worker claimed"
            self.suspect(self.jumped)

    def claimed(self, lease: Lease) -> None:
        """A job was claimed."""
        job = lease.job
        entry = Claimed(lease.host_sequence, job.id, job.run, job.operation, job.instance, job.epoch)
        self._append(entry, lease.host_sequence - 1)

    def told(self, endings: Iterable[Ending]) -> None:
        """Runs ended, or left for another host; they outlive the machine once this returns."""
        written = None
        for ending in endings:
            written = self._append(Told(ending), self.last) or written
        if written is not None:
            self._sync(written)

    def suspect(self, because: str) -> None:
        """Claim nothing more, until somebody has looked into it."""
        if self.held is None:
            log.error("no job is claimed any more: %s", because)
            self.held = because
        self.suspected.set()

    def begin_at(self, sequence: int) -> None:
        """The database's host sequence is this, and nothing is amiss with that."""
        with self._lock:
            self._last = max(self._last, sequence)
            self._missing.clear()
            self._unanswered = 0
        self.jumped = self.held = None

    def recovered(self, sequence: int) -> None:
        """The journal was told again all that the file tells, and its host sequence raised to this."""
        self.jumped = None
        with self._lock:
            self._last = sequence
        written = self._append(Recovered(sequence), sequence)
        if written is not None:
            self._sync(written)

    def _jumps_to(self, sequence: int) -> bool:
        """Whether there are more claims than this worker can have made. Called with the lock held."""
        if sequence <= self._last:
            self._missing.discard(sequence)
            return False
        room = self._under_way + self._unanswered
        if sequence - self._last - 1 > room:
            self._last = sequence
            return True
        self._missing.update(range(self._last + 1, sequence))
        self._last = sequence
        return len(self._missing) > room

    def _append(self, entry: Entry, last_claim: int) -> int | None:
        """How many lines there are; None where the line cannot be written, which is said, and ends no job."""
        try:
            return self.file.append(entry, last_claim=last_claim)
        except OSError as error:
            log.error("the ledger %s cannot be written: %s", self.file.path, error)  # noqa: TRY400  # told in full
            return None
        finally:
            with self._lock:
                self._added += 1

    def _sync(self, written: int) -> None:
        try:
            self.file.sync(written)
        except OSError as error:
            log.error("the ledger %s cannot be written out: %s", self.file.path, error)  # noqa: TRY400  # likewise
