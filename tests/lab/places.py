"""Where the lab keeps and finds things: one cache in the checkout, and a scratch folder for each server."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".lab"  #: filled by `make setup` and by first uses; safe to delete


class LabIncompleteError(RuntimeError):
    """Something that `make setup` brings is not there."""


def program(*names: str) -> str:
    """The full path of the first of these programs that is installed."""
    for name in names:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
        if found:
            return found
    raise LabIncompleteError(f"{names[0]} is not installed: run `make setup`")


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A folder that others may pass through, removed at the end. Its name is short: UNIX sockets allow 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix=f"hostler-{purpose}-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
