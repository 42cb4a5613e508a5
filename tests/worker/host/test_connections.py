"""Connections to a real libvirtd that goes, falls silent, and comes back; and opening, with a stand-in."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import libvirt
import pytest

from models.states import ErrorClass
from tasks.host import HostError
from tests.contract.backdoor import Backdoor
from tests.lab.hosts import LibvirtHost
from worker.host.connections import ABANDONED_OPENS, ConnectionClass, Connections
from worker.host.embedded import prepare
from worker.host.errors import Call
from worker.host.facts import facts_from, read_facts
from worker.host.opening import Opener

SOON_S = 10.0


@pytest.fixture(scope="module")
def own_host() -> Iterator[LibvirtHost]:
    """A host whose libvirtd these tests may stop and kill."""
    with LibvirtHost("lab-connections") as host:
        yield host


@pytest.fixture
def connections(own_host: LibvirtHost) -> Iterator[Connections]:
    """New connections to it, which give up soon."""
    connections = Connections(own_host.uri, open_deadline_s=2.0)
    yield connections
    connections.close()


def look(connections: Connections) -> int:
    """Ask something; the number of domains."""
    with connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
        return int(connection.numOfDomains())


def error_of(connections: Connections) -> HostError:
    """The error that a look meets."""
    with pytest.raises(HostError) as caught:
        look(connections)
    return caught.value


@pytest.mark.real
def test_each_class_of_calls_has_one_connection_of_its_own(connections: Connections) -> None:
    """Opened once, used again."""
    used = []
    for connection_class in (*ConnectionClass, *ConnectionClass):
        with connections.calling(connection_class, Call.LOOK) as connection:
            used.append(connection)
    count = len(ConnectionClass)
    assert used[:count] == used[count:]
    assert len(set(used)) == count


@pytest.mark.real
def test_a_lost_connection_is_opened_again_with_its_events(connections: Connections, own_host: LibvirtHost) -> None:
    """Whoever waited is woken by the loss, looks, and is told of what happens next."""
    instance = uuid4()
    look(connections)
    with connections.events.watching(instance) as wakeups:
        own_host.restart()
        assert wakeups.wait(SOON_S), "woken by the loss"
        look(connections)
        assert wakeups.wait(0.0), "woken by the new connection, for nobody told of what happened before it"
        backdoor = Backdoor(libvirt.open(own_host.uri))
        backdoor.mislabelled(instance, instance)
        try:
            assert wakeups.wait(SOON_S), "woken by an event on the new connection"
        finally:
            backdoor.undefine(instance)


@pytest.mark.real
def test_without_a_daemon_nothing_was_sent(connections: Connections, own_host: LibvirtHost) -> None:
    """Transient, with libvirt's own names, and well again when it is back."""
    look(connections)
    own_host.stop()
    try:
        error = error_of(connections)
    finally:
        own_host.start()
    assert error.error_class is ErrorClass.TRANSIENT
    assert (error.record.code, error.record.domain) == ("SYSTEM_ERROR", "RPC")
    assert look(connections) == 0


@pytest.mark.real
def test_an_effect_in_flight_when_the_daemon_dies_is_unknown(connections: Connections, own_host: LibvirtHost) -> None:
    """It may have happened: nobody sends it again unseen."""
    sending = threading.Event()

    def in_flight() -> None:
        with connections.calling(ConnectionClass.SPAWN, Call.START) as connection:
            own_host.freeze()
            sending.set()
            connection.numOfDomains()

    try:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(in_flight)
            assert sending.wait(SOON_S)
            own_host.kill()
            with pytest.raises(HostError) as caught:
                call.result(SOON_S)
        assert caught.value.error_class is ErrorClass.UNKNOWN
    finally:
        own_host.start()
    assert look(connections) == 0


@pytest.mark.real
def test_a_daemon_that_hangs_collects_a_bounded_number_of_opens(own_host: LibvirtHost) -> None:
    """Each is given up at its deadline, the next ones at once; when it answers again, so do they."""
    connections = Connections(own_host.uri, open_deadline_s=0.1)
    own_host.freeze()
    try:
        for _ in range(ABANDONED_OPENS):
            assert "did not answer within 0.1 s" in str(error_of(connections))
        before = threading.active_count()
        assert "answers none of the connections" in str(error_of(connections))
        assert threading.active_count() == before
    finally:
        own_host.thaw()
    for thread in threading.enumerate():
        if thread.name == "libvirt-open":
            thread.join(SOON_S)
    patient = Connections(own_host.uri)
    assert look(patient) == 0
    assert look(connections) == 0
    connections.close()
    patient.close()


@pytest.mark.real
def test_libvirt_prints_nothing(connections: Connections, capfd: pytest.CaptureFixture[str]) -> None:
    """Errors are raised, and logged once by whoever decides."""
    with pytest.raises(HostError), connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
        connection.lookupByUUID(uuid4().bytes)
    assert capfd.readouterr() == ("", "")


