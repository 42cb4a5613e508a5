"""What QEMU's own user may do: asked of the kernel, by a process that runs as that user."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from worker.doctor.findings import Finding, fine, problem, unknown, warning
from worker.doctor.places import first_existing

_DEADLINE_S: Final = 5.0
#: Where Debian keeps the profile of libvirt's helper, which reads a guest's disks to write the guest's own profile.
APPARMOR_PROFILES: Final = Path("/etc/apparmor.d")
HELPER_PROFILE: Final = "usr.lib.libvirt.virt-aa-helper"
#: What that profile lets the helper read as it comes; see libvirt's src/security/apparmor.
HELPER_READS: Final = (Path("/var/lib/libvirt"),)


def qemu_user(user: tuple[int, int] | None, folders: Sequence[Path]) -> Finding:
    """Whether QEMU's user comes into these folders; one that is not there yet is judged by the ones above it."""
    check = "qemu_user"
    if user is None:
        return unknown(check, "libvirt does not say as whom QEMU runs")
    uid, gid = user
    name = _name(uid)
    if uid != os.geteuid() and os.geteuid() != 0:
        return unknown(check, f"only root can look as QEMU's user {name} does")
    program = shutil.which("test", path="/usr/bin:/bin")
    if program is None:
        return unknown(check, "there is no program /usr/bin/test")
    for folder in folders:
        there = first_existing(folder).resolve()
        for each in (*reversed(there.parents), there):
            if not _may_pass(program, each, uid, gid):
                return problem(
                    check,
                    f"QEMU runs as {name}, who cannot enter {each}, on the way to {folder}",
                    f"let that user in (chmod o+x {each}), or set another folder",
                )
    return fine(check, f"QEMU runs as {name}, who comes into {', '.join(map(str, folders))}")


def apparmor(models: frozenset[str], folders: Sequence[Path], profiles: Path = APPARMOR_PROFILES) -> Finding:
    """Whether AppArmor's profile of libvirt's helper knows these folders."""
    check = "apparmor"
    if "apparmor" not in models:
        return fine(check, "libvirt does not confine guests by AppArmor")
    allowed = ""
    for file in (profiles / HELPER_PROFILE, profiles / "local" / HELPER_PROFILE):
        try:
            allowed += file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
        except OSError as error:
            return unknown(check, f"{file}: {error.strerror}")
    for folder in folders:
        if not any(folder.is_relative_to(each) for each in HELPER_READS) and str(folder) not in allowed:
            return warning(
                check,
                f"AppArmor confines guests, and its profile of virt-aa-helper does not name {folder}",
                f"add the line '{folder}/** r,' to {profiles / 'local' / HELPER_PROFILE} and reload AppArmor",
            )
    return fine(check, f"the profile of virt-aa-helper names {', '.join(map(str, folders))}")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _may_pass(program: str, folder: Path, uid: int, gid: int) -> bool:
    """Whether the user may enter the folder, its groups counted as libvirt counts them (initgroups)."""
    as_whom: dict[str, object] = {}
    if os.geteuid() == 0 and uid != 0:
        as_whom = {"user": uid, "group": gid, "extra_groups": _groups(uid, gid)}
    done = subprocess.run(  # type: ignore[call-overload]
        [program, "-x", str(folder)], cwd="/", stdin=subprocess.DEVNULL, timeout=_DEADLINE_S, check=False, **as_whom
    )
    return bool(done.returncode == 0)


def _groups(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]
