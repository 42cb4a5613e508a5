"""The unit for systemd: that it fits the worker it starts, and never takes the guests along."""

import configparser
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.lab.places import CHECKOUT, program
from worker import watchdog
from worker.cli import exits, hostler
from worker.settings import Settings

UNIT = CHECKOUT / "systemd/hostler.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    """Its section on the service."""
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their capitals
    unit.read(UNIT)
    return unit["Service"]


def test_it_starts_the_worker(service: configparser.SectionProxy) -> None:
    """By a program that the wheel brings, and a command that there is."""
    scripts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["scripts"]
    program, command = service["ExecStart"].split()

    assert Path(program).name in scripts
    assert command in hostler.commands
    assert service["Type"] == "notify"


def test_it_waits_for_signs_of_life_no_shorter_than_they_take(service: configparser.SectionProxy) -> None:
    """Three of them fit in; and a wrong configuration alone is not started again."""
    assert float(service["WatchdogSec"]) >= 3 * watchdog.INTERVAL_S
    assert int(service["RestartPreventExitStatus"]) == exits.BAD_REQUEST
    assert watchdog.EXIT_STUCK not in {exits.OK, exits.BAD_REQUEST}


def test_it_leaves_the_guests_and_the_lock(service: configparser.SectionProxy) -> None:
    """Guests of the embedded driver are in its control group, QEMU opens devices, and the lock must stay one file."""
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert not {"PrivateDevices", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute"} & set(service)
    assert Path("/run", service["RuntimeDirectory"]) == Settings.model_fields["lock_dir"].default
    assert service["RuntimeDirectoryPreserve"] == "yes"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
def test_systemd_understands_it(tmp_path: Path) -> None:
    """Every line of it."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/hostler/bin/hostler", "/bin/true"))
    verified = subprocess.run(
        [program("systemd-analyze"), "verify", copy], capture_output=True, text=True, timeout=30, check=False
    )

    assert (verified.returncode, [line for line in verified.stderr.splitlines() if UNIT.name in line]) == (0, [])
