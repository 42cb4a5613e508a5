"""Which overlays on disk need which files: found in their backing chains, whatever the journal says of them."""

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.errors import os_errors
from worker.host.headers import qcow2_header

#: Overlays, and those that are not published yet. A raw disk holds whatever its guest wrote: nobody reads it as qcow2.
_OVERLAY: Final = re.compile(r".+\.qcow2(\.[0-9]+\.part)?")
_INSTANCE: Final = re.compile(r"[0-9a-f-]{36}")
#: QEMU opens no longer chains than its recursion permits; ours have two files.
MAX_CHAIN: Final = 64
MAX_DEPTH: Final = 4


def holders(instances_folder: str) -> Mapping[str, frozenset[str]]:
    """The files that overlays below the folder are based on, by real path, each with the instances that need it.

    Raises HostError when that cannot be told whole: then nothing may be removed.
    """
    found: defaultdict[str, set[str]] = defaultdict(set)
    with os_errors(f"look for overlays in {instances_folder}"):
        for path in _overlays(instances_folder):
            match = _INSTANCE.match(str(Path(path).relative_to(instances_folder)))
            for base in _chain(path):
                found[base].add(match[0] if match else path)
    return {base: frozenset(names) for base, names in found.items()}


def _overlays(folder: str) -> Iterator[str]:
    waiting = [(folder, 0)]
    while waiting:
        here, depth = waiting.pop()
        with suppress(FileNotFoundError), os.scandir(here) as entries:  # its instance is being destroyed
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
                    waiting.append((entry.path, depth + 1))
                elif entry.is_file(follow_symlinks=False) and _OVERLAY.fullmatch(entry.name):
                    yield entry.path


def _chain(path: str) -> Iterator[str]:
    """The files that this one needs, one after another; those that are gone need none."""
    for _ in range(MAX_CHAIN):
        backing = _backing_of(path)
        if backing is None:
            return
        path = os.path.realpath(Path(path).parent / backing)
        yield path
    raise HostError(ErrorClass.PERMANENT, f"the backing chain of {path} does not end")


def _backing_of(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        header = qcow2_header(descriptor)
        return None if header is None or not header.backing_path else header.backing_path
    finally:
        os.close(descriptor)
