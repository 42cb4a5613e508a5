"""Volumes as real files, block devices and NBD servers, good ones and hostile ones."""

import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from lxml import etree

from models.records import Json
from models.states import ErrorClass
from tasks.host import GuestVolume, HostError, Volume
from tests.lab.places import program, scratch_folder
from worker.host.device_xml import volume_element
from worker.host.roots import Roots
from worker.host.volumes import nbd
from worker.host.volumes.kind import VolumeKind
from worker.host.volumes.local import BlockVolumes, FileVolumes
from worker.host.volumes.nbd import DEFAULT_PORT, MAGIC, NbdVolumes

SOON_S = 10.0


@pytest.fixture
def root() -> Iterator[Path]:
    """A volume root, with a path that fits into a socket's address."""
    with scratch_folder("vol") as folder:
        (folder / "volumes").mkdir()
        yield folder / "volumes"


@pytest.fixture
def roots(root: Path) -> Roots:
    """That root alone."""
    return Roots((str(root),), called="a volume root", setting="HOSTLER_VOLUME_ROOTS")


def volume(kind: str = "file", **where: object) -> Volume:
    """A volume that says this of itself."""
    return Volume("vol-1", kind, where)


def refusal(kind: VolumeKind, wanted: Volume) -> str:
    """The sentence with which it is refused for good."""
    with pytest.raises(HostError) as caught:
        kind.connected(wanted)
    assert caught.value.error_class is ErrorClass.PERMANENT
    assert "\n" not in str(caught.value)
    return str(caught.value)


def xml(kind: VolumeKind, wanted: Volume) -> str:
    """The disk that a guest would be given."""
    element = volume_element(GuestVolume(wanted, "vdb", "ua-vol-1", "vol-1"), kind.source(wanted))
    return etree.tostring(element, encoding="unicode")


# --- files and devices


def test_without_a_root_no_volume_is_used(root: Path) -> None:
    """And the sentence names the setting."""
    (root / "a").touch()
    files = FileVolumes(Roots((), called="a volume root", setting="HOSTLER_VOLUME_ROOTS"))
    assert "HOSTLER_VOLUME_ROOTS" in refusal(files, volume(path=str(root / "a"), format="raw"))


@pytest.mark.parametrize(
    "where", [{}, {"path": 1, "format": "raw"}, {"path": "/a"}, {"path": "/a", "format": "vmdk"}, {"format": "raw"}]
)
def test_a_file_that_is_not_described_is_refused(roots: Roots, root: Path, where: Json) -> None:
    """The request was checked elsewhere; here nothing is guessed."""
    there = root / "a"
    there.touch()
    known = {**where, "path": str(there)} if where.get("path") == "/a" else where
    assert refusal(FileVolumes(roots), Volume("vol-1", "file", known))


def test_a_link_is_followed_within_the_roots_and_the_guest_is_given_its_end(roots: Roots, root: Path) -> None:
    """A link that changes later leads a guest nowhere else."""
    (root / "a").touch()
    (root / "link").symlink_to(root / "a")
    wanted = volume(path=str(root / "link"), format="raw")
    assert FileVolumes(roots).connected(wanted)
    assert f'file="{root / "a"}"' in xml(FileVolumes(roots), wanted)


def test_a_link_out_of_the_roots_is_refused(roots: Roots, root: Path, tmp_path: Path) -> None:
    """Wherever it leads, and also when a guest is given it."""
    (tmp_path / "a").touch()
    (root / "link").symlink_to(tmp_path / "a")
    wanted = volume(path=str(root / "link"), format="raw")
    assert "does not lie below a volume root" in refusal(FileVolumes(roots), wanted)
    with pytest.raises(HostError):
        FileVolumes(roots).source(wanted)


def test_a_raw_volume_may_hold_anything(roots: Roots, root: Path) -> None:
    """A guest may write another format's header into its disk; nobody reads it."""
    _qcow2(root / "a")
    assert FileVolumes(roots).connected(volume(path=str(root / "a"), format="raw"))
    assert 'type="raw"' in xml(FileVolumes(roots), volume(path=str(root / "a"), format="raw"))


def test_a_qcow2_volume_refers_to_nothing(roots: Roots, root: Path) -> None:
    """Neither to a backing file nor to a data file, whoever wrote that into it."""
    files = FileVolumes(roots)
    (root / "base").write_bytes(b"\0" * 1024**2)
    _qcow2(root / "good")
    _qcow2(root / "backed", "-b", str(root / "base"), "-F", "raw")
    _qcow2(root / "data", "-o", f"data_file={root / 'data.raw'}")
    assert files.connected(volume(path=str(root / "good"), format="qcow2"))
    assert "backing file" in refusal(files, volume(path=str(root / "backed"), format="qcow2"))
    assert "data_file" in refusal(files, volume(path=str(root / "data"), format="qcow2"))


