"""What the doctor says of hosts that are broken, each for real."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

import migrations
from models.availability import down
from models.engine import Database
from models.inventory import Registration, register
from tests.lab.enclosure import enclosed, qemu_account
from tests.lab.hosts import LibvirtHost
from tests.lab.places import CHECKOUT, program, scratch_folder
from tests.lab.processes import free_port
from tests.lab.redis import RedisServer
from tests.lab.site import Site
from worker.doctor import hypervisor
from worker.doctor.examination import examination
from worker.doctor.findings import Finding, Level
from worker.doctor.qemu_user import qemu_user
from worker.host.facts import HostFacts
from worker.host.lock import HostLock
from worker.settings import Settings, VirtType

pytestmark = pytest.mark.real

#: What a worker on too old a QEMU would have registered.
REGISTERED = HostFacts(uuid4(), (9, 0, 0), (6, 2, 0), "x86_64", frozenset({"qemu"}), {}, qemu_user=(0, 0)).document


@pytest.fixture(scope="module")
def other_host() -> Iterator[LibvirtHost]:
    """A host that listens for other hosts."""
    with LibvirtHost("lab-doctor", listen_address="127.0.0.1") as host:
        yield host


@pytest.fixture
def told(libvirt_host: LibvirtHost, tmp_path: Path, sqlite_url: str) -> dict[str, Any]:
    """Settings of a host that is well."""
    migrations.upgrade(Database(sqlite_url))
    return {
        "state_dir": tmp_path / "state",
        "host": "h1",
        "database_url": sqlite_url,
        "libvirt_uri": libvirt_host.uri,
        "lock_dir": tmp_path / "locks",
        "virt_type": VirtType.QEMU,
    }


def found(told: dict[str, Any], **changed: object) -> dict[str, Finding]:
    """What the doctor finds, by check; nothing twice."""
    findings = examination(Settings(**(told | changed)))
    assert len({each.check for each in findings}) == len(findings)
    return {each.check: each for each in findings}


def problem(findings: dict[str, Finding], check: str) -> str:
    """The line of the one problem there is."""
    assert {name for name, each in findings.items() if each.level is Level.PROBLEM} == {check}, findings
    return findings[check].line


def test_a_host_that_is_well(told: dict[str, Any], redis_url: str, tmp_path: Path) -> None:
    """Every check is made, nothing is complained of, and nothing is changed."""
    findings = found(told, broker_url=redis_url, allow_sqlite_with_broker=True)

    assert {each.level for each in findings.values()} <= {Level.OK}, findings
    assert set(findings) == {
        *("settings", "state_folder", "space", "lock_folder", "socket_path", "qemu_img", "libvirt", "versions"),
        *("virt_type", "qemu_user", "apparmor", "peer", "database", "clock", "recovery", "broker"),
    }
    assert not (tmp_path / "state").exists()


def test_a_libvirtd_that_hangs(
    told: dict[str, Any], libvirt_host: LibvirtHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told within seconds, and what only libvirt knows is not guessed."""
    monkeypatch.setattr(hypervisor, "OPEN_DEADLINE_S", 1.0)
    libvirt_host.freeze()
    try:
        began = time.monotonic()
        findings = found(told)
        took_s = time.monotonic() - began
    finally:
        libvirt_host.thaw()

    assert took_s < 10
    assert "libvirt did not answer within 1 s" in problem(findings, "libvirt")
    assert "restart) libvirtd" in findings["libvirt"].do
    assert {findings[name].level for name in ("versions", "virt_type", "qemu_user", "apparmor", "peer")} == {
        Level.UNKNOWN
    }


def test_a_libvirtd_that_is_not_there(told: dict[str, Any], tmp_path: Path) -> None:
    """Its socket is left behind, as after a kill."""
    left_behind = tmp_path / "libvirt-sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(left_behind))

    line = problem(found(told, libvirt_uri=f"qemu+unix:///system?socket={left_behind}"), "libvirt")

    assert "start (or restart) libvirtd" in line


