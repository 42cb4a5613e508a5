"""Console logs: bounded, their end kept, whatever stands in their place and whenever the worker dies."""

import os
import stat
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from worker.host.console_logs import ConsoleLogs
from worker.host.folders import Folders

MAX_BYTES = 1000


class Bench:
    """An instance with a console log that a guest writes."""

    def __init__(self, state: Path) -> None:
        self.folders = Folders(str(state))
        self.logs = ConsoleLogs(self.folders, MAX_BYTES)
        self.instance: UUID = uuid4()
        self.folders.make_console_log(self.instance)
        self.log = Path(self.folders.console_log(self.instance))
        self.older = self.log.with_name("console.log.0")

    def write(self, text: str) -> None:
        """As QEMU does, which keeps the file open for appending."""
        with self.log.open("a") as guest:
            guest.write(text)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One."""
    return Bench(tmp_path)


def test_a_log_within_its_bounds_is_left_alone(bench: Bench) -> None:
    """Up to the last byte."""
    bench.write("x" * MAX_BYTES)
    assert bench.logs.keep_within_bounds() == ()
    assert bench.log.stat().st_size == MAX_BYTES
    assert not bench.older.exists()


def test_a_log_that_is_too_long_is_cut_and_its_end_kept(bench: Bench) -> None:
    """For its owner alone; whoever has it open for appending goes on at its beginning."""
    with bench.log.open("a", buffering=1) as guest:
        guest.write("x" * 5000 + "y" * MAX_BYTES)
        guest.flush()
        assert bench.logs.keep_within_bounds() == ()
        guest.write("more")
    assert bench.log.read_text() == "more"
    assert bench.older.read_text() == "y" * MAX_BYTES
    assert [stat.S_IMODE(file.stat().st_mode) for file in (bench.log, bench.older)] == [0o600, 0o600]


def test_there_is_one_older_log(bench: Bench) -> None:
    """However often it is cut."""
    for letter in "abc":
        bench.write(letter * (MAX_BYTES + 1))
        bench.logs.keep_within_bounds()
    assert {file.name: file.read_text()[:1] for file in bench.log.parent.iterdir()} == {
        "console.log": "",
        "console.log.0": "c",
    }


def test_a_worker_that_dies_before_the_cut_loses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look cuts it."""
    bench.write("x" * (MAX_BYTES + 1))
    with monkeypatch.context() as dying:
        dying.setattr(os, "ftruncate", _die)
        with pytest.raises(KeyboardInterrupt):
            bench.logs.keep_within_bounds()
    assert bench.log.stat().st_size == MAX_BYTES + 1
    assert bench.logs.keep_within_bounds() == ()
    assert (bench.log.stat().st_size, bench.older.stat().st_size) == (0, MAX_BYTES)


def test_a_link_in_a_logs_place_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    """Nor is anything else that is no file."""
    other = tmp_path / "other"
    other.write_text("x" * 5000)
    bench.log.unlink()
    bench.log.symlink_to(other)
    assert bench.logs.keep_within_bounds() == ()
    bench.log.unlink()
    os.mkfifo(bench.log)
    assert bench.logs.keep_within_bounds() == ()
    assert other.stat().st_size == 5000


def test_what_is_in_the_way_of_one_is_told_and_the_others_are_cut(bench: Bench) -> None:
    """By instance."""
    bench.write("x" * (MAX_BYTES + 1))
    bench.older.mkdir()
    (bench.older / "full").touch()
    other = Path(bench.folders.console_log(uuid4()))
    bench.folders.make_console_log(UUID(other.parent.name))
    other.write_text("x" * (MAX_BYTES + 1))
    (error,) = bench.logs.keep_within_bounds()
    assert str(bench.instance) in str(error)
    assert other.stat().st_size == 0
    assert bench.log.stat().st_size == MAX_BYTES + 1


def test_other_things_beside_the_instances_are_passed_over(bench: Bench) -> None:
    """And a folder on its way out; removing a log removes its older one, and the empty folder."""
    (bench.log.parent.parent / "notes").mkdir()
    (bench.log.parent.parent / f"{uuid4()}.removing").mkdir()
    assert bench.folders.instances() == (bench.instance,)
    bench.older.touch()
    bench.folders.remove_console_log(bench.instance)
    assert bench.folders.instances() == ()
    assert bench.logs.keep_within_bounds() == ()


def _die(_descriptor: int, _length: int) -> None:
    raise KeyboardInterrupt
