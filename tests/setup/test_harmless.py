"""A machine that runs servers of its own is the same after the set-up and a lab session as before."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.lab.places import CHECKOUT, program

pytestmark = pytest.mark.real

MACHINE = ("--mount", "--uts", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")


@pytest.fixture(scope="module")
def observed() -> dict[str, Any]:
    """What was seen on a machine before and after, and what set-up and session said."""
    ran = subprocess.run(
        [program("unshare"), *MACHINE, sys.executable, "-m", "tests.setup.machine"],
        cwd=CHECKOUT,
        check=False,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert isinstance(seen, dict)
    return seen


def test_the_set_up_and_the_lab_did_run(observed: dict[str, Any]) -> None:
    """Otherwise nothing below would mean anything."""
    for run in ("first set-up", "second set-up"):
        assert observed[run]["status"] == 0, observed[run]["said"]
    assert observed["session"]["status"] == 0, observed["session"]["said"]
    assert observed["session"]["said"] == "the lab was there\n"


def test_a_second_set_up_says_and_installs_nothing(observed: dict[str, Any]) -> None:
    """Where all is there, the set-up takes about no time."""
    assert observed["second set-up"]["said"] == ""
    assert observed["second set-up"]["seconds"] < 5


def test_the_machines_redis_was_not_even_asked(observed: dict[str, Any]) -> None:
    """Same process, same data, and no connection but the observer's."""
    assert observed["before"]["redis"]["data"] == {"mine": "precious"}
    assert observed["after"]["redis"] == observed["before"]["redis"]


def test_the_machines_libvirt_and_its_guest_run_on(observed: dict[str, Any]) -> None:
    """Same daemon, same domains, and the same QEMU, started once."""
    assert len(observed["before"]["libvirt"]["qemu pids"]) == 1
    assert observed["after"]["libvirt"] == observed["before"]["libvirt"]


@pytest.mark.parametrize(
    "aspect", ["links", "firewall", "processes", "mounts", "files of apt's hooks", "scratch folder"]
)
def test_nothing_else_has_changed(observed: dict[str, Any], aspect: str) -> None:
    """No link, rule, service, mount, hook or temporary file appears or goes."""
    assert observed["after"][aspect] == observed["before"][aspect]
