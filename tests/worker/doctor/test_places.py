"""What is told of folders and sockets."""

from pathlib import Path

import pytest

from worker.doctor.findings import Level
from worker.doctor.places import file_system_of, is_remote, lock_folder, socket_of_uri, socket_paths, state_folder

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /srv rw,relatime shared:9 - nfs4 filer:/srv rw,vers=4.2
31 30 0:27 / /srv/my\\040locks rw - tmpfs tmpfs rw
32 22 0:28 / /mnt rw - ext4 /dev/vdb rw
33 32 0:29 / /mnt rw - fuse.sshfs me@there:/ rw
"""


@pytest.mark.parametrize(
    ("path", "file_system", "remote"),
    [
        ("/", "ext4", False),
        ("/srv", "nfs4", True),
        ("/srv/not-there-yet/deep", "nfs4", True),
        ("/srvices", "ext4", False),
        ("/mnt/x", "fuse.sshfs", True),
    ],
)
def test_the_mount_that_covers_a_path_tells_its_file_system(path: str, file_system: str, *, remote: bool) -> None:
    """The longest mount point counts, and of two on one point the later."""
    found = file_system_of(Path(path), MOUNTS)
    assert (found, is_remote(found)) == (file_system, remote)


def test_a_mount_point_with_blanks_is_read() -> None:
    """The kernel writes them as octal numbers."""
    assert file_system_of(Path("/srv/my locks/x"), MOUNTS) == "tmpfs"


def test_sockets_are_measured_in_bytes() -> None:
    """107 of them fit; a letter may have two."""
    assert socket_paths([("HOSTLER_BROKER_URL", "/" + "a" * 106)]).level is Level.OK
    found = socket_paths([("HOSTLER_BROKER_URL", "/" + "ä" * 54)])
    assert (found.level, "has 109 bytes" in found.what, "HOSTLER_BROKER_URL" in found.do) == (Level.PROBLEM, True, True)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("qemu+unix:///system?socket=/run/x/libvirt-sock", "/run/x/libvirt-sock"),
        ("qemu:///system", None),
        ("redis+socket:///run/redis/s?virtual_host=0", "/run/redis/s"),
        ("redis://h:6379/0", None),
        ("postgresql+psycopg:///db?host=/run/postgresql", "/run/postgresql/.s.PGSQL.5432"),
        ("postgresql+psycopg://h/db?host=other", None),
        ("", None),
    ],
)
def test_uris_that_name_a_socket(uri: str, path: str | None) -> None:
    """And those that do not."""
    assert socket_of_uri(uri) == path


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    """Neither state nor locks can be kept in it."""
    (tmp_path / "file").touch()

    state, lock = state_folder(tmp_path / "file/state"), lock_folder(tmp_path / "file/locks")

    assert (state.level, "no file can be made" in state.what) == (Level.PROBLEM, True)
    assert (lock.level, "no file can be locked" in lock.what) == (Level.PROBLEM, True)


def test_what_is_not_there_yet_is_made_by_the_worker(tmp_path: Path) -> None:
    """And looking does not make it."""
    assert state_folder(tmp_path / "a/b").level is Level.OK
    assert lock_folder(tmp_path / "c/d").level is Level.OK
    assert list(tmp_path.iterdir()) == []
