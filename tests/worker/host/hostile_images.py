"""Images made to do harm: each with the format that it is said to have, and words of the refusal it must get."""

import os
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.places import program

MIB = 1024**2
TIB = 1024**4
SNAPSHOTS = 10**6
#: Of an entry of a snapshot table without a name.
SNAPSHOT_BYTES = 40
#: Where a qcow2 header says so.
NB_SNAPSHOTS, SNAPSHOTS_OFFSET, L1_SIZE, L1_OFFSET, CRYPT = 60, 64, 36, 40, 32


def created(path: Path, image_format: str, *options: str, size: str = "1M") -> Path:
    """A new image of one MiB, all of it written."""
    command = [program("qemu-img"), "create", "-q", "-f", image_format, *options, str(path), size]
    subprocess.run(command, check=True, timeout=30)
    return path


def written(path: Path, image_format: str, *options: str, size: int = MIB) -> Path:
    """An image that holds data."""
    plain = path.with_name(f"{path.name}.plain")
    plain.write_bytes(os.urandom(size))
    convert = ["convert", "-f", "raw", "-O", image_format, *options, str(plain), str(path)]
    subprocess.run([program("qemu-img"), *convert], check=True, timeout=30)
    plain.unlink()
    return path


def patched(path: Path, offset: int, new: bytes) -> Path:
    """The file with these bytes there."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(new)
    return path


def cut(path: Path, size: int) -> Path:
    """The file, so long."""
    os.truncate(path, size)
    return path


def described(path: Path, old: str, new: str) -> Path:
    """The VMDK with its descriptor changed."""
    whole = path.read_bytes()
    text = whole[512 : 21 * 512].rstrip(b"\0").decode()
    changed = re.sub(old, new, text)
    assert changed != text
    return patched(path, 512, changed.encode().ljust(20 * 512, b"\0"))


def as_stream(path: Path, before_footer: bytes = b"") -> Path:
    """The VMDK with a footer in place of its header's directory, as VMware writes streams."""
    whole = path.read_bytes()
    header = whole[:512]
    marker, end = (struct.pack("<QII496x", number, 0, kind) for number, kind in ((1, 3), (0, 0)))
    first = header[:56] + b"\xff" * 8 + header[64:]
    path.write_bytes(first + whole[512:] + before_footer + marker + header + end)
    return path


def many_snapshots(path: Path) -> Path:
    """A qcow2 file with that many snapshots: their table is there, too."""
    table = created(path, "qcow2").stat().st_size
    patched(path, NB_SNAPSHOTS, struct.pack(">IQ", SNAPSHOTS, table))
    return cut(path, table + SNAPSHOTS * SNAPSHOT_BYTES)


def hidden_parent(path: Path) -> Path:
    """A VMDK whose header tells of one sector of descriptor; QEMU reads twenty."""
    created(path, "vmdk")
    patched(path, 28 + 8, struct.pack("<Q", 1))
    text = path.read_bytes()[512:1024].rstrip(b"\0").split(b"# The Disk Data Base")[0].ljust(512, b"#")
    return patched(path, 512, text + b'\nparentFileNameHint="/etc/shadow"\n')


@dataclass(frozen=True)
class Hostile:
    """An image, and why it is refused."""

    make: Callable[[Path], Path]
    declared: str
    why: str


def _base_of(path: Path) -> Path:
    base = path.with_name("secret")
    base.write_bytes(b"\0" * MIB)
    return base


