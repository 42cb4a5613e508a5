"""Settings of libvirt's embedded driver, which reads them from its own root folder."""

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

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


def write_settings_once(uri: str) -> None:
    """The embedded root's ``etc/qemu.conf``, unless there is one."""
    root = parse_qs(urlsplit(uri).query).get("root", [""])[0]
    if not is_embedded(uri) or not root:
        return
    settings = Path(root, "etc", "qemu.conf")
    settings.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), settings.open("x", encoding="utf-8") as file:
        file.write(_SETTINGS.format(user=os.geteuid(), group=os.getegid()))
