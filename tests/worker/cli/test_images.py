"""`hostler images`, as it is typed on the host, on a real cache with a real overlay."""

import json
import subprocess
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result

from tests.lab.places import program
from worker.cli import hostler

NEEDED, UNNEEDED = f"sha256-{'a' * 64}", f"url-{'b' * 64}"
MIB = 1024**2


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UUID:
    """An instance of this host with an overlay on one of its two images; a fetch of a third was broken off."""
    monkeypatch.setenv("HOSTLER_STATE_DIR", str(tmp_path))
    cache, instance = tmp_path / "image-cache", uuid4()
    folder = tmp_path / "instances" / str(instance)
    folder.mkdir(parents=True)
    cache.mkdir()
    for key in (NEEDED, UNNEEDED):
        (cache / key).write_bytes(bytes(MIB))
    (cache / f"sha256-{'c' * 64}.part").write_bytes(b"half")
    overlay = ["create", "-q", "-f", "qcow2", "-b", cache / NEEDED, "-F", "raw", folder / "root.qcow2"]
    subprocess.run([program("qemu-img"), *overlay], check=True, timeout=30)
    return instance


def typed(*words: str) -> Result:
    """The command, which succeeds."""
    result = CliRunner().invoke(hostler, ["images", *words], standalone_mode=False)
    assert result.exception is None, result.output
    return result


def listed() -> dict[str, list[str]]:
    """The images, and who needs each."""
    return {entry["key"]: entry["held_by"] for entry in json.loads(typed("list", "--json").stdout)}


def test_who_needs_an_image_is_told(instance: UUID) -> None:
    """As the backing chains on disk have it."""
    assert listed() == {NEEDED: [str(instance)], UNNEEDED: []}
    assert "nobody" in typed("list").stdout


def test_a_prune_takes_what_nobody_needs(instance: UUID, tmp_path: Path) -> None:
    """A dry run takes nothing, and says the same."""
    told = json.loads(typed("prune", "--dry-run", "--json").stdout)
    assert ([entry["key"] for entry in told["images"]], len(told["parts"])) == ([UNNEEDED], 1)
    assert len(listed()) == 2
    assert typed("prune").stdout == "images removed: 1, 1 MiB; broken-off fetches: 1\n"
    assert listed() == {NEEDED: [str(instance)]}
    assert not list((tmp_path / "image-cache").glob("*.part"))


@pytest.mark.usefixtures("instance")
def test_an_image_whose_last_disk_is_gone_may_go(tmp_path: Path) -> None:
    """And an empty cache is no error."""
    for overlay in tmp_path.glob("instances/*/root.qcow2"):
        overlay.unlink()
    typed("prune")
    assert typed("list").stdout == "the image cache is empty\n"
    assert typed("prune").stdout == "images removed: 0, 0 MiB; broken-off fetches: 0\n"
