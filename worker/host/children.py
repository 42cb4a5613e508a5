"""Programs that this package starts to make files: with a deadline, limits and a process group of their own.

A child may outlive its worker. It is known by what was fixed before it began: the path on its command line.
"""

import errno
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.errors import ERRNO_CLASSES, os_errors

#: Making an empty image takes milliseconds; a file system that hangs must not hold a job for ever.
DEADLINE_S: Final = 60.0
#: A killed child is gone at once, unless its file system hangs.
END_DEADLINE_S: Final = 10.0
#: How often somebody may have a child ended that takes long.
WATCH_S: Final = 1.0
#: An image made to exhaust its reader meets these limits.
CPU_LIMIT_S: Final = 30
ADDRESS_SPACE_LIMIT_BYTES: Final = 2 * 1024**3

#: Debian's packages of the programs.
PACKAGES: Final = {
    "qemu-img": "qemu-utils",
    "mkfs.ext3": "e2fsprogs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mkswap": "util-linux",
    "fallocate": "util-linux",
}
#: What tells a program of ours, and not somebody's editor, on a command line that names a half.
_WORDS: Final = frozenset(map(os.fsencode, ("create", "convert", *(PACKAGES.keys() - {"qemu-img"}))))
#: The messages are read, so they must be in one language; nothing else of our environment is the child's concern.
_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": f"{os.defpath}:/usr/sbin:/sbin"}


@dataclass(frozen=True)
class Limits:
    """What a child may take; ``deadline_s`` of None is `DEADLINE_S`."""

    deadline_s: float | None = None
    cpu_s: int = CPU_LIMIT_S


def run(  # noqa: PLR0913  # what one child is given, each by name
    arguments: Sequence[str],
    doing: str,
    *,
    limits: Limits = Limits(),
    watch: Callable[[], None] | None = None,
    output: IO[bytes] | None = None,
    inherited: Sequence[int] = (),
) -> None:
    """Run the program to its end. ``watch`` is called about once a second; what it raises ends the child, and leaves.

    ``output`` is where its words go, and ``inherited`` the descriptors that it may use by their numbers. Raises
    HostError: TRANSIENT at the deadline, else by the last words of the program.
    """
    deadline_s = limits.deadline_s or DEADLINE_S
    end = time.monotonic() + deadline_s
    with os_errors(doing), _started(arguments, doing, limits, output, inherited) as child:
        complaint: str | None = None
        while complaint is None:
            try:
                _, complaint = child.communicate(timeout=max(0.0, min(WATCH_S, end - time.monotonic())))
            except subprocess.TimeoutExpired as late:
                if time.monotonic() >= end:
                    message = f"could not {doing}: {Path(arguments[0]).name} was not done within {deadline_s:g} s"
                    raise HostError(ErrorClass.TRANSIENT, message) from late
                if watch is not None:
                    watch()
    if child.returncode != 0:
        raise _failure(doing, complaint.strip() or f"{Path(arguments[0]).name} ended with {child.returncode}")


def end_all(folder: str) -> int:
    """End every program of ours that makes a file below the folder, whoever started it; how many there were.

    Raises HostError(TRANSIENT) when one does not end.
    """
    end, ended = time.monotonic() + END_DEADLINE_S, 0
    for process in making_files_in(folder):
        with closing(_Descriptor(process)) as child:
            # The number may be another process's by now; the descriptor cannot change hands.
            if not _makes_file_in(process, folder):
                continue
            child.kill()
            if not child.ended_within(end - time.monotonic()):
                raise HostError(ErrorClass.TRANSIENT, f"the program (process {process}) in {folder} does not end")
            ended += 1
    return ended


def making_files_in(folder: str) -> list[int]:
    """The processes of such programs."""
    processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [process for process in processes if _makes_file_in(process, folder)]


@contextmanager
def _started(
    arguments: Sequence[str], doing: str, limits: Limits, output: IO[bytes] | None, inherited: Sequence[int]
) -> Iterator["subprocess.Popen[str]"]:
    try:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=_ENVIRONMENT,
            umask=0o077,
            process_group=0,
            pass_fds=inherited,
        )
    except FileNotFoundError as error:
        name = Path(arguments[0]).name
        package = f": install {PACKAGES[name]}" if name in PACKAGES else ""
        message = f"could not {doing}: this host has no program {arguments[0]}{package}"
        raise HostError(ErrorClass.PERMANENT, message, errno=errno.ENOENT) from error
    try:
        with suppress(ProcessLookupError):  # done already
            resource.prlimit(child.pid, resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s))
            resource.prlimit(child.pid, resource.RLIMIT_AS, (ADDRESS_SPACE_LIMIT_BYTES, ADDRESS_SPACE_LIMIT_BYTES))
        yield child
    finally:
        if child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # a hung file system: whoever removes the folder sees it
                child.wait(END_DEADLINE_S)
        if child.stderr is not None:
            child.stderr.close()


def _failure(doing: str, complaint: str) -> HostError:
    # By text: these programs end with status 1 whatever happened, and their last words are the operating system's.
    complaint = " ".join(complaint.split())
    for number, error_class in ERRNO_CLASSES.items():
        if os.strerror(number) in complaint:
            return HostError(error_class, f"could not {doing}: {complaint}", errno=number)
    return HostError(ErrorClass.PERMANENT, f"could not {doing}: {complaint}")


class _Descriptor:
    """A process that stays the same one for as long as this is open."""

    def __init__(self, process: int) -> None:
        try:
            self._descriptor: int | None = os.pidfd_open(process)
        except ProcessLookupError:
            self._descriptor = None

    def kill(self) -> None:
        if self._descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def ended_within(self, timeout_s: float) -> bool:
        if self._descriptor is None:
            return True
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        return bool(waiting.poll(max(timeout_s, 0.0) * 1000))

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def _makes_file_in(process: int, folder: str) -> bool:
    try:
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    inside = os.fsencode(folder) + b"/"
    ours = any(argument.rpartition(b"/")[2] in _WORDS for argument in arguments)
    return ours and any(argument.startswith(inside) and argument.endswith(b".part") for argument in arguments)
