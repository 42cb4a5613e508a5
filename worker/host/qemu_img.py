"""qemu-img: new images, and copies of them. Formats are said, never guessed."""

import re
import tempfile
from collections.abc import Callable
from typing import IO, Final

from tasks.host import Image
from worker.host import children
from worker.host.children import Limits

_GIB: Final = 1024**3
#: A copy from and to slow disks that others use as well, and one whose source is compressed, take less for a GiB.
COPY_S_PER_GIB: Final = 60
COPY_CPU_S_PER_GIB: Final = 30
_PROGRESS: Final = re.compile(rb"\(([0-9.]+)/100%\)")
#: The last percentage lies within the last words.
_LAST_WORDS_BYTES: Final = 256


def create_qcow2(path: str, size_bytes: int, backing: Image | None, *, program: str = "qemu-img") -> None:
    """A new qcow2 file at ``path``, readable by its owner alone."""
    base = [] if backing is None else ["-b", backing.path, "-F", backing.format]
    children.run([program, "create", "-q", "-f", "qcow2", *base, path, str(size_bytes)], f"create {path}")


def copy(  # noqa: PLR0913  # two ends of one copy, each by name
    source: int,
    image: Image,
    path: str,
    disk_format: str,
    *,
    watch: Callable[[float], None],
    program: str = "qemu-img",
) -> None:
    """Copy the image, which is open as ``source``, into the empty disk at ``path``, which is at least as large.

    ``watch`` is told about once a second which part of it is done, 0 to 1; what it raises ends the copy, and leaves.
    """
    gib = -(-image.virtual_size_bytes // _GIB)
    limits = Limits(
        deadline_s=children.DEADLINE_S + COPY_S_PER_GIB * gib, cpu_s=children.CPU_LIMIT_S + COPY_CPU_S_PER_GIB * gib
    )
    # That very file, whatever has its name by now.
    formats = ["-f", image.format, "-O", disk_format]
    arguments = [program, "convert", "-p", "-n", "--target-is-zero", *formats, f"/proc/self/fd/{source}", path]
    with tempfile.TemporaryFile() as output:
        children.run(
            arguments,
            f"copy {image.path} into {path}",
            limits=limits,
            watch=lambda: watch(_done(output)),
            output=output,
            inherited=(source,),
        )


def _done(output: IO[bytes]) -> float:
    output.seek(max(0, output.seek(0, 2) - _LAST_WORDS_BYTES))
    told = _PROGRESS.findall(output.read())
    return float(told[-1]) / 100 if told else 0.0