@pytest.mark.real
def test_an_error_that_is_not_the_connections_leaves_it_open(connections: Connections) -> None:
    """A domain that is not there is no reason to reconnect."""
    with connections.calling(ConnectionClass.LOOK, Call.LOOK) as before:
        pass
    with pytest.raises(HostError), connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
        connection.lookupByUUID(uuid4().bytes)
    with connections.calling(ConnectionClass.LOOK, Call.LOOK) as after:
        assert after is before


@pytest.mark.real
def test_a_host_tells_its_facts(connections: Connections, own_host: LibvirtHost) -> None:
    """The UUID is the one that binds a worker to its libvirt."""
    facts = read_facts(connections)
    assert facts.host_uuid == own_host.uuid
    assert facts.libvirt_version >= (9, 0, 0)
    assert facts.qemu_version > (0, 0, 0)
    assert "qemu" in facts.domain_types


def test_domain_types_and_machines_are_those_of_the_hosts_own_architecture() -> None:
    """Another architecture's KVM is of no use; a machine is known by each of its names."""
    document = """<capabilities><host><uuid>0b6dd4a2-5d2c-4a3e-9a53-1d4f4f0d7a11</uuid><cpu><arch>x86_64</arch></cpu>
      </host><guest><arch name='x86_64'><machine canonical='pc-q35-7.2'>q35</machine><machine>pc-q35-7.2</machine>
      <domain type='qemu'/>{}</arch></guest>
      <guest><arch name='i686'><machine>isapc</machine><domain type='kvm'/></arch></guest></capabilities>"""
    assert facts_from(document.format(""), 9_000_000, 7_002_022).domain_types == {"qemu"}
    facts = facts_from(document.format("<domain type='kvm'/>"), 9_000_000, 7_002_022)
    assert (facts.libvirt_version, facts.qemu_version) == ((9, 0, 0), (7, 2, 22))
    assert facts.domain_types == {"kvm", "qemu"}
    assert facts.machines == {"q35": "pc-q35-7.2", "pc-q35-7.2": "pc-q35-7.2"}


def test_capabilities_without_a_host_are_refused() -> None:
    """Nothing is guessed."""
    with pytest.raises(HostError):
        facts_from("<capabilities><host/></capabilities>", 9_000_000, 7_002_022)


def test_the_embedded_driver_is_opened_once_for_all_classes() -> None:
    """There is one of it in a process."""
    connections = Connections("qemu:///embed?root=/nowhere")
    assert len(set(connections._slots.values())) == 1


def test_the_embedded_drivers_settings_are_written_once(tmp_path: Path) -> None:
    """An operator's changes stay."""
    uri, settings = f"qemu:///embed?root={tmp_path}", tmp_path / "etc" / "qemu.conf"
    prepare(uri)
    assert f'user = "+{os.geteuid()}"' in settings.read_text().splitlines()
    settings.write_text("changed")
    prepare.cache_clear()  # as in the next process
    prepare(uri)
    assert settings.read_text() == "changed"


def test_only_the_embedded_driver_gets_settings(tmp_path: Path) -> None:
    """A daemon has its own."""
    prepare(f"qemu:///system?root={tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_was_lost_before_its_qemu_began_is_forgotten(tmp_path: Path) -> None:
    """And nothing else: no guest that lives, nothing that cannot be read, and no start of this very process."""
    folder = tmp_path / "run" / "qemu"
    folder.mkdir(parents=True)
    lost = "<domstatus state='paused' reason='starting up' pid='0'/>"
    for name, text in {"lost": lost, "lives": lost.replace("'0'", "'4711'"), "torn": lost[:20]}.items():
        (folder / f"{name}.xml").write_text(text)
    (folder / "lost.pid").write_text("0")
    uri = f"qemu:///embed?root={tmp_path}"
    prepare(uri)
    assert sorted(file.name for file in folder.iterdir()) == ["lives.xml", "lost.pid", "torn.xml"]
    (folder / "new.xml").write_text(lost)  # a start of this very process
    prepare(uri)
    assert (folder / "new.xml").exists()


def test_settings_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    """A root that is a file is not waited for."""
    (tmp_path / "root").touch()
    error = error_of(Connections(f"qemu:///embed?root={tmp_path}/root"))
    assert (error.error_class, error.record.errno) == (ErrorClass.CONFLICT, errno.ENOTDIR)


def test_what_an_abandoned_open_opens_too_late_is_put_away() -> None:
    """Nobody else would close it."""
    answer, put_away = threading.Event(), threading.Event()

    def opening() -> str:
        answer.wait(SOON_S)
        return "late"

    opener: Opener[str] = Opener(0.05, 1)
    begin = time.monotonic()
    with pytest.raises(HostError) as caught:
        opener.open(opening, lambda _: put_away.set())
    assert time.monotonic() - begin < SOON_S / 2
    assert caught.value.error_class is ErrorClass.TRANSIENT
    with pytest.raises(HostError, match="none of the connections"):
        opener.open(lambda: "second", lambda _: None)
    answer.set()
    assert put_away.wait(SOON_S)
