"""The watchdog: what a supervisor hears of a worker that is well, stuck, or ending."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import OperationalError
from typing_extensions import override

from models.states import ErrorClass, JobClass
from tasks.host import HostError
from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.waiting import eventually
from worker import watchdog as module
from worker.hands import Hands
from worker.host.connections import ConnectionClass, Connections
from worker.host.errors import Call
from worker.host.under_way import CallsUnderWay
from worker.settings import Supervisor, supervisor
from worker.watchdog import EXIT_STUCK, SILENT_AFTER_S, STUCK_AFTER_S, STUCK_LIMIT, Notifier, Watchdog

INSTANCE = UUID(int=1)


class Listener:
    """What systemd is to its services: a datagram socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def heard(self) -> list[str]:
        """All that came since it was last asked."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def silence(self, lasting_s: float) -> Callable[[], bool]:
        """A probe that is true once nothing has come for so long."""
        last = time.monotonic()

        def probe() -> bool:
            nonlocal last
            if self.heard():
                last = time.monotonic()
            return time.monotonic() - last > lasting_s

        return probe


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """A supervisor's socket in the file system."""
    with Listener(str(tmp_path / "notify")) as found:
        yield found


class Left:
    """Notes the status with which the process would have ended."""

    def __init__(self) -> None:
        self.status: int | None = None

    def __call__(self, status: int) -> None:
        """Instead of os._exit."""
        self.status = status


class Calls(CallsUnderWay):
    """Calls of which some are stuck."""

    def __init__(self, *, stuck: int = 0) -> None:
        super().__init__()
        self._stuck = stuck

    @override
    def older_than(self, seconds: float) -> int:
        return self._stuck if seconds == STUCK_AFTER_S else 0


def watching(listener: Listener, *, stuck: int = 0, silent_s: float = 0, watchdog_s: float | None = 60) -> list[str]:
    """What one look tells; the status of a process that ended with it."""
    left = Left()
    told = Supervisor(listener.address, watchdog_s)
    Watchdog(told, Calls(stuck=stuck), Hands({}), lambda: silent_s, left).look()
    return [*listener.heard(), *([] if left.status is None else [f"exit {left.status}"])]


@pytest.mark.parametrize(
    ("stuck", "silent_s", "watchdog_s", "heard"),
    [
        (0, 0, 60, ["WATCHDOG=1"]),
        (STUCK_LIMIT, SILENT_AFTER_S, 60, ["WATCHDOG=1"]),
        (STUCK_LIMIT + 1, 0, 60, [f"exit {EXIT_STUCK}"]),
        (0, SILENT_AFTER_S + 1, 60, []),
        (0, 0, None, []),
        (STUCK_LIMIT + 1, 0, None, [f"exit {EXIT_STUCK}"]),
    ],
)
def test_a_worker_that_is_stuck_gives_no_sign_of_life(
    listener: Listener, stuck: int, silent_s: float, watchdog_s: float | None, heard: list[str]
) -> None:
    """With too many hung calls it ends, also where no supervisor listens for it."""
    assert watching(listener, stuck=stuck, silent_s=silent_s, watchdog_s=watchdog_s) == heard


def test_ready_at_the_start_and_then_a_sign_of_life_in_time(listener: Listener) -> None:
    """Three of them for each that the supervisor needs."""
    watchdog = Watchdog(Supervisor(listener.address, 0.06), Calls(), Hands({}), lambda: 0.0)
    heard: list[str] = []
    watchdog.start()
    try:
        eventually(lambda: heard.extend(listener.heard()) or heard.count("WATCHDOG=1") >= 4, "signs of life", 5)
    finally:
        watchdog.stopping()
        watchdog.end()
        watchdog.join(5)

    assert heard[0] == "READY=1"
    assert "STOPPING=1" in [*heard, *listener.heard()]


def test_a_socket_in_the_abstract_name_space() -> None:
    """As systemd in a container names it."""
    with Listener(f"@hostler-{uuid4()}") as abstract:
        Notifier(abstract.address).send("READY=1")
        assert abstract.heard() == ["READY=1"]


def test_a_supervisor_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the worker works on; without one, nothing is said."""
    Notifier(str(tmp_path / "nobody")).send("READY=1")
    Notifier(None).send("READY=1")

    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        f"the supervisor cannot be told READY=1 at {tmp_path / 'nobody'}"
    ]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, Supervisor()),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "60000000"}, Supervisor("/run/n", 60.0)),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, Supervisor("/run/n")),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, Supervisor(None, 0.5)),
        ({"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "0"}, Supervisor()),
        ({"WATCHDOG_USEC": "soon"}, Supervisor()),
    ],
)
def test_what_a_supervisor_told(monkeypatch: pytest.MonkeyPatch, told: dict[str, str], expected: Supervisor) -> None:
    """What it told another process is not for this one."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)

    assert supervisor() == expected


def test_calls_are_counted_while_they_last() -> None:
    """Whatever ends them."""
    calls = CallsUnderWay()

    def fail() -> None:
        with calls.one(Call.LOOK):
            assert (calls.older_than(-1), calls.older_than(60)) == (2, 0)
            raise HostError(ErrorClass.TRANSIENT, "gone")

    with calls.one(Call.START), pytest.raises(HostError, match="gone"):
        fail()
    assert calls.older_than(-1) == 0


