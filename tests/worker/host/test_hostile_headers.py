"""Image files with anything in their headers: taken or refused by name, and the inspector always comes back."""

import os
from pathlib import Path

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from models.states import ErrorClass
from tasks.host import HostError
from tests.worker.host.hostile_images import as_stream, written
from tests.worker.host.image_scene import MIB
from worker.host.images.inspecting import FORMATS, Inspector

LIMIT_BYTES = 1024**4
#: Numbers that mean something to whoever reads a header; in both orders of bytes.
NUMBERS = [0, 1, 2, 3, 9, 21, 511, 512, 2**16, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
WORDS = [b"QFI\xfb", b"KDMV", b"createType=", b"parentFileNameHint", b"CD001", b"EFI PART", b"conectix", b"\0", b"\xff"]
PLACES = st.one_of(st.integers(0, 1024), st.sampled_from([0, 32766, 32769, 65536, 131072]), st.integers(-2048, -1))
PIECES = st.one_of(
    st.builds(
        lambda number, length, order: (number % 256**length).to_bytes(length, order),
        st.sampled_from(NUMBERS),
        st.sampled_from([1, 2, 4, 8]),
        st.sampled_from(["big", "little"]),
    ),
    st.sampled_from(WORDS),
    st.binary(max_size=16),
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Images to begin with."""
    folder = tmp_path_factory.mktemp("good")
    return [
        path.read_bytes()
        for path in (
            written(folder / "qcow2", "qcow2", size=65536),
            written(folder / "old", "qcow2", "-c", "-o", "compat=0.10", size=65536),
            written(folder / "vmdk", "vmdk", size=65536),
            as_stream(written(folder / "stream", "vmdk", "-o", "subformat=streamOptimized", size=65536)),
        )
    ]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is made each image in turn."""
    return tmp_path_factory.mktemp("changed") / "image"


@seed(0)
@given(
    st.integers(0, 3),
    st.lists(st.tuples(PLACES, PIECES), max_size=4),
    st.one_of(st.none(), st.integers(0, 1024), st.integers(0, MIB)),
    st.sampled_from([*FORMATS, "vdi"]),
)
def test_any_header_is_taken_or_refused_by_name(
    good: list[bytes],
    file: Path,
    which: int,
    changes: list[tuple[int, bytes]],
    length: int | None,
    declared: str,
) -> None:
    """In one sentence, and never with an error of another kind."""
    image = bytearray(good[which])
    for place, piece in changes:
        begin = place if place >= 0 else max(0, len(image) + place)
        image[begin : begin + len(piece)] = piece
    file.write_bytes(image[:length])
    refused = refusal(file, declared)
    assert refused is None or (refused.error_class is ErrorClass.PERMANENT and str(refused).isprintable())


def refusal(file: Path, declared: str) -> HostError | None:
    """What the inspector says against the image, if anything."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        found = Inspector(LIMIT_BYTES).inspected(descriptor, str(file), declared, called="it")
    except HostError as error:
        return error
    finally:
        os.close(descriptor)
    assert found.format == declared
    assert 0 < found.virtual_size_bytes <= LIMIT_BYTES
    return None
