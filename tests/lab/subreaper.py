"""Runs one program, adopts what it leaves behind, and outlives none of those who need it.

    subreaper.py [--status-fd N] [--parent PID] -- PROGRAM [ARGUMENT ...]

QEMU daemonizes itself, so a guest is an orphan from its start: whoever reaps orphans late (PID 1 of many containers)
makes every destroy 1 to 2 s slower. This process asks the kernel to be the one that adopts them.

* The program runs in a session of its own. SIGTERM and SIGINT are passed on to it, and to it alone.
* When it ends, the guests that it started live on; this process goes when the last of them has gone, with the
  program's exit status (128 + N for signal N).
* SIGQUIT ends everything: each descendant is killed. So does the death of the process that started this one.
* The status file descriptor carries two lines: `started PID` and `ended STATUS` (negative for a signal).
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import sys
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PROGRAM_NOT_FOUND = 127

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Run the program of the command line to its end, and its orphans to theirs."""
    options = _options()
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    try:
        parent = os.pidfd_open(options.parent)
    except ProcessLookupError:
        return 0
    wakeups, wakeup_writer = os.pipe()
    os.set_blocking(wakeups, False)
    os.set_blocking(wakeup_writer, False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _only_wake_up)
    signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)
    program = _start(options.program)
    _tell(options.status_fd, f"started {program}")
    return _watch(program, parent, wakeups, options.status_fd)


def descendants(pid: int) -> list[int]:
    """The living descendants of a process, zombies left out."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = stat.read_text(errors="replace")
            state, parent = text[text.rindex(")") + 2 :].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found: list[int] = []
    unvisited = [pid]
    while unvisited:
        below = children.get(unvisited.pop(), [])
        found += below
        unvisited += below
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="subreaper")
    parser.add_argument("--status-fd", type=int)
    parser.add_argument("--parent", type=int, default=os.getppid())
    parser.add_argument("program", nargs="+")
    return parser.parse_args()


def _only_wake_up(_number: int, _frame: FrameType | None) -> None:
    """The wakeup descriptor carries the signal's number; a handler must exist for it to be written."""


def _start(argv: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)  # noqa: S606 - this program's duty is to run another
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(PROGRAM_NOT_FOUND)


def _watch(program: int, parent: int, wakeups: int, status_fd: int | None) -> int:
    status: int | None = None
    ending = False
    while True:
        readable, _, _ = select.select([wakeups] if ending else [wakeups, parent], [], [], 0.05 if ending else None)
        numbers = os.read(wakeups, 4096) if wakeups in readable else b""
        if ending or parent in readable or signal.SIGQUIT in numbers:
            ending = (
                True  # whoever was below a killed one becomes a child of this process: look again until none is left
            )
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT) and status is None:
                os.kill(program, number)
        try:
            while (reaped := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                if reaped[0] == program:
                    status = os.waitstatus_to_exitcode(reaped[1])
                    _tell(status_fd, f"ended {status}")
        except ChildProcessError:
            return 0 if status is None else status if status >= 0 else 128 - status


def _tell(status_fd: int | None, line: str) -> None:
    if status_fd is not None:
        with contextlib.suppress(BrokenPipeError):
            os.write(status_fd, f"{line}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
