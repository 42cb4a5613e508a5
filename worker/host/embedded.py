"""The root folder of libvirt's embedded driver: its settings, and what a process that died left there."""

import logging
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from lxml import etree

_log = logging.getLogger(__name__)

_SETTINGS = """\
# Written once by Hostler; yours to change, it is never written again.
# Guests run as the user that the worker runs as. No daemon stands beside the driver to keep their logs.
user = "+{user}"
group = "+{group}"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""


def is_embedded(uri: str) -> bool:
    """Whether the URI names libvirt's driver inside this very process."""
    return urlsplit(uri).path == "/embed"


@cache
def prepare(uri: str) -> None:
    """Make the embedded root fit to be opened, once in a process; the lock of the root must be held.

    Does nothing for another driver. Raises OSError.
    """
    root = parse_qs(urlsplit(uri).query).get("root", [""])[0]
    if is_embedded(uri) and root:
        _write_settings(Path(root, "etc", "qemu.conf"))
        _forget_lost_starts(Path(root, "run", "qemu"))


def _write_settings(settings: Path) -> None:
    settings.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), settings.open("x", encoding="utf-8") as file:
        file.write(_SETTINGS.format(user=os.geteuid(), group=os.getegid()))


def _forget_lost_starts(folder: Path) -> None:
    """Remove what the driver kept of starts that ended with its process before there was a QEMU.

    libvirt writes a QEMU's pid down before it lets it begin, and does not look after a domain without one: it would be
    shown as being started for ever, and neither be started nor destroyed (seen with 9.0).
    """
    for status in folder.glob("*.xml"):
        with suppress(etree.XMLSyntaxError):  # libvirt tells of what it cannot read, and leaves it out
            if etree.parse(status).getroot().get("pid") == "0":
                status.unlink()
                _log.warning("a start was lost with an earlier worker before its QEMU began: %s", status.stem)
