"""What an operator sees in Flower."""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from celery.exceptions import TaskRevokedError

import migrations
from tests.lab.hosts import LibvirtHost
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.processes import Process, free_port
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real


class Flower:
    """A Flower of the test's own."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        """What its API answers; None while it does not."""
        try:
            with urllib.request.urlopen(self._base + path, timeout=5) as answer:
                return json.load(answer)
        except (OSError, urllib.error.HTTPError):
            return None

    def revoke(self, job_id: str) -> None:
        """Its Revoke button."""
        request = urllib.request.Request(f"{self._base}/api/task/revoke/{job_id}", data=b"", method="POST")
        with urllib.request.urlopen(request, timeout=5):
            pass


@pytest.fixture
def flower(redis_url: str, tmp_path: Path) -> Iterator[Flower]:
    """Flower, watching the shared Redis."""
    port = free_port()
    with Process(
        [sys.executable, "-m", "celery", "-b", redis_url, "flower", "--address=127.0.0.1", f"--port={port}"],
        log=tmp_path / "flower.log",
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "FLOWER_UNAUTHENTICATED_API": "true"},
        cwd=tmp_path,
    ) as process:
        seen = Flower(port)
        process.wait_ready(lambda: seen.get("/api/workers") is not None, "Flower answers", 30)
        yield seen


def test_flower_shows_the_worker_the_job_by_id_its_arguments_and_its_outcome(
    flower: Flower, site: Site, orchestrator: Orchestrator, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """By the id that its sender chose; also a job that no message brought."""
    site.start_worker()
    eventually(lambda: "hostler@h1" in (flower.get("/api/workers?refresh=1") or {}), "Flower sees the worker", 20)
    orchestrator.send("spawn", instance, small_guest, job_id="seen").get(timeout=RESULT_WITHIN_S)

    def seen(job_id: str, state: str) -> dict[str, Any] | None:
        info = flower.get(f"/api/task/info/{urllib.parse.quote(job_id)}")
        return info if info is not None and info["state"] == state else None

    spawned = eventually(lambda: seen("seen", "SUCCESS"), "Flower shows the outcome", 20)
    assert spawned["name"] == "compute.spawn"
    assert str(instance) in spawned["kwargs"]
    assert "'state': 'succeeded'" in spawned["result"]

    bad = {"name": "x", "memory_mib": 40, "image": {"path": "/nowhere/x.qcow2"}}
    failed = orchestrator.send("spawn", UUID(int=instance.int ^ 1), bad)
    shown = eventually(lambda: seen(failed.id, "FAILURE"), "Flower shows the failure", 20)
    assert "JobFailed" in shown["exception"]

    swept = site.accept("destroy", instance, {})
    shown = eventually(lambda: seen(swept, "SUCCESS"), "Flower shows a job that was never rung", 20)
    assert (shown["name"], str(instance) in shown["kwargs"]) == ("compute.destroy", True)


def test_flowers_revoke_cancels_a_queued_job(
    flower: Flower,
    postgresql_url: str,
    redis_url: str,
    orchestrator: Orchestrator,
    instance: UUID,
    small_guest: dict[str, Any],
) -> None:
    """A job that waits behind another of its instance is cancelled at once; Celery says REVOKED."""
    with (
        LibvirtHost("revoke") as libvirt,
        Site(libvirt=libvirt, database_url=postgresql_url, broker_url=redis_url) as site,
    ):
        migrations.upgrade(site.database)
        site.start_worker()
        eventually(lambda: "hostler@h1" in (flower.get("/api/workers?refresh=1") or {}), "the worker is seen", 20)
        libvirt.freeze()  # the first spawn hangs in its look
        first = orchestrator.send("spawn", instance, small_guest)
        eventually(lambda: site.state_of(first.id) == "running", "the first job is under way")
        second = orchestrator.send("spawn", instance, small_guest)
        eventually(lambda: site.state_of(second.id) == "queued", "the second waits behind it")

        flower.revoke(second.id)

        with pytest.raises(TaskRevokedError):
            second.get(timeout=RESULT_WITHIN_S)
        assert second.state == "REVOKED"
        cancelled = site.settled(second.id)
        assert [event["type"] for event in cancelled["events"]] == ["submitted", "cancel_requested", "cancelled"]
        assert site.state_of(first.id) == "running"
        libvirt.thaw()
        assert first.get(timeout=RESULT_WITHIN_S)["state"] == "succeeded"
        orchestrator.send("destroy", instance, {}).get(timeout=RESULT_WITHIN_S)