def test_what_is_no_regular_file_is_refused_without_waiting(roots: Roots, root: Path) -> None:
    """A pipe that nobody writes would hold the job for ever."""
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to(root / "loop")
    assert "is not a regular file" in refusal(FileVolumes(roots), volume(path=str(root / "pipe"), format="raw"))
    assert "cannot be found" in refusal(FileVolumes(roots), volume(path=str(root / "loop"), format="raw"))


def test_a_block_device_is_used_past_the_hosts_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is on it, by the name on the list; here a file stands in for the device that it leads to."""
    (root / "dm-0").touch()
    (root / "a").symlink_to(root / "dm-0")
    devices = BlockVolumes((f"{root}/a", f"{root}/b"))
    wanted = volume("block", path=str(root / "a"))
    assert "is not a block device" in refusal(devices, wanted)
    monkeypatch.setattr(stat, "S_IFMT", lambda _mode: stat.S_IFBLK)
    assert devices.connected(wanted)
    assert not devices.connected(volume("block", path=str(root / "b")))
    with pytest.raises(HostError, match="cannot be found"):
        devices.connect(volume("block", path=str(root / "b")))
    disk = xml(devices, wanted)
    assert all(part in disk for part in ('type="block"', 'cache="none"', 'io="native"', f'dev="{root / "a"}"'))


@pytest.mark.parametrize(
    ("listed", "name", "fits"),
    [
        ("/dev/vg0/volume-*", "/dev/vg0/volume-1", True),
        ("/dev/vg0/volume-*", "/dev/vg0/volume-", True),
        ("/dev/vg0/volume-*", "/dev/vg0/root", False),
        ("/dev/vg0/volume-*", "/dev/vg0/volume-1/x", False),
        ("/dev/vg0/volume-*", "/dev/vg0/volume-1/../root", False),
        ("/dev/*/a", "/dev/../a", False),
        ("/dev/*/a", "/dev//a", False),
        ("/dev/vg0/*", "/dev/vg0/.", False),
        ("/dev/vg.", "/dev/vg0", False),
        ("/dev/sdb", "/dev/sdb", True),
        ("/dev/sdb", "/dev/sdb1", False),
        ("/dev/sdb", "/dev/sda", False),
        ("/dev/sdb", "/dev/sdb\n", False),
        ("*", "/dev/sda", False),
    ],
)
def test_a_block_device_is_used_by_a_name_on_the_list(listed: str, name: str, *, fits: bool) -> None:
    """It need not be there for its name to be judged; a refusal names the setting."""
    devices, wanted = BlockVolumes((listed,)), volume("block", path=name)
    if fits:
        assert f'dev="{name}"' in xml(devices, wanted)
    else:
        assert "HOSTLER_VOLUME_DEVICES" in refusal(devices, wanted) or "\n" in name
    assert "HOSTLER_VOLUME_DEVICES" in refusal(BlockVolumes(()), volume("block", path="/dev/sda"))


# --- servers


def test_a_server_that_greets_is_within_reach(roots: Roots) -> None:
    """Its first eight bytes say what it is, also when they come one by one."""
    with _server(MAGIC[:3], MAGIC[3:] + b"IHAVEOPT") as port:
        assert NbdVolumes(roots, ("127.0.0.1",)).connected(volume("nbd", host="127.0.0.1", port=port))


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH", b"HTTP/1.1 400 "])
def test_a_server_of_something_else_is_refused(roots: Roots, greeting: bytes) -> None:
    """It will never be one."""
    with _server(greeting) as port:
        assert "is no NBD server" in refusal(NbdVolumes(roots, ("*",)), volume("nbd", host="127.0.0.1", port=port))


def test_a_server_that_hangs_up_or_says_nothing_is_waited_for_in_vain(
    roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be starting; the job tries again, and nothing waits longer than it must."""
    monkeypatch.setattr(nbd, "REACH_DEADLINE_S", 0.1)
    with _server(MAGIC[:3]) as hangs_up, _server(stays=True) as silent:
        for port in (hangs_up, silent):
            begin = time.monotonic()
            error = _unreachable(NbdVolumes(roots, ("*",)), volume("nbd", host="127.0.0.1", port=port))
            assert f"127.0.0.1:{port} of the volume vol-1 cannot be reached" in str(error)
            assert time.monotonic() - begin < SOON_S / 2


