"""The tables of a qcow2 file: whether they, and all that they point to, lie within it.

The layout is that of QEMU's ``docs/interop/qcow2.txt``. What is read is bounded, whatever the header says.
"""

import os
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from worker.host.headers import UnfitImage

#: An image to make guests from needs none; QEMU would read the table of 65,536 at every open.
MAX_SNAPSHOTS: Final = 16
#: QEMU's own limits: clusters of 512 bytes to 2 MiB, an L1 table of 32 MiB, a refcount table of 8 MiB.
CLUSTER_BITS: Final = range(9, 22)
MAX_L1_BYTES: Final = 32 * 1024**2
MAX_REFCOUNT_TABLE_BYTES: Final = 8 * 1024**2
#: The L2 tables of a full disk of 1 TiB, in clusters of 64 KiB, are as large.
MAX_L2_BYTES: Final = 128 * 1024**2

_HEADER: Final = struct.Struct(">4s I Q I I Q I I Q Q I I Q")
_HOST_OFFSET: Final = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED: Final = 1 << 62


@dataclass(frozen=True)
class _Header:
    cluster_bits: int
    size: int
    encryption: int
    l1_entries: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshots: int
    snapshots_offset: int


def check_tables(descriptor: int) -> None:
    """Raise UnfitImage when the open qcow2 file is encrypted, has too many snapshots, or ends before what it maps."""
    head = os.pread(descriptor, _HEADER.size, 0)
    if len(head) < _HEADER.size:
        raise UnfitImage("it is truncated within its header")
    header = _Header(*_HEADER.unpack(head)[4:])
    file_bytes = os.fstat(descriptor).st_size
    if header.cluster_bits not in CLUSTER_BITS:
        raise UnfitImage(f"its clusters are of 2^{header.cluster_bits} bytes")
    if header.encryption:
        raise UnfitImage("it is encrypted")
    if header.snapshots > MAX_SNAPSHOTS:
        raise UnfitImage(f"it has {header.snapshots} internal snapshots, more than {MAX_SNAPSHOTS}")
    cluster = 1 << header.cluster_bits
    l1_bytes, refcount_bytes = header.l1_entries * 8, header.refcount_clusters * cluster
    if l1_bytes > MAX_L1_BYTES or refcount_bytes > MAX_REFCOUNT_TABLE_BYTES:
        raise UnfitImage("its tables are larger than any that QEMU makes")
    if header.l1_entries * (cluster // 8) * cluster < header.size:
        raise UnfitImage("its tables do not cover its size")
    for what, offset, length in (
        ("its refcount table", header.refcount_offset, refcount_bytes),
        ("its snapshot table", header.snapshots_offset, header.snapshots and 1),
        ("its L1 table", header.l1_offset, l1_bytes),
    ):
        if length and offset + length > file_bytes:
            raise UnfitImage(f"it is truncated: {what} lies behind its end")
    _check_mapped(descriptor, header, file_bytes)


def _check_mapped(descriptor: int, header: _Header, file_bytes: int) -> None:
    cluster = 1 << header.cluster_bits
    # Different entries may name one table, and a hostile file has millions that do: each is read once.
    tables = {entry & _HOST_OFFSET for entry in _entries(descriptor, header.l1_offset, header.l1_entries * 8)} - {0}
    if len(tables) * cluster > MAX_L2_BYTES:
        raise UnfitImage("its tables are too large to be inspected")
    compressed_offset = (1 << (62 - (header.cluster_bits - 8))) - 1
    for table in sorted(tables):
        if table + cluster > file_bytes:
            raise UnfitImage("it is truncated: an L2 table lies behind its end")
        for entry in set(_entries(descriptor, table, cluster)):
            # The last cluster of a file may be cut short at its end; none begins behind it.
            offset = entry & (compressed_offset if entry & _COMPRESSED else _HOST_OFFSET)
            if offset >= file_bytes:
                raise UnfitImage("it is truncated: a cluster lies behind its end")


def _entries(descriptor: int, offset: int, length: int) -> Iterator[int]:
    found = array("Q", os.pread(descriptor, length, offset).ljust(length, b"\0")) if length else array("Q")
    if sys.byteorder == "little":
        found.byteswap()
    return iter(found)
