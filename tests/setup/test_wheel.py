"""What is installed when Hostler is installed."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.lab.places import CHECKOUT

BUILD_WITHIN_S = 120
ROOTS = {"worker", "tasks", "models", "migrations"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what git knows."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in [*ROOTS, "pyproject.toml", "README.md", "LICENSE"]:
        found = CHECKOUT / name
        if found.is_dir():
            shutil.copytree(found, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(found, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(target), "."],
        cwd=source,
        check=True,
        timeout=BUILD_WITHIN_S,
        stdout=subprocess.DEVNULL,
    )
    [built] = target.glob("*.whl")
    return built


def test_the_wheel_holds_the_four_packages_and_no_tests(wheel: Path) -> None:
    """Nothing else reaches anybody's site-packages."""
    names = zipfile.ZipFile(wheel).namelist()

    tops = {name.split("/", 1)[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == ROOTS
    for needed in ("worker/cli/__main__.py", "migrations/versions/0002_promises.py", "migrations/script.py.mako"):
        assert needed in names
    assert {f"{root}/py.typed" for root in ROOTS} <= set(names)


def test_the_database_is_upgraded_by_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    """The revisions come along, and are found where they were installed."""
    installed = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(installed)
    state = tmp_path / "state"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "HOSTLER_STATE_DIR": str(state)}

    def python(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            check=True,
            timeout=60,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout

    assert python("-c", "import migrations; print(migrations.__file__)").startswith(str(installed))
    assert "from revision none to" in python("-m", "worker.cli", "db", "upgrade")
    assert (state / "journal.db").exists()
