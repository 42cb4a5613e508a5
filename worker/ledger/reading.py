"""What a whole ledger comes to."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from models.records import Ending
from models.states import FINAL
from worker.ledger.entries import Begun, Claimed, Entry, Recovered, Told


@dataclass
class Remembered:
    """All that the ledger tells, the newest of each."""

    first: int = 0  #: the claim before the first that is remembered
    last: int = 0  #: the newest claim, or what a recovery raised the host sequence to
    claims: dict[str, Claimed] = field(default_factory=dict)  #: by job: its newest claim, where it did not end
    gone_to: dict[str, str] = field(default_factory=dict)  #: by job that left: the host that it went to
    endings: list[Ending] = field(default_factory=list)  #: of runs that ended, in that order
    standings: dict[UUID, Ending] = field(default_factory=dict)  #: by instance: who last told what it is
    marks: dict[UUID, int] = field(default_factory=dict)  #: by instance: the highest epoch

    @property
    def last_ending(self) -> Ending | None:
        """The run that ended last."""
        return self.endings[-1] if self.endings else None


def remembered(entries: Iterable[Entry]) -> Remembered:
    """The ledger's lines, in order, taken together."""
    found, is_first = Remembered(), True
    for entry in entries:
        match entry:
            case Begun(_, sequence):
                found.first = sequence if is_first else found.first
                found.last = max(found.last, sequence)
            case Claimed():
                found.last = max(found.last, entry.sequence)
                found.claims[entry.job] = entry
                found.gone_to.pop(entry.job, None)
                _mark(found, entry.instance, entry.epoch)
            case Told(ending):
                _mark(found, ending.instance_id, ending.epoch)
                if ending.state in FINAL:
                    found.endings.append(ending)
                    found.claims.pop(ending.job, None)
                    found.gone_to.pop(ending.job, None)
                else:
                    found.gone_to[ending.job] = ending.host
                if ending.instance is not None:
                    found.standings[ending.instance_id] = ending
            case Recovered(sequence):
                found.last = max(found.last, sequence)
        is_first = False
    return found


def _mark(found: Remembered, instance: UUID, epoch: int) -> None:
    found.marks[instance] = max(epoch, found.marks.get(instance, 0))