def test_a_server_on_a_socket_below_a_root_is_within_reach(roots: Roots, root: Path, tmp_path: Path) -> None:
    """No setting is needed: the root is one."""
    servers = NbdVolumes(roots, ())
    with _server(MAGIC, on=root / "socket"):
        wanted = volume("nbd", socket=str(root / "socket"), export="disk & more")
        assert servers.connected(wanted)
        assert f'<source protocol="nbd" name="disk &amp; more"><host transport="unix" socket="{root}/socket"/>' in xml(
            servers, wanted
        )
    assert "Connection refused" in str(_unreachable(servers, wanted))
    (root / "file").touch()
    assert "is not a UNIX socket" in refusal(servers, volume("nbd", socket=str(root / "file")))
    assert "cannot be found" in refusal(servers, volume("nbd", socket=str(root / "none")))
    assert "does not lie below" in refusal(servers, volume("nbd", socket=str(tmp_path / "socket")))


@pytest.mark.parametrize(
    ("permitted", "host", "port", "fits"),
    [
        ("nbd.example", "nbd.example", 10809, True),
        ("nbd.example", "NBD.Example", 1, True),
        ("NBD.example:10809", "nbd.example", 10809, True),
        ("nbd.example:10809", "nbd.example", 10810, False),
        ("nbd.example", "nbd.example.org", 10809, False),
        ("*", "anything", 1, True),
        ("[fd00::1]:10809", "fd00::1", 10809, True),
        ("[fd00::1]:10809", "fd00::1", 10810, False),
        ("[fd00::1]", "fd00::1", 1, True),
        ("fd00::1", "fd00::1", 1, True),
        ("", "nbd.example", 10809, False),
    ],
)
def test_only_permitted_servers_are_used(roots: Roots, permitted: str, host: str, port: int, *, fits: bool) -> None:
    """By host, or by host and port; a refusal names the setting."""
    servers = NbdVolumes(roots, (permitted,) if permitted else ())
    wanted = volume("nbd", host=host, port=port)
    if fits:
        assert f'<host name="{host}" port="{port}"/>' in xml(servers, wanted)
    else:
        assert "HOSTLER_NBD_SERVERS" in refusal(servers, wanted)


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"host": ""},
        {"host": "a b"},
        {"host": "-h"},
        {"host": "a/b"},
        {"host": "a..b"},
        {"host": "a" * 64},
        {"host": ".".join(["a"] * 128)},
        {"host": "a", "port": 0},
        {"host": "a", "port": 65536},
        {"host": "a", "port": "10809"},
        {"host": "a", "port": True},
        {"host": "a", "export": 1},
        {"host": "a", "export": "x" * 4097},
        {"socket": 1},
        {"socket": ""},
    ],
)
def test_a_server_that_is_not_described_is_refused(roots: Roots, where: Json) -> None:
    """Whatever would be made of it."""
    assert refusal(NbdVolumes(roots, ("*",)), Volume("vol-1", "nbd", where))


def test_a_server_has_the_protocols_port_unless_it_says_another(roots: Roots) -> None:
    """And the default export unless it names one."""
    disk = xml(NbdVolumes(roots, ("*",)), volume("nbd", host="a"))
    assert f'<source protocol="nbd"><host name="a" port="{DEFAULT_PORT}"/></source>' in disk


def test_an_export_that_xml_cannot_carry_is_refused(roots: Roots) -> None:
    """Before libvirt sees it."""
    with pytest.raises(HostError, match="character that XML cannot carry"):
        xml(NbdVolumes(roots, ("*",)), volume("nbd", host="a", export="bell\a"))


def _qcow2(path: Path, *options: str) -> None:
    command = [program("qemu-img"), "create", "-q", "-f", "qcow2", *options, str(path), "1M"]
    subprocess.run(command, check=True, timeout=30)


def _unreachable(servers: NbdVolumes, wanted: Volume) -> HostError:
    with pytest.raises(HostError) as caught:
        servers.connected(wanted)
    assert caught.value.error_class is ErrorClass.TRANSIENT
    return caught.value


@contextmanager
def _server(*greetings: bytes, on: Path | None = None, stays: bool = False) -> Iterator[int]:
    """A server that says so to one client; then it hangs up, unless it stays. Its port, if it has one."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET if on is None else socket.AF_UNIX))
        listener.bind(("127.0.0.1", 0) if on is None else str(on))
        listener.listen()
        listener.settimeout(SOON_S)
        done = threading.Event()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                for greeting in greetings:
                    client.sendall(greeting)
                if stays:
                    done.wait(SOON_S)

        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join, SOON_S)
        stack.callback(done.set)
        yield listener.getsockname()[1] if on is None else 0
