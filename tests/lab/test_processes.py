"""The lab ends what it starts, whatever happens to whom."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.places import CHECKOUT
from tests.lab.processes import Process, ProcessEndedError, accepts_connections, free_port
from tests.lab.waiting import NeverHappenedError, eventually

#: Leaves a daemon behind, as QEMU does, prints its pid, and sleeps.
PARENT_OF_A_DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    sys.stdout.write(f"{os.getpid()}\\n"); sys.stdout.flush()
    time.sleep(1000)
time.sleep(1000)
"""

STARTER = """
import sys
from pathlib import Path
from tests.lab.processes import Process
process = Process([sys.executable, "-c", sys.argv[1]], log=Path(sys.argv[2]))
process.start()
sys.stdout.write("started\\n"); sys.stdout.flush()
sys.stdin.read()
"""


def gone(pid: int) -> bool:
    """Whether no process has this pid any more."""
    return not Path(f"/proc/{pid}").exists()


def daemon_of(log: Path) -> int:
    """The pid that the daemon wrote."""
    return int(eventually(lambda: log.exists() and log.read_text(), "the daemon tells its pid"))


def with_daemon(tmp_path: Path) -> Process:
    """A program that leaves a daemon behind."""
    return Process([sys.executable, "-c", PARENT_OF_A_DAEMON], log=tmp_path / "log")


def test_a_daemon_outlives_its_killed_parent_and_is_ended_with_the_context(tmp_path: Path) -> None:
    """As a guest outlives its worker."""
    with with_daemon(tmp_path) as process:
        daemon = daemon_of(process.log_file)
        process.kill()
        assert process.returncode == -signal.SIGKILL
        assert process.survivors() == [daemon]
    assert gone(daemon)


def test_an_ended_daemon_is_reaped_at_once(tmp_path: Path) -> None:
    """Each destroy waits for that, inside libvirt."""
    with with_daemon(tmp_path) as process:
        daemon = daemon_of(process.log_file)
        os.kill(daemon, signal.SIGKILL)
        eventually(lambda: gone(daemon), "the daemon is reaped", within_s=0.5)
        assert process.alive


def test_all_ends_when_the_starter_is_killed(tmp_path: Path) -> None:
    """Not even a killed test session leaves a process behind."""
    log = tmp_path / "log"
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, PARENT_OF_A_DAEMON, str(log)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with starter:
        daemon = daemon_of(log)
        starter.kill()
    eventually(lambda: gone(daemon), "the daemon has ended")


def test_the_exit_status_is_the_programs_own(tmp_path: Path) -> None:
    """A signal shows as its negative number, as everywhere in Python."""
    with Process(["/bin/sh", "-c", "exit 7"], log=tmp_path / "log") as process:
        assert process.wait(5.0) == 7
    with Process(["/bin/sleep", "1000"], log=tmp_path / "log") as process:
        assert process.terminate() == -signal.SIGTERM


def test_a_program_that_ends_early_says_why(tmp_path: Path) -> None:
    """Nobody waits for the deadline, and nobody looks for the log."""
    with (
        Process(["/bin/sh", "-c", "echo no such disk; exit 3"], log=tmp_path / "log") as process,
        pytest.raises(ProcessEndedError, match=r"(?s)status 3.*no such disk"),
    ):
        process.wait_ready(lambda: False, "never")


def test_waiting_ends_at_its_deadline(tmp_path: Path) -> None:
    """With what was waited for in the message."""
    port = free_port()
    with (
        Process(["/bin/sleep", "1000"], log=tmp_path / "log") as process,
        pytest.raises(NeverHappenedError, match="someone listens"),
    ):
        process.wait_ready(lambda: accepts_connections(port), "someone listens", within_s=0.1)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The message is the shell's own."""
    with Process(["/no/such/program"], log=tmp_path / "log") as process:
        assert process.wait(5.0) == 127
        assert "/no/such/program: No such file or directory" in process.log
