"""Values that no libvirt document can carry, refused before one is made of them."""

import re
from collections.abc import Mapping
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError

ALIAS: Final = re.compile(r"ua-[A-Za-z0-9_-]+")  # libvirt ignores any other alias without a word
_SD: Final = re.compile(r"sd[a-z]{1,2}")
#: What disks are called, by the bus that they are on.
DISK_TARGETS: Final[Mapping[str, re.Pattern[str]]] = {
    "virtio": re.compile(r"vd[a-z]{1,2}"),
    "scsi": _SD,
    "sata": _SD,
    "usb": _SD,
    "ide": re.compile(r"hd[a-d]"),
}
SERIAL: Final = re.compile(r"[A-Za-z0-9_.+ -]{1,64}")
#: What Linux takes, less what libvirt would read as a pattern.
INTERFACE_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,15}")

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAKS = re.compile("[\n\r\u0085\u2028\u2029]")


def refuse_if(unfit: object, why: str) -> None:
    """Raise HostError(PERMANENT) if it is."""
    if unfit:
        raise HostError(ErrorClass.PERMANENT, why)


def refuse_text(what: str, value: str) -> None:
    """Raise HostError(PERMANENT) unless the value is one line that XML can carry."""
    refuse_if(_NOT_XML.search(value), f"{what} {value!r} has a character that XML cannot carry")
    refuse_if(_LINE_BREAKS.search(value), f"{what} {value!r} has a line break")


def refuse_mismatch(what: str, value: str, pattern: re.Pattern[str]) -> None:
    """Raise HostError(PERMANENT) unless the pattern describes the whole value."""
    refuse_if(not pattern.fullmatch(value), f"the {what} {value!r} does not match {pattern.pattern}")
