"""The faults that one host can meet, and how each is made and mended."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from tests.crash.breaking import passing, signal_each
from tests.crash.stage import Stage
from tests.lab.database_proxy import Passing

#: How long something stays broken, in seconds.
LIBVIRTD_GONE_FOR_S = 1.0
BROKER_GONE_FOR_S = 3.0
DATABASE_GONE_FOR_S = 5.0
QEMU_STOPPED_FOR_S = 6.0
DISK_FULL_FOR_S = 2.0
#: libvirt's clients give a silent daemon up after 20 s.
LIBVIRTD_STOPPED_FOR_S = 24.0
#: Three heartbeats are 30 s: afterwards others think that the worker is dead.
LEASE_S = 33.0
#: In which time a worker that goes on has sent its COMMIT, and the server has taken it.
COMMITTED_WITHIN_S = 1.0
SECOND_WORKER_WITHIN_S = 30.0
EXIT_UNREACHABLE = 6


class Fault(StrEnum):
    """What breaks."""

    WORKER_KILLED = "worker-killed"
    WORKER_STOPPED = "worker-stopped"  #: past its lease; then it goes on, in the middle of what it did
    LIBVIRTD_KILLED = "libvirtd-killed"
    LIBVIRTD_STOPPED = "libvirtd-stopped"  #: until its clients give it up
    QEMU_KILLED = "qemu-killed"
    QEMU_STOPPED = "qemu-stopped"
    DATABASE_GONE = "database-gone"
    DATABASE_STALLED = "database-stalled"  #: longer than a lease
    COMMIT_LOST = "commit-lost"  #: the connection is cut before the server has the COMMIT
    COMMIT_UNANSWERED = "commit-unanswered"  #: it is cut after the server has committed
    BROKER_KILLED = "broker-killed"
    BROKER_FLUSHED = "broker-flushed"
    DISK_FULL = "disk-full"
    HOST_REBOOTED = "host-rebooted"  #: guests, taps and secrets gone


#: After these a guest may be off that no job has ended.
ENDS_GUESTS = frozenset({Fault.QEMU_KILLED, Fault.HOST_REBOOTED})
#: These can be an answer to what was asked for; all else a job outlives.
MAY_FAIL = ENDS_GUESTS | {Fault.DISK_FULL}
#: libvirtd kills a QEMU whose start it had not completed when it was killed itself.
MAY_START_TWICE = ENDS_GUESTS | {Fault.LIBVIRTD_KILLED}
OF_COMMITS = frozenset({Fault.COMMIT_LOST, Fault.COMMIT_UNANSWERED})
OF_QEMU = frozenset({Fault.QEMU_KILLED, Fault.QEMU_STOPPED})


#: Breaks it, yields how long it is to be broken, in seconds, and mends it.
Breaking = Callable[[Stage, Sequence[UUID]], Iterator[float]]


def strike(fault: Fault, stage: Stage, instances: Sequence[UUID], go_on: Callable[[], None]) -> None:
    """Break it, let whoever waited for that go on, and mend it when it has been broken for its time."""
    with contextmanager(_BREAKING[fault])(stage, instances) as for_s:
        go_on()
        passing(for_s)


def _worker_killed(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.site.kill_worker()
    yield 0.0
    stage.start_worker()


def _worker_stopped(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.site.worker.signal(signal.SIGSTOP)
    second = stage.site.hostler("worker", within_s=SECOND_WORKER_WITHIN_S)
    assert second.returncode == EXIT_UNREACHABLE, f"a second worker came to serve the host: {second.stderr}"
    yield LEASE_S
    stage.site.worker.signal(signal.SIGCONT)


def _libvirtd_killed(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.host.kill()
    yield LIBVIRTD_GONE_FOR_S
    stage.host.start()


def _libvirtd_stopped(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.host.freeze()
    yield LIBVIRTD_STOPPED_FOR_S
    stage.host.thaw()


def _qemu_killed(stage: Stage, instances: Sequence[UUID]) -> Iterator[float]:
    signal_each(stage.qemu_pids(instances), signal.SIGKILL)
    yield 0.0


def _qemu_stopped(stage: Stage, instances: Sequence[UUID]) -> Iterator[float]:
    stopped = stage.qemu_pids(instances)
    signal_each(stopped, signal.SIGSTOP)
    yield QEMU_STOPPED_FOR_S
    signal_each(stopped, signal.SIGCONT)


def _database_gone(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.database.let_pass(Passing.NOBODY)
    yield DATABASE_GONE_FOR_S
    stage.database.let_pass(Passing.ALL)


def _database_stalled(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.database.let_pass(Passing.NOTHING)
    yield LEASE_S
    stage.database.let_pass(Passing.ALL)


def _commit_lost(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.database.cut()
    yield 0.0


def _commit_unanswered(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.database.let_pass(Passing.QUESTIONS)
    yield COMMITTED_WITHIN_S
    stage.database.let_pass(Passing.NOBODY)
    stage.database.let_pass(Passing.ALL)


def _broker_killed(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.broker.kill()
    yield BROKER_GONE_FOR_S
    stage.broker.start()


def _broker_flushed(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.broker.flush()
    yield 0.0


def _disk_full(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.disk.fill()
    yield DISK_FULL_FOR_S
    stage.disk.clear()


def _host_rebooted(stage: Stage, _instances: Sequence[UUID]) -> Iterator[float]:
    stage.site.kill_worker()
    stage.host.reboot()
    yield 0.0
    stage.start_worker(after_boot=True)


_BREAKING: Mapping[Fault, Breaking] = MappingProxyType(
    {
        Fault.WORKER_KILLED: _worker_killed,
        Fault.WORKER_STOPPED: _worker_stopped,
        Fault.LIBVIRTD_KILLED: _libvirtd_killed,
        Fault.LIBVIRTD_STOPPED: _libvirtd_stopped,
        Fault.QEMU_KILLED: _qemu_killed,
        Fault.QEMU_STOPPED: _qemu_stopped,
        Fault.DATABASE_GONE: _database_gone,
        Fault.DATABASE_STALLED: _database_stalled,
        Fault.COMMIT_LOST: _commit_lost,
        Fault.COMMIT_UNANSWERED: _commit_unanswered,
        Fault.BROKER_KILLED: _broker_killed,
        Fault.BROKER_FLUSHED: _broker_flushed,
        Fault.DISK_FULL: _disk_full,
        Fault.HOST_REBOOTED: _host_rebooted,
    }
)
