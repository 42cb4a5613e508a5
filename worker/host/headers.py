"""What an image file's own bytes say, read by an inspector that starts no program and follows no reference."""

import io
import os
from dataclasses import dataclass
from typing import Final

from oslo_utils.imageutils import format_inspector

#: The headers of all formats that are told apart lie within this; no file makes us read more of it.
INSPECTED_BYTES: Final = 4 * 1024**2
CHUNK_BYTES: Final = 64 * 1024
HEADER_BYTES: Final = 4096
BACKING_PATH_LIMIT_BYTES: Final = 1023  #: the format's own limit


class UnfitImage(Exception):  # noqa: N818 - it says what the image is
    """The bytes are of no single format, or refer to something else."""


@dataclass(frozen=True)
class Qcow2Header:
    """What a qcow2 file says of itself."""

    virtual_size_bytes: int
    backing_path: str | None


def qcow2_header(descriptor: int) -> Qcow2Header | None:
    """The header of an open file, or None when it is not qcow2."""
    inspector = format_inspector.QcowInspector()
    inspector.eat_chunk(os.pread(descriptor, HEADER_BYTES, 0))
    if not inspector.format_match:
        return None
    header = inspector.qemu_header_info
    backing_path = None
    if header["bf_offset"]:
        length = min(header["bf_sz"], BACKING_PATH_LIMIT_BYTES)
        backing_path = os.fsdecode(os.pread(descriptor, length, header["bf_offset"]))
    return Qcow2Header(inspector.virtual_size, backing_path)


def detected_format(descriptor: int) -> str:
    """The format of an open file; ``raw`` when it is of no known one. Raises UnfitImage when it is of several."""
    inspector = _inspected(descriptor)
    return str(inspector)


def check_refers_to_nothing(descriptor: int) -> None:
    """Raise UnfitImage when the file has a backing file, a data file, or features that are not known."""
    inspector = _inspected(descriptor)
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as failed:
        raise UnfitImage("; ".join(str(reason) for reason in failed.failures.values())) from failed
    except format_inspector.ImageFormatError as error:
        raise UnfitImage(str(error)) from error


def _inspected(descriptor: int) -> format_inspector.FileInspector:
    with io.FileIO(descriptor, closefd=False) as file:
        file.seek(0)
        source = format_inspector.InspectWrapper(file)
        try:
            for _ in range(INSPECTED_BYTES // CHUNK_BYTES):
                if source.format is not None or not source.read(CHUNK_BYTES):
                    break
            source.close()
            inspector = source.format
        except format_inspector.ImageFormatError as error:
            raise UnfitImage(str(error)) from error
    if inspector is None:
        raise UnfitImage("its format cannot be told")
    return inspector
