"""The ledger: lines that outlive whoever wrote them, within bounds, and what is known by them of the host sequence."""

import errno
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from models.records import Device, Ending, InstanceRecord
from models.states import DeviceKind, InstanceState, JobClass, JobState
from worker.ledger import file as ledger_file
from worker.ledger.entries import Begun, Claimed, Entry, Recovered, Told, entry_of, line_of
from worker.ledger.file import LedgerFile
from worker.ledger.reading import remembered
from worker.ledger.writing import Ledger

ONE, OTHER = UUID(int=1), UUID(int=2)
NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
DISK = Device(DeviceKind.DISK, "root", {"path": "/x"})
VOLUME = Device(DeviceKind.VOLUME, "v1", {"n": 1}, exclusive="volume:v1", place="nbd://storage/v1")
SPAWNED = Ending(
    job="spawn",
    run=1,
    state=JobState.SUCCEEDED,
    operation="spawn",
    operation_version=1,
    job_class=JobClass.SPAWN,
    instance_id=ONE,
    host="h1",
    sent_to="h1",
    home="h1",
    payload_digest="d",
    epoch=3,
    error=None,
    outcome={"state": "succeeded"},
    superseded_by=None,
    submitted_at=NOON,
    started_at=NOON,
    ended_at=None,
    instance=InstanceRecord(
        ONE, "vm", "h1", InstanceState.RUNNING, 3, {"name": "vm"}, (DISK, VOLUME), InstanceState.RUNNING, "spawn"
    ),
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LedgerFile]:
    """A ledger that nobody has written yet."""
    made = LedgerFile(tmp_path / "ledger", "h1")
    yield made
    made.close()


def claimed(sequence: int, job: str = "job", epoch: int = 1) -> Claimed:
    """A claim."""
    return Claimed(sequence, job, 1, "spawn", ONE, epoch)


@pytest.mark.parametrize(
    "entry",
    [Begun("h1", 7), claimed(8), Told(SPAWNED), Told(replace(SPAWNED, instance=None, superseded_by="x")), Recovered(9)],
    ids=["begun", "claimed", "told", "superseded", "recovered"],
)
def test_a_line_says_what_was_told(entry: Entry) -> None:
    """All of it, to the microsecond."""
    line = line_of(entry)
    assert (line.count(b"\n"), entry_of(line)) == (1, entry)


@pytest.mark.parametrize("cut", [2, 10, 60, 200])
@pytest.mark.parametrize("entry", [claimed(8), Told(SPAWNED)], ids=["claimed", "told"])
def test_a_torn_line_tells_nothing(entry: Entry, cut: int) -> None:
    """Wherever it was cut; so does any other nonsense."""
    assert entry_of(line_of(entry)[: -min(cut, len(line_of(entry)) - 1)]) is None
    for nonsense in (b"\n", b"[]\n", b"7\n", b"\xff\xfe\n", b'{"claimed":{"sequence":1}}\n', b'{"told":null}\n'):
        assert entry_of(nonsense) is None


def test_only_its_owner_reads_it(file: LedgerFile) -> None:
    """Requests are in it."""
    file.append(claimed(1), last_claim=0)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (file.path.parent, file.path)]
    assert modes == [0o700, 0o600]


def test_a_line_that_was_torn_is_passed_over_and_the_next_one_stands_alone(file: LedgerFile) -> None:
    """Whoever was killed in the middle of a line costs that line."""
    file.append(claimed(1), last_claim=0)
    file.close()
    with file.path.open("ab") as torn:
        torn.write(line_of(claimed(2))[:20])
    file.append(claimed(3), last_claim=2)

    assert list(file.read()) == [Begun("h1", 0), claimed(1), claimed(3)]


