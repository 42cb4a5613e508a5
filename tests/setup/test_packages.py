"""Installing packages starts no service, makes no cluster, and leaves every hook of the machine as it was.

The script is the real one; apt-get and dpkg-query are stand-ins that say what they saw, and /usr/sbin and PostgreSQL's
folder of settings are copies, in a mount namespace.
"""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.lab.places import CHECKOUT, program

pytestmark = pytest.mark.real

SCRIPT = CHECKOUT / "setup/packages.sh"
POLICY = "policy-rc.d"
CLUSTERS = "createcluster.conf"

DPKG_QUERY = "#!/bin/sh\necho not-installed\n"

APT_GET = """#!/bin/sh
echo "$@" >>"$SEEN/calls"
case "$*" in
    *--simulate*) echo 'Inst libnew (1.0 Debian)'; echo 'Inst libold [1.0] (1.1 Debian)' ;;
    *install*)
        /usr/sbin/policy-rc.d postgresql start; echo $? >"$SEEN/policy"
        cd /etc/postgresql-common; cat createcluster.conf createcluster.d/*.conf >"$SEEN/clusters" 2>/dev/null
        echo "E: the archive said no"
        case $FATE in
            fails) exit 100 ;;
            killed) kill -KILL "$PPID" ;;
        esac ;;
esac
"""

ENCLOSED = """
mount --bind "$SEEN/sbin" /usr/sbin
mkdir -p /etc/postgresql-common
mount --bind "$SEEN/settings" /etc/postgresql-common
exec "$SCRIPT"
"""


class Machine:
    """A machine that lacks one package, and what the stand-ins of its package tools saw."""

    def __init__(self, folder: Path) -> None:
        self.sbin, self.settings, self._seen = folder / "sbin", folder / "settings", folder
        programs = folder / "programs"
        for path in (self.sbin, self.settings, programs):
            path.mkdir()
        for name in ("libvirtd", "mkfs.ext4", "mkfs.vfat", "mkswap"):
            (self.sbin / name).touch(0o755)
        for name, text in (("apt-get", APT_GET), ("dpkg-query", DPKG_QUERY)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self._environment = {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "SEEN": str(folder)}

    def set_up(self, fate: str) -> subprocess.CompletedProcess[str]:
        """Run the script to the fate of its call of apt-get."""
        return subprocess.run(
            [program("unshare"), "--mount", "--propagation", "private", "/bin/sh", "-ec", ENCLOSED],
            env={**self._environment, "FATE": fate, "SCRIPT": str(SCRIPT)},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def seen(self, name: str) -> str:
        """What a stand-in noted under this name."""
        return (self._seen / name).read_text()

    def files(self) -> dict[str, tuple[int, int, str]]:
        """All files that a package's scripts would ask: their identities, modes and contents."""
        return {
            str(path.relative_to(self._seen)): (path.lstat().st_ino, path.lstat().st_mode, path.read_text())
            for folder in (self.sbin, self.settings)
            for path in folder.rglob("*")
            if not path.is_dir()
        }


@pytest.fixture(params=["bare", "with its own hooks", "with a linked hook"])
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    """Machines that differ in what they had before."""
    machine = Machine(tmp_path)
    if request.param != "bare":
        (machine.settings / CLUSTERS).write_text("# mine\ncreate_main_cluster = true\n")
        policy = machine.sbin / POLICY
        if request.param == "with a linked hook":
            policy.symlink_to("mine")
            policy = machine.sbin / "mine"
        policy.write_text("#!/bin/sh\nexit 0\n")
        policy.chmod(0o750)
    return machine


def test_no_service_and_no_cluster_during_the_call(machine: Machine) -> None:
    """Whatever the machine's own hooks would answer."""
    machine.set_up("succeeds")
    assert machine.seen("policy") == "101\n"
    assert machine.seen("clusters").splitlines()[-1] == "create_main_cluster = false"


@pytest.mark.parametrize(("fate", "status"), [("succeeds", 0), ("fails", 1)])
def test_every_hook_is_as_it_was(machine: Machine, fate: str, status: int) -> None:
    """The same files, not copies of them; and no new ones."""
    before = machine.files()
    assert machine.set_up(fate).returncode == status
    assert machine.files() == before


def test_a_killed_set_up_is_repaired_by_the_next(machine: Machine) -> None:
    """Until then services stay off, which harms less than the opposite."""
    before = machine.files()
    assert machine.set_up("killed").returncode == -signal.SIGKILL
    assert machine.files() != before
    machine.set_up("succeeds")
    assert machine.files() == before


def test_the_list_comes_before_the_installation(machine: Machine) -> None:
    """What is new is told from what others need in a newer version."""
    said = machine.set_up("fails").stdout.splitlines()
    assert said == [
        "setup: installing, starting no service: libnew ",
        "setup: with newer versions, which those depend on, of: libold ",
    ]


def test_only_what_is_missing_is_asked_for(machine: Machine) -> None:
    """Without recommendations, upgrades or removals."""
    machine.set_up("succeeds")
    update, simulation, installation = machine.seen("calls").splitlines()
    assert update.endswith(" update")
    assert installation.endswith("install --yes --no-install-recommends --no-upgrade --no-remove busybox-static")
    assert simulation == f"{installation} --simulate"


def test_a_failure_ends_with_one_clear_sentence(machine: Machine) -> None:
    """After what apt-get itself said."""
    said = machine.set_up("fails").stderr.splitlines()
    assert said == [
        "E: the archive said no",
        "setup: installing packages failed; the lines above are what apt-get said",
    ]