def test_folders_that_qemus_own_user_cannot_enter(told: dict[str, Any]) -> None:
    """The very folder is named, whoever the worker itself is; libvirt says who QEMU's user is."""
    nobody = (65534, 65534)
    with scratch_folder("closed") as folder:
        state, images = folder / "closed/state", folder / "images"
        state.mkdir(parents=True)
        well = qemu_user(nobody, (state, images))
        state.parent.chmod(0o700)

        closed = qemu_user(nobody, (images, state))

        assert well.level is Level.OK, well
        assert closed.level is Level.PROBLEM
        assert f"QEMU runs as nobody, who cannot enter {state.parent}, on the way to {state}" in closed.what
        assert f"chmod o+x {state.parent}" in closed.do
        assert found(told, state_dir=state)["qemu_user"].what.startswith("QEMU runs as root, who comes into")


def test_an_address_for_other_hosts_that_leads_elsewhere(told: dict[str, Any], other_host: LibvirtHost) -> None:
    """Or nowhere, or asks for certificates that are not there."""
    here = found(told, libvirt_uri=other_host.uri, peer_libvirt_uri=other_host.tcp_uri)
    elsewhere = found(told, peer_libvirt_uri=other_host.tcp_uri)
    nowhere = found(told, peer_libvirt_uri=f"qemu+tcp://127.0.0.1:{free_port()}/system")
    uncertified = found(told, peer_libvirt_uri="qemu+tls://127.0.0.1/system?pkipath=/nonexistent")

    assert here["peer"].level is Level.OK, here["peer"]
    assert f"answers libvirt host {other_host.uuid}" in problem(elsewhere, "peer")
    assert "refused" in problem(nowhere, "peer")
    assert "certificate" in problem(uncertified, "peer")


def test_a_journal_at_an_older_revision(told: dict[str, Any], sqlite_url: str) -> None:
    """What to run is said; and nothing is upgraded by looking."""
    database = Database(sqlite_url)
    migrations.downgrade(database, "0003")

    line = problem(found(told), "database")

    assert f"is at revision 0003, this program needs {migrations.head()}; run: hostler db upgrade" in line
    assert migrations.current(database) == "0003"


def test_a_journal_that_does_not_answer(told: dict[str, Any]) -> None:
    """The password is not shown."""
    url = f"postgresql+psycopg://hostler:geheim@127.0.0.1:{free_port()}/hostler"

    line = problem(found(told, database_url=url), "database")

    assert ("does not answer" in line, "geheim" in line) == (True, False)


def test_a_database_whose_clock_is_wrong(told: dict[str, Any], postgresql_url: str) -> None:
    """By how much, and in which direction."""
    database = Database(postgresql_url)
    migrations.upgrade(database)
    with database.write() as connection:
        connection.execute(text("CREATE SCHEMA wrong"))
        connection.execute(
            text(
                "CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
                "$$ SELECT pg_catalog.clock_timestamp() - interval '1 hour' $$"
            )
        )
        name = database.url.database
        connection.execute(text(f'ALTER DATABASE "{name}" SET search_path = wrong, pg_catalog, public'))
    database.close()

    line = problem(found(told, database_url=postgresql_url), "clock")

    assert "the database's clock is 3600 s behind this machine's; set both by NTP" in line


def test_a_broker_that_refuses(told: dict[str, Any]) -> None:
    """Nobody there, or a password that is not ours."""
    with_broker = told | {"allow_sqlite_with_broker": True}
    absent = found(with_broker, broker_url=f"redis://:geheim@127.0.0.1:{free_port()}/0")

    line = problem(absent, "broker")
    assert ("refused" in line, "geheim" in line) == (True, False)


def test_a_password_that_the_broker_refuses(told: dict[str, Any], redis_server: RedisServer) -> None:
    """Its own words are told."""
    address = redis_server.url.removeprefix("redis://")
    given = {"allow_sqlite_with_broker": True, "broker_url": f"redis://:geheim@{address}"}

    line = problem(found(told | given), "broker")

    assert ("AUTH" in line or "password" in line, "geheim" in line) == (True, False)


