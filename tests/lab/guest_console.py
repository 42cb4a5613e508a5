"""What a guest says on its console and writes to its disk, read; see `tests.lab.guest_image` for how it comes to it."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

MARK = "hostler-lab: "
UP_MARK = f"{MARK}userspace up boot="

_MIB = 1024**2
_COUNTER = re.compile(rb"(hostler-lab: counter (?P<beat>\d+) boot=\S+) md5=(?P<md5>[0-9a-f]{32})\n")


@dataclass(frozen=True)
class DiskCheck:
    """One look of a guest at the pattern that it wrote to a disk."""

    disk: str
    ok: bool
    md5: str


def boots_seen(console: str) -> list[str]:
    """The boot ids that a guest printed on its console, in order: one for each time that its userspace came up."""
    return [line.partition(UP_MARK)[2].strip() for line in console.splitlines() if UP_MARK in line]


def heartbeats(console: str) -> list[int]:
    """The numbers of its heartbeats; each boot begins at 1, and a migration does not."""
    return [int(words[0]) for words in _said(console, "heartbeat")]


def disks_seen(console: str) -> list[dict[str, str]]:
    """The disks that it had, name and serial ("" for none), at its start and after each change."""
    return [_disks(words) for words in _said(console, "disks")]


def nics_seen(console: str) -> list[dict[str, str]]:
    """The network interfaces that it had, name and MAC address, at its start and after each change."""
    found = _said(console, "nics")
    return [{} if words == ["none"] else dict(zip(words[::2], words[1::2], strict=True)) for words in found]


def disk_checks(console: str) -> list[DiskCheck]:
    """What it found when it read its pattern back: once it was written, and each time that the disk came again."""
    return [DiskCheck(disk, word == "ok", md5) for disk, _, word, md5 in _said(console, "disk")]


def keeps(console: str) -> list[tuple[int, bool]]:
    """For each beat of a guest that keeps a disk, whether what it wrote was there."""
    return [(int(number), word == "ok") for number, word in _said(console, "keeps")]


def writings(console: str) -> list[tuple[str, str]]:
    """For each time that it wrote to the beginning of a disk, the checksums of what was there before and after."""
    return [(before, after) for _, _, before, _, after in _said(console, "wrote")]


def pings(console: str) -> list[tuple[int, bool]]:
    """For each of its pings, whether it was answered."""
    return [(int(number), word == "ok") for number, word in _said(console, "ping")]


def counter_on(disk: Path) -> int:
    """The last counter that a guest wrote to this raw disk; 0 for none that is whole."""
    with disk.open("rb") as data:
        found = _COUNTER.match(data.read(4096))
    if found is None or hashlib.md5(found[1] + b"\n", usedforsecurity=False).hexdigest() != found["md5"].decode():
        return 0
    return int(found["beat"])


def pattern_on(disk: Path) -> str:
    """The checksum of the part of this raw disk that holds a guest's pattern."""
    with disk.open("rb") as data:
        data.seek(_MIB)
        return hashlib.md5(data.read(4 * _MIB), usedforsecurity=False).hexdigest()


def _said(console: str, about: str) -> list[list[str]]:
    """The words of each whole line about this, in order."""
    lines = console[: console.rfind("\n") + 1].splitlines()
    said = [line.partition(MARK)[2].split() for line in lines]
    return [words[1:] for words in said if words[:1] == [about]]


def _disks(words: list[str]) -> dict[str, str]:
    named = (word.partition(":") for word in words if word != "none")
    return {name: serial for name, _, serial in named}
