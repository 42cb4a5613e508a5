"""VMDK files: of the types that are one file and whole, and only where QEMU would read nothing but them.

The layout is that of VMware's "Virtual Disk Format" 5.0, and what QEMU 7.2 makes of it: it takes the text at 512 bytes
for the descriptor whatever the header says, and follows any ``parentFileNameHint`` there.
"""

import os
import re
import struct
import sys
from array import array
from dataclasses import dataclass
from typing import Final

from oslo_utils.imageutils import format_inspector

from worker.host.headers import UnfitImage

#: The types that are used, by the names that descriptors give them in lower case. All others need further files.
TYPES: Final = {"monolithicsparse": "monolithicSparse", "streamoptimized": "streamOptimized"}
#: All that the inspector reads from the beginning: the descriptor is shorter than 1 MiB.
HEAD_BYTES: Final = 1024**2 + 512
#: A stream ends with a marker, a copy of the header, and another marker.
FOOTER_BYTES: Final = 1536
SECTOR_BYTES: Final = 512
GRAIN_SECTORS: Final = frozenset(1 << bits for bits in range(3, 13))  #: 4 KiB to 2 MiB
ENTRIES_PER_TABLE: Final = 512
#: The grain tables of a full disk of 2 TiB, in grains of 64 KiB, are as large.
MAX_TABLES_BYTES: Final = 128 * 1024**2

_HEADER: Final = struct.Struct("<4s I I Q Q Q Q I Q Q")
_TABLE_BYTES: Final = ENTRIES_PER_TABLE * 4
_AT_END: Final = 0xFFFF_FFFF_FFFF_FFFF
_HAS_SECOND_DIRECTORY: Final = 1 << 1
_DESCRIPTOR_BYTES: Final = 20 * SECTOR_BYTES  # QEMU reads so much of it, always
_PARENT: Final = re.compile(rb"parentcid\s*=\s*(?!ffffffff\b)|parentfilenamehint")
_EXTENT: Final = re.compile(r"(?:rw|rdonly|noaccess)\s+[0-9]+\s+(?P<type>\S+)")


@dataclass(frozen=True)
class _Header:
    magic: bytes
    version: int
    flags: int
    sectors: int
    grain_sectors: int
    descriptor_sector: int
    descriptor_sectors: int
    entries_per_table: int
    second_directory: int
    directory: int

    @classmethod
    def at(cls, descriptor: int, offset: int) -> "_Header":
        head = os.pread(descriptor, _HEADER.size, offset)
        if len(head) < _HEADER.size:
            raise UnfitImage("it is truncated within its header")
        return cls(*_HEADER.unpack(head))

    @property
    def geometry(self) -> tuple[int, int, int]:
        return self.sectors, self.grain_sectors, self.entries_per_table


def vmdk_size(descriptor: int) -> int:
    """The virtual size of the open VMDK file, in bytes.

    Raises UnfitImage when it is of no type in `TYPES`, or refers to another file.
    """
    text = _inspected(descriptor, os.fstat(descriptor).st_size)
    _check_descriptor(text, os.pread(descriptor, _DESCRIPTOR_BYTES, SECTOR_BYTES))
    return _header(descriptor).sectors * SECTOR_BYTES


def check_grains(descriptor: int) -> None:
    """Raise UnfitImage when the open VMDK file ends before what it maps."""
    header, file_bytes = _header(descriptor), os.fstat(descriptor).st_size
    tables = -(-header.sectors // (header.grain_sectors * ENTRIES_PER_TABLE))
    if tables * _TABLE_BYTES > MAX_TABLES_BYTES:
        raise UnfitImage("its tables are too large to be inspected")
    directories = [header.directory]
    if header.flags & _HAS_SECOND_DIRECTORY:
        directories.append(header.second_directory)
    for directory in directories:
        if directory * SECTOR_BYTES + tables * 4 > file_bytes:
            raise UnfitImage("it is truncated: a grain directory lies behind its end")
        # Different entries may name one table: each is read once.
        for table in sorted(set(_entries(descriptor, directory, tables)) - {0}):
            if table * SECTOR_BYTES + _TABLE_BYTES > file_bytes:
                raise UnfitImage("it is truncated: a grain table lies behind its end")
            if max(_entries(descriptor, table, ENTRIES_PER_TABLE)) * SECTOR_BYTES >= file_bytes:
                raise UnfitImage("it is truncated: a grain lies behind its end")


def _header(descriptor: int) -> _Header:
    """The header that counts."""
    header, file_bytes = _Header.at(descriptor, 0), os.fstat(descriptor).st_size
    if header.directory == _AT_END:
        if file_bytes % SECTOR_BYTES:
            raise UnfitImage("it is truncated: its length is no multiple of 512 bytes")
        footer = _Header.at(descriptor, max(0, file_bytes - 2 * SECTOR_BYTES))
        if footer.geometry != header.geometry:
            raise UnfitImage("its footer describes another disk than its header")
        header = footer
    if header.sectors == 0 or header.grain_sectors not in GRAIN_SECTORS:
        raise UnfitImage(f"it has {header.sectors} sectors, in grains of {header.grain_sectors}")
    if header.entries_per_table != ENTRIES_PER_TABLE:
        raise UnfitImage(f"its grain tables have {header.entries_per_table} entries, not {ENTRIES_PER_TABLE}")
    return header


def _inspected(descriptor: int, file_bytes: int) -> str:
    """The descriptor's text, in lower case, once the inspector has found nothing in it."""
    inspector = format_inspector.VMDKInspector()
    try:
        inspector.eat_chunk(os.pread(descriptor, HEAD_BYTES, 0))
        if file_bytes > HEAD_BYTES:
            # What is between says nothing: a footer is the end, and the inspector keeps just that.
            inspector.eat_chunk(os.pread(descriptor, FOOTER_BYTES, max(HEAD_BYTES, file_bytes - FOOTER_BYTES)))
        inspector.finish()
        if inspector.desc_text is None:
            raise UnfitImage("its descriptor cannot be read")
        if inspector.vmdktype not in TYPES:
            types = " or ".join(TYPES.values())
            raise UnfitImage(f"it is a VMDK of the type {inspector.vmdktype!r}, not {types}")
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as failed:
        raise UnfitImage("; ".join(str(reason) for reason in failed.failures.values())) from failed
    except format_inspector.ImageFormatError as error:
        raise UnfitImage(str(error)) from error
    return str(inspector.desc_text)


def _check_descriptor(text: str, as_qemu_reads_it: bytes) -> None:
    if _PARENT.search(as_qemu_reads_it.lower()) or _PARENT.search(text.encode()):
        raise UnfitImage("it has a parent")
    extents = [match["type"] for match in map(_EXTENT.match, map(str.strip, text.splitlines())) if match]
    if extents != ["sparse"]:
        raise UnfitImage(f"it has {len(extents)} extents ({', '.join(extents)[:60]}), not just one that is sparse")


def _entries(descriptor: int, sector: int, count: int) -> "array[int]":
    found = array("I", os.pread(descriptor, count * 4, sector * SECTOR_BYTES).ljust(count * 4, b"\0"))
    if sys.byteorder == "big":
        found.byteswap()
    return found