def test_settings_that_make_half_a_worker(told: dict[str, Any], redis_url: str) -> None:
    """The worker's own refusal is a line of the doctor's."""
    assert "settings: HOSTLER_DATABASE_URL: a broker is set but" in problem(
        found(told, broker_url=redis_url), "settings"
    )


def test_paths_too_long_for_a_socket(told: dict[str, Any], tmp_path: Path) -> None:
    """One that libvirt's driver would make, and one that a URI names."""
    deep = tmp_path / ("d" * 60)
    embedded = found(told | {"libvirt_uri": None, "state_dir": deep})
    named = found(told, broker_url=f"redis+socket://{deep}/{'s' * 60}", allow_sqlite_with_broker=True)

    assert "libvirt's sockets need a shorter path" in embedded["settings"].line
    assert "set HOSTLER_BROKER_URL to a shorter path" in named["socket_path"].line


def test_no_room_and_no_lock(told: dict[str, Any], tmp_path: Path) -> None:
    """A small file system, a read-only one, and no qemu-img: three lines of one visit, as an operator sees them."""
    small, locks = tmp_path / "small", tmp_path / "locks"
    environment = {
        "HOSTLER_STATE_DIR": str(small),
        "HOSTLER_LOCK_DIR": str(locks),
        "HOSTLER_DATABASE_URL": told["database_url"],
        "HOSTLER_LIBVIRT_URI": told["libvirt_uri"],
        "HOSTLER_VIRT_TYPE": "qemu",
        "PATH": "/nonexistent",
    }
    for folder in (small, locks):
        folder.mkdir()
    mounted = 'mount -t tmpfs -o size=20m none "$1"; mount -t tmpfs -o ro none "$2"; shift 2; exec env PATH=/none "$@"'
    command = [program("unshare"), "--mount", "/bin/sh", "-ec", mounted, "sh", str(small), str(locks)]
    done = subprocess.run(
        [*command, sys.executable, "-m", "worker.cli", "doctor", "--json"],
        env=environment | {"PATH": "/usr/bin:/bin"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    lines = {each["check"]: each for each in json.loads(done.stdout) if each["level"] == "problem"}
    assert set(lines) == {"space", "lock_folder", "qemu_img"}, lines
    assert "MiB free, fewer than 1024" in lines["space"]["what"]
    assert "Read-only file system" in lines["lock_folder"]["what"]
    assert "set HOSTLER_LOCK_DIR" in lines["lock_folder"]["do"]


def test_the_driver_in_a_running_worker_is_let_be(embedded_site: Site) -> None:
    """The doctor says whose it is; without a worker it opens it itself, under the worker's lock."""
    site = embedded_site
    lock = HostLock.of_embedded(site.state / "libvirt")
    lock.acquire(uuid4())
    settings = Settings(state_dir=site.state, host="h1", virt_type=VirtType.QEMU)
    unregistered = {each.check: each for each in examination(settings)}
    migrations.upgrade(site.database)
    worker = uuid4()
    register(site.database, Registration("h1", "m", uuid4(), "qemu:///embed", worker, 7, "0", capabilities=REGISTERED))
    beside = {each.check: each for each in examination(settings)}
    down(site.database, "h1", worker, "libvirt does not answer: gone")
    lost = {each.check: each for each in examination(settings)}
    lock.release()

    assert unregistered["libvirt"].what == "a worker is alive on it"
    assert unregistered["versions"].level is Level.UNKNOWN
    assert "its worker (pid 7) has it" in beside["libvirt"].what
    assert beside["versions"].what == "QEMU 6.2.0 is older than 7.2.0"
    assert lost["libvirt"].what == "its worker (pid 7) says: libvirt does not answer: gone"

    alone = subprocess.run(
        enclosed(
            [sys.executable, "-m", "worker.cli", "doctor"],
            qemu_account(site.folder) | {Path("/run/libvirt"): site.folder},
        ),
        env=site.environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert f"ok       libvirt: qemu:///embed?root={site.state}/libvirt answers" in alone.stdout
    assert "versions: libvirt " in alone.stdout
