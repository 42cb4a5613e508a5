"""Runs a program in a mount namespace of its own, where some paths show other things; the machine sees no change.

libvirt's QEMU driver insists on the account `libvirt-qemu`, even where it runs guests as root. Debian makes it with
libvirt-daemon-system, which the lab does not install: inside an enclosure it exists all the same.
"""

import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.namespaces import inside
from tests.lab.places import program

ACCOUNT = "libvirt-qemu"
ACCOUNT_ID = 64055  #: what Debian reserves for it

#: Arguments: host name or "", number of covers, pairs of (shown, path), the program.
_ENTER = """
set -eu
[ -z "$1" ] || hostname "$1"
covers=$2; shift 2
while [ "$covers" -gt 0 ]; do mount --bind "$1" "$2"; shift 2; covers=$((covers - 1)); done
exec "$@"
"""


def enclosed(
    argv: Sequence[str | Path],
    covers: Mapping[Path, Path],
    *,
    hostname: str = "",
    network_namespace: str | None = None,
) -> list[str]:
    """The command that runs `argv` where each key of `covers` shows what its value holds. Its pid never changes."""
    unshare = [program("unshare"), "--mount", "--uts", "--propagation", "private"]
    pairs = [str(path) for cover in covers.items() for path in reversed(cover)]
    enter = ["/bin/sh", "-c", _ENTER, "sh", hostname, str(len(covers)), *pairs]
    return inside(network_namespace, [*unshare, *enter, *argv])


def qemu_account(folder: Path) -> dict[Path, Path]:
    """Covers under which the account that libvirt's QEMU driver wants exists; none where the machine has it."""
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        covers = {Path("/etc/passwd"): folder / "passwd", Path("/etc/group"): folder / "group"}
        lines = (
            f"{ACCOUNT}:x:{ACCOUNT_ID}:{ACCOUNT_ID}::/nonexistent:/usr/sbin/nologin\n",
            f"{ACCOUNT}:x:{ACCOUNT_ID}:\n",
        )
        for (original, private), line in zip(covers.items(), lines, strict=True):
            private.write_text(original.read_text() + line)
        return covers
    return {}