HOSTILE: Final[dict[str, Hostile]] = {
    "backing file": Hostile(
        lambda path: created(path, "qcow2", "-b", str(_base_of(path)), "-F", "raw"), "qcow2", "backing file"
    ),
    "data file": Hostile(
        lambda path: created(path, "qcow2", "-o", f"data_file={path}.data,data_file_raw=on"), "qcow2", "data_file"
    ),
    "raw that is qcow2": Hostile(lambda path: created(path, "qcow2"), "raw", "declared raw, but it is qcow2"),
    "raw that is vmdk": Hostile(lambda path: created(path, "vmdk"), "raw", "declared raw, but it is vmdk"),
    "raw that is a vmdk's descriptor": Hostile(
        lambda path: created(path, "vmdk", "-o", "subformat=monolithicFlat"), "raw", "declared raw, but it is vmdk"
    ),
    "qcow2 that is raw": Hostile(lambda path: cut(_touched(path), MIB), "qcow2", "declared qcow2, but it is raw"),
    "qcow2 of 10 TiB": Hostile(lambda path: created(path, "qcow2", size="10T"), "qcow2", "a disk of 10240 GiB"),
    "raw of 10 TiB": Hostile(lambda path: cut(_touched(path), 10 * TIB), "raw", "10240 GiB"),
    "vmdk of 10 TiB": Hostile(
        lambda path: patched(created(path, "vmdk"), 12, struct.pack("<Q", 10 * TIB // 512)),
        "vmdk",
        "a disk of 10240 GiB",
    ),
    "a million snapshots": Hostile(many_snapshots, "qcow2", "it has 1000000 internal snapshots"),
    "encrypted": Hostile(
        lambda path: patched(created(path, "qcow2"), CRYPT, struct.pack(">I", 1)), "qcow2", "it is encrypted"
    ),
    "a table of 16 GiB": Hostile(
        lambda path: patched(created(path, "qcow2"), L1_SIZE, struct.pack(">I", 2**31)), "qcow2", "tables are larger"
    ),
    "a table that is too small": Hostile(
        lambda path: patched(created(path, "qcow2", size="1T"), L1_SIZE, struct.pack(">I", 1)), "qcow2", "do not cover"
    ),
    "a table behind the end": Hostile(
        lambda path: patched(created(path, "qcow2"), L1_OFFSET, struct.pack(">Q", 1 << 40)), "qcow2", "behind its end"
    ),
    "a table at no place": Hostile(
        lambda path: patched(created(path, "qcow2"), L1_OFFSET, b"\xff" * 8), "qcow2", "behind its end"
    ),
    "truncated in its data": Hostile(
        lambda path: cut(written(path, "qcow2"), MIB), "qcow2", "a cluster lies behind its end"
    ),
    "truncated, compressed": Hostile(
        lambda path: cut(written(path, "qcow2", "-c"), MIB // 2), "qcow2", "a cluster lies behind its end"
    ),
    "truncated in its tables": Hostile(
        lambda path: cut(written(path, "qcow2"), 4 * 65536), "qcow2", "an L2 table lies behind its end"
    ),
    "truncated before its tables": Hostile(
        lambda path: cut(written(path, "qcow2"), 2 * 65536), "qcow2", "truncated: its"
    ),
    "truncated in its header": Hostile(lambda path: cut(created(path, "qcow2"), 80), "qcow2", "but it is raw"),
    "vmdk that is an extent's list": Hostile(
        lambda path: created(path, "vmdk", "-o", "subformat=monolithicFlat"), "vmdk", "type 'monolithicflat'"
    ),
    "vmdk in several files": Hostile(
        lambda path: created(path, "vmdk", "-o", "subformat=twoGbMaxExtentSparse"),
        "vmdk",
        "type 'twogbmaxextentsparse'",
    ),
    "vmdk with a parent": Hostile(
        lambda path: described(
            created(path, "vmdk"), "parentCID=ffffffff", 'parentCID=1234abcd\nparentFileNameHint="/etc/shadow"'
        ),
        "vmdk",
        "it has a parent",
    ),
    "vmdk with a parent's id alone": Hostile(
        lambda path: described(created(path, "vmdk"), "parentCID=ffffffff", "parentCID=1234abcd"),
        "vmdk",
        "it has a parent",
    ),
    "vmdk with a hidden parent": Hostile(hidden_parent, "vmdk", "it has a parent"),
    "vmdk with an extent elsewhere": Hostile(
        lambda path: described(created(path, "vmdk"), 'SPARSE ".*"', 'SPARSE "/etc/shadow"'), "vmdk", "extent"
    ),
    "vmdk with a flat extent": Hostile(
        lambda path: described(created(path, "vmdk"), 'SPARSE "(.*)"', r'FLAT "\1" 0'), "vmdk", "extents (flat)"
    ),
    "vmdk with two extents": Hostile(
        lambda path: described(created(path, "vmdk"), "\n(RW .*)\n", r"\n\1\n\1\n"), "vmdk", "it has 2 extents"
    ),
    "vmdk whose descriptor is elsewhere": Hostile(
        lambda path: patched(created(path, "vmdk"), 28, struct.pack("<Q", 64)), "vmdk", "descriptor location"
    ),
    "vmdk of no size": Hostile(
        # QEMU would take the descriptor's extents for it.
        lambda path: patched(created(path, "vmdk"), 12, bytes(8)),
        "vmdk",
        "it has 0 sectors",
    ),
    "vmdk with odd tables": Hostile(
        lambda path: patched(created(path, "vmdk"), 44, struct.pack("<I", 1)), "vmdk", "tables have 1 entries"
    ),
    "vmdk with odd grains": Hostile(
        lambda path: patched(created(path, "vmdk"), 20, struct.pack("<Q", 3)), "vmdk", "in grains of 3"
    ),
    "vmdk, truncated in its data": Hostile(
        lambda path: cut(written(path, "vmdk"), MIB // 2), "vmdk", "a grain lies behind its end"
    ),
    "vmdk, truncated in its tables": Hostile(
        lambda path: cut(written(path, "vmdk"), 25 * 512), "vmdk", "lies behind its end"
    ),
    "vmdk, a stream whose footer is of a larger disk": Hostile(
        lambda path: _with_footer(path, 12, struct.pack("<Q", 10 * TIB // 512)), "vmdk", "another disk than its header"
    ),
    "vmdk, a stream whose footer has another descriptor": Hostile(
        lambda path: _with_footer(path, 28, struct.pack("<Q", 64)), "vmdk", "different descriptor"
    ),
    "vmdk, a stream whose tables are elsewhere": Hostile(
        lambda path: _with_footer(path, 56, struct.pack("<Q", 1 << 62)), "vmdk", "behind its end"
    ),
    "vmdk, a truncated stream": Hostile(
        lambda path: _shorter(as_stream(streamed(path)), 512), "vmdk", "Header and footer signature"
    ),
    "vmdk, a stream that is no stream's length": Hostile(
        lambda path: as_stream(streamed(path), b"x" * 100), "vmdk", "no multiple of 512"
    ),
}


def streamed(path: Path) -> Path:
    """A VMDK as virtual machines are exported."""
    return written(path, "vmdk", "-o", "subformat=streamOptimized", size=2 * MIB)


def _with_footer(path: Path, offset: int, new: bytes) -> Path:
    as_stream(streamed(path))
    return patched(path, path.stat().st_size - 1024 + offset, new)


def _shorter(path: Path, by: int) -> Path:
    return cut(path, path.stat().st_size - by)


def _touched(path: Path) -> Path:
    path.touch()
    return path
