"""qemu-img: the one program that this package starts, with a deadline, limits and a process group of its own.

A child may outlive its worker. It is known by what was fixed before it began: the path on its command line.
"""

import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError, Image
from worker.host.errors import ERRNO_CLASSES, os_errors

#: Making an empty image takes milliseconds; a file system that hangs must not hold a job for ever.
CREATE_DEADLINE_S: Final = 60.0
#: A killed child is gone at once, unless its file system hangs.
END_DEADLINE_S: Final = 10.0
#: An image made to exhaust its reader meets these limits.
CPU_LIMIT_S: Final = 30
ADDRESS_SPACE_LIMIT_BYTES: Final = 2 * 1024**3

#: The messages are read, so they must be in one language; nothing else of our environment is the child's concern.
_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": os.defpath}


def create_qcow2(path: str, size_bytes: int, backing: Image | None, *, program: str = "qemu-img") -> None:
    """A new qcow2 file at ``path``, readable by its owner alone; formats are said, never guessed."""
    base = [] if backing is None else ["-b", backing.path, "-F", backing.format]
    _run([program, "create", "-q", "-f", "qcow2", *base, path, str(size_bytes)], f"create {path}")


def end_children(folder: str) -> None:
    """End every qemu-img that makes a file in the folder, whoever started it. Those that will not end are an error."""
    end = time.monotonic() + END_DEADLINE_S
    for process in _children(folder):
        with closing(_Descriptor(process)) as child:
            # The number may be another process's by now; the descriptor cannot change hands.
            if not _makes_file_in(process, folder):
                continue
            child.kill()
            if not child.ended_within(end - time.monotonic()):
                raise HostError(ErrorClass.TRANSIENT, f"qemu-img (process {process}) in {folder} does not end")


def _run(arguments: list[str], doing: str) -> None:
    with os_errors(doing), _started(arguments) as child:
        try:
            _, complaint = child.communicate(timeout=CREATE_DEADLINE_S)
        except subprocess.TimeoutExpired as late:
            message = f"could not {doing}: qemu-img was not done within {CREATE_DEADLINE_S:g} s"
            raise HostError(ErrorClass.TRANSIENT, message) from late
    if child.returncode != 0:
        raise _failure(doing, complaint.strip() or f"qemu-img ended with {child.returncode}")


@contextmanager
def _started(arguments: list[str]) -> Iterator["subprocess.Popen[str]"]:
    child = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=_ENVIRONMENT,
        umask=0o077,
        process_group=0,
    )
    try:
        with suppress(ProcessLookupError):  # done already
            resource.prlimit(child.pid, resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
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
    # By text: qemu-img ends with status 1 whatever happened, and its last words are the operating system's.
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


def _children(folder: str) -> list[int]:
    processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [process for process in processes if _makes_file_in(process, folder)]


def _makes_file_in(process: int, folder: str) -> bool:
    try:
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    inside = os.fsencode(folder) + b"/"
    return b"create" in arguments and any(
        argument.startswith(inside) and argument.endswith(b".part") for argument in arguments
    )
