"""Folders, sockets and file systems: what can be told without asking any daemon."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from worker.doctor.findings import Finding, fine, problem

#: sockaddr_un holds 108 bytes, the last of which is the end of the string; see unix(7).
SOCKET_PATH_MAX_BYTES: Final = 107
#: A guest's overlay begins at a few hundred KiB, its saved memory and logs take more; below this, spawns soon fail.
SPACE_NEEDED_MIB: Final = 1024
INODES_NEEDED: Final = 1000
#: Types in mountinfo (proc(5)) of file systems that other machines serve: a lock there may not be seen by the kernel
#: of this one alone, and SQLite's log in shared memory does not work there.
REMOTE_FILE_SYSTEMS: Final = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "coda",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb3",
        "smbfs",
    }
)
REMOTE_FUSE: Final = frozenset(
    {"fuse.sshfs", "fuse.glusterfs", "fuse.cephfs", "fuse.s3fs", "fuse.juicefs", "fuse.rclone"}
)
_MOUNTS: Final = Path("/proc/self/mountinfo")
_MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class _Mount:
    point: str
    type: str


def first_existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    for each in (path, *path.parents):
        if each.exists():
            return each
    return Path("/")


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that the path, links resolved, is on by this mountinfo; empty where none fits."""
    resolved = str(path)
    found = _Mount("", "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:  # noqa: PLR2004  # the mount point is the fifth field
            continue
        point = fields[4].encode().decode("unicode_escape")  # blanks are written as \040
        below = resolved == point or resolved.startswith(f"{point.rstrip('/')}/")
        if below and len(point) >= len(found.point):  # of two mounts on one point, the later covers the earlier
            found = _Mount(point, after.split()[0])
    return found.type


def is_remote(file_system: str) -> bool:
    """Whether other machines serve a file system of this type."""
    return file_system in REMOTE_FILE_SYSTEMS | REMOTE_FUSE


def file_system(path: Path) -> str:
    """The type of the file system that the path is on now."""
    return file_system_of(first_existing(path).resolve(), _MOUNTS.read_text(encoding="utf-8", errors="replace"))


def state_folder(folder: Path) -> Finding:
    """Whether this process can make files in the state folder."""
    check = "state_folder"
    there = first_existing(folder)
    if there != folder and there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return fine(check, f"{folder} is not there yet; the worker makes it")
    try:
        with tempfile.TemporaryFile(dir=folder if there == folder else there):
            pass
    except OSError as error:
        return problem(
            check,
            f"no file can be made in {folder}: {error.strerror}",
            "make it a folder that the worker's user can write, or set HOSTLER_STATE_DIR",
        )
    return fine(check, f"{folder} can be written")


def space(folder: Path) -> Finding:
    """Whether instances' files have room."""
    check = "space"
    there = first_existing(folder)
    have = os.statvfs(there)
    free_mib = have.f_bavail * have.f_frsize // _MIB
    if free_mib < SPACE_NEEDED_MIB:
        return problem(
            check,
            f"{folder} has {free_mib} MiB free, fewer than {SPACE_NEEDED_MIB}",
            "remove files there, or move HOSTLER_STATE_DIR to a larger file system",
        )
    if have.f_files and have.f_favail < INODES_NEEDED:
        return problem(
            check,
            f"{folder} has {have.f_favail} inodes free, fewer than {INODES_NEEDED}",
            "remove files there, or move HOSTLER_STATE_DIR to another file system",
        )
    return fine(check, f"{folder} has {free_mib} MiB free")


def socket_paths(paths: Sequence[tuple[str, str]]) -> Finding:
    """Whether every UNIX socket's path can be had; ``paths`` are pairs of a setting's name and a path."""
    check = "socket_path"
    for setting, path in paths:
        length = len(os.fsencode(path))
        if length > SOCKET_PATH_MAX_BYTES:
            return problem(
                check,
                f"{path} has {length} bytes, a socket's path at most {SOCKET_PATH_MAX_BYTES}",
                f"set {setting} to a shorter path",
            )
    return fine(check, "no socket's path is too long")


def socket_of_uri(uri: str) -> str | None:
    """The UNIX socket that a libvirt URI, a broker's or a database's names, if it does."""
    parts = urlsplit(uri)
    if parts.scheme in {"redis+socket", "unix"}:
        return parts.path
    asked = parse_qs(parts.query)
    named = [*asked.get("socket", []), *(f"{host}/.s.PGSQL.5432" for host in asked.get("host", []))]
    return next((path for path in named if path.startswith("/")), None)


def lock_folder(folder: Path) -> Finding:
    """Whether a kernel's lock in the folder keeps a second worker of this machine away."""
    check = "lock_folder"
    do = "set HOSTLER_LOCK_DIR to a folder on a local file system that every worker of this libvirt sees"
    there = first_existing(folder)
    kind = file_system(there)
    if is_remote(kind):
        return problem(check, f"{folder} is on {kind}, which other machines serve", do)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return problem(check, f"no file can be locked in {folder}: {error.strerror}", do)
    return fine(check, f"{folder} is on {kind or 'a local file system'}")


def qemu_img() -> Finding:
    """Whether disks can be made."""
    found = shutil.which("qemu-img")
    if found is None:
        return problem("qemu_img", "there is no program qemu-img on the PATH", "install qemu-utils")
    return fine("qemu_img", found)
