"""What QEMU's own logs say: the one witness of a guest's starts that neither worker nor libvirtd can edit."""

import re
from pathlib import Path
from uuid import UUID

_START = re.compile(r"^\d{4}-\d\d-\d\d \S+: starting up libvirt version:", re.MULTILINE)


def starts(folder: Path, guest: UUID | str) -> list[str]:
    """The log of each start of this guest, oldest first, from libvirt's first line to QEMU's last."""
    found: list[str] = []
    for log in sorted(folder.glob("*.log")):
        text = log.read_text(errors="replace")
        begins = [match.start() for match in _START.finditer(text)]
        ends = [*begins[1:], len(text)][: len(begins)]  # a guest that never came to be started has a log, too
        sections = [text[begin:end] for begin, end in zip(begins, ends, strict=True)]
        found += [section for section in sections if f"-uuid {UUID(str(guest))}" in section]
    return sorted(found)