def overdue(monkeypatch: pytest.MonkeyPatch, *calls: Call) -> None:
    """Every call of these kinds has passed its deadline as soon as it is begun."""
    monkeypatch.setattr("worker.host.under_way.DEADLINES_S", dict.fromkeys(Call) | dict.fromkeys(calls, -1.0))


def test_a_thread_whose_call_was_written_off_makes_no_other_before_it_let_its_job_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody else may have the job by then; and the connection that the call keeps is not used again."""
    overdue(monkeypatch, Call.ATTACH)
    calls, left = CallsUnderWay(), []
    with calls.one(Call.LOOK), calls.one(Call.ATTACH) as hung:
        hung.leave = lambda: left.append(hung)
        assert calls.overdue() == (hung,)
        assert [calls.write_off(hung), calls.write_off(hung)] == [True, True]
        assert left == [hung]
    assert not calls.write_off(hung)
    with pytest.raises(HostError, match="written off") as refused, calls.one(Call.KILL):
        pass
    assert refused.value.error_class is ErrorClass.TRANSIENT
    calls.reinstate(threading.get_ident())
    with calls.one(Call.KILL):
        pass


def test_the_job_of_a_call_that_hangs_is_given_up_as_soon_as_the_journal_takes_that(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its slot is free then, but its instance is remembered until the call returns; others' calls are let be."""
    overdue(monkeypatch, Call.ATTACH, Call.LOOK)
    calls = CallsUnderWay()
    hands = Hands({JobClass.ATTACH: 1}, calls.reinstate)
    watchdog = Watchdog(Supervisor(listener.address, 60), calls, hands, lambda: 0.0)
    said: list[str] = []

    def give_up(why: str) -> None:
        said.append(why)
        if len(said) == 1:
            raise OperationalError("wait", {}, ConnectionRefusedError("no database"))

    with calls.one(Call.LOOK):
        watchdog.look()  # a thread without a job
    with hands.grasp("a", INSTANCE, JobClass.ATTACH):
        hands.entrust("a", give_up)
        with calls.one(Call.ATTACH):
            watchdog.look()
            assert (hands.held(), hands.written_off(INSTANCE)) == ({"a"}, ())
            watchdog.look()
            assert (hands.held(), hands.written_off(INSTANCE)) == (frozenset(), ("a",))
            assert hands.free_classes() == {JobClass.ATTACH: 1}
            watchdog.look()
    assert hands.written_off(INSTANCE) == ()
    with calls.one(Call.KILL):
        pass
    assert len(said) == 2
    assert said[-1].startswith("libvirt was asked to attach the device, 0 s ago")
    assert "the journal is out of reach" in caplog.text


@pytest.mark.real
def test_calls_that_a_hung_libvirtd_keeps(
    own_libvirt_host: LibvirtHost, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted from outside; the worker would end, and once they return all is well."""
    monkeypatch.setattr(module, "STUCK_LIMIT", 2)
    monkeypatch.setattr(module, "STUCK_AFTER_S", 0.2)
    left = Left()
    with closing(Connections(own_libvirt_host.uri)) as connections:
        watchdog = Watchdog(Supervisor(listener.address, 60), connections.under_way, Hands({}), lambda: 0.0, left)

        def ask() -> None:
            with connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
                connection.getLibVersion()

        ask()
        watchdog.look()
        well = listener.heard()
        threads = [threading.Thread(target=ask, name=f"asks-{number}", daemon=True) for number in range(3)]
        own_libvirt_host.freeze()
        try:
            for thread in threads:
                thread.start()
            eventually(lambda: watchdog.look() or left.status is not None, "the worker would end", 10)
            hung = listener.heard()
        finally:
            own_libvirt_host.thaw()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        watchdog.look()

    assert (well, left.status, listener.heard()) == (["WATCHDOG=1"], EXIT_STUCK, ["WATCHDOG=1"])
    assert set(hung) <= {"WATCHDOG=1"}  # while they were young


@pytest.mark.real
def test_a_worker_under_a_supervisor(embedded_worker: tuple[Site, Listener]) -> None:
    """Ready once it serves, alive while it runs, silent while it is stopped, and stopping when it is asked to end."""
    site, listener = embedded_worker
    heard: list[str] = []

    def hears(state: str) -> None:
        eventually(lambda: heard.extend(listener.heard()) or state in heard, f"the supervisor hears {state}", 20)

    hears("WATCHDOG=1")
    assert heard[0] == "READY=1"

    site.worker.signal(signal.SIGSTOP)
    eventually(listener.silence(0.5), "a stopped worker says nothing", 10)
    site.worker.signal(signal.SIGCONT)
    heard.clear()
    hears("WATCHDOG=1")

    site.worker.signal(signal.SIGTERM)
    hears("STOPPING=1")
    assert site.worker.wait(30) == 0, site.log


@pytest.fixture
def embedded_worker(listener: Listener) -> Iterator[tuple[Site, Listener]]:
    """A worker as it is by default, that a supervisor listens to."""
    with Site(surroundings={"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "300000"}) as site:
        site.start_worker()
        yield site, listener