def test_a_full_disk_costs_a_line_and_no_more(file: LedgerFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes on, the line is half there, and the next one is whole."""
    ledger = Ledger(file)
    ledger.told([SPAWNED])
    write = os.write

    def full(descriptor: int, line: bytes) -> int:
        write(descriptor, line[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(ledger_file.os, "write", full)
        ledger.told([replace(SPAWNED, job="lost")])
    ledger.told([replace(SPAWNED, job="kept")])

    assert [ending.job for ending in ledger.read().endings] == ["spawn", "kept"]


def test_a_link_in_its_place_is_not_followed(file: LedgerFile, tmp_path: Path) -> None:
    """Whoever put it there wants something else written."""
    file.path.parent.mkdir()
    file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        file.append(claimed(1), last_claim=0)


def test_it_is_kept_within_bounds(tmp_path: Path) -> None:
    """A full file is set aside, the one before it is gone, and the next begins with where it begins."""
    file = LedgerFile(tmp_path / "ledger", "h1", max_bytes=1000)
    for sequence in range(1, 101):
        file.append(claimed(sequence), last_claim=sequence - 1)
    file.close()

    assert all(path.stat().st_size <= 1000 for path in (file.path, file.older))
    found = remembered(LedgerFile(tmp_path / "ledger", "h1").read())
    assert (found.last, 80 < found.first < 100) == (100, True)


def test_a_worker_that_starts_reads_only_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both files, in whole lines; what it needs is there."""
    monkeypatch.setattr(ledger_file, "TAIL_BYTES", 2000)
    file = LedgerFile(tmp_path / "ledger", "h1", max_bytes=8000)
    for sequence in range(1, 101):
        file.append(claimed(sequence), last_claim=sequence - 1)
    file.append(Told(SPAWNED), last_claim=100)
    file.close()

    tail, whole = list(file.tail()), list(file.read())

    assert (len(tail) < 40 < len(whole), tail[-1]) == (True, Told(SPAWNED))
    assert set(map(repr, tail)) <= set(map(repr, whole))
    found = remembered(tail)
    assert (found.last, found.last_ending) == (100, SPAWNED)
    assert Ledger(file).last == 100


def test_many_threads_wait_for_one_sync(file: LedgerFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are written out when they return, by fewer syncs than there are lines."""
    synced, sync = [], os.fdatasync

    def counted(descriptor: int) -> None:
        synced.append(descriptor)
        sync(descriptor)

    monkeypatch.setattr(ledger_file.os, "fdatasync", counted)
    ledger, begin = Ledger(file), threading.Barrier(8)

    def tell(at: int) -> None:
        begin.wait()
        for each in range(20):
            ledger.told([replace(SPAWNED, job=f"{at}-{each}")])

    threads = [threading.Thread(target=tell, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ledger.read().endings) == 160
    assert 0 < len(synced) <= 160
    assert file._synced == 160


def test_what_it_remembers_is_the_newest_of_each(file: LedgerFile) -> None:
    """Of a job that ended the claim is forgotten; one that left keeps it."""
    left = replace(SPAWNED, job="migrate", state=JobState.WAITING, epoch=5, instance=None)
    for entry in (claimed(1, "spawn", 3), Told(SPAWNED), claimed(2, "migrate", 5), Told(left), Recovered(7)):
        file.append(entry, last_claim=0)

    found = remembered(file.read())

    assert (found.first, found.last, found.marks) == (0, 7, {ONE: 5})
    assert (list(found.claims), found.endings, found.standings) == (["migrate"], [SPAWNED], {ONE: SPAWNED})


# --- the host sequence


@pytest.fixture
def ledger(file: LedgerFile) -> Ledger:
    """One of a worker that has just started, at claim 10."""
    made = Ledger(file)
    made.begin_at(10)
    return made


def test_claims_in_any_order_are_no_jump(ledger: Ledger) -> None:
    """Threads hear of their claims as they like."""
    with ledger.claiming() as first:
        with ledger.claiming() as second:
            with ledger.claiming() as third:
                third.sequence = 13
            second.sequence = 11
        first.sequence = 12
    assert (ledger.held, ledger.last) == (None, 13)


def test_a_claim_whose_answer_was_lost_makes_room_for_one(ledger: Ledger) -> None:
    """Its commit may have come through; two may not."""
    with pytest.raises(ConnectionError), ledger.claiming():
        raise ConnectionError
    with ledger.claiming() as claim:
        claim.sequence = 12
    assert ledger.held is None
    with ledger.claiming() as claim:
        claim.sequence = 14
    assert ledger.held is not None
    assert "ahead of what its worker claimed" in ledger.held


def test_a_claim_that_comes_to_nothing_makes_no_room(ledger: Ledger) -> None:
    """It was refused, and raised nothing."""
    with ledger.claiming():
        pass
    with ledger.claiming() as claim:
        claim.sequence = 12
    assert ledger.held is not None


def test_a_leap_of_any_size_costs_nothing(ledger: Ledger) -> None:
    """It is told, whatever the number."""
    with ledger.claiming() as claim:
        claim.sequence = 2**62
    assert (ledger.held is not None, ledger.last) == (True, 2**62)
