"""What an operator types, and what comes back."""

import json
import signal
import subprocess
import sys
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.lab.places import CHECKOUT
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real


def test_bad_input_gets_one_sentence_naming_the_field_and_changes_nothing(
    embedded_site: Site, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """Exit status 2, nothing recorded."""
    site = embedded_site
    site.start_worker()
    cases: list[tuple[str, Any, list[str]]] = [
        ("memory_mib: field required.", {"name": "x", "disk_gib": 1}, []),
        ("memory: extra inputs are not permitted.", small_guest | {"memory": 1}, []),
        ("job id: at most 128", small_guest, ["--job-id", "no spaces"]),
        ("host: no worker ever served 'h9'", small_guest, ["--host", "h9"]),
        ("instance: a UUID is needed.", small_guest, ["--instance", "not-one"]),
        ("request: a JSON object is needed.", [1, 2], []),
    ]
    for sentence, request, options in cases:
        refused = site.submit("spawn", instance, request, *options)

        assert refused.returncode == 2, refused.stderr
        assert sentence in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    unknown = site.submit("teleport", instance, {})
    assert (unknown.returncode, "there is no 'teleport'" in unknown.stderr) == (2, True)
    assert site.jobs() == []


def test_without_a_journal_it_says_what_to_do(embedded_site: Site) -> None:
    """Reading never makes a journal."""
    listed = embedded_site.hostler("jobs", "list")

    assert listed.returncode == 2
    assert "run `hostler db upgrade`" in listed.stderr
    assert not (embedded_site.state / "journal.db").exists()


def test_a_timeout_of_the_waiting_leaves_the_job_going(
    embedded_site: Site, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """Exit status 3; the job is still there, and a stopped worker is told of."""
    site = embedded_site
    site.start_worker()
    assert site.worker.terminate(30) == 0, site.log

    waited = site.submit("spawn", instance, small_guest, "--wait", "--timeout", "0.3", "--job-id", "patient")

    assert waited.returncode == 3
    assert "hostler jobs watch patient" in waited.stderr
    assert "the worker of h1 is stopped" in waited.stderr
    assert site.job("patient")["state"] == "queued"
    cancelled = site.hostler("jobs", "cancel", "patient", "--because", "no longer wanted")
    assert (cancelled.returncode, "nothing of it was begun" in cancelled.stdout) == (0, True)
    assert site.hostler("jobs", "watch", "patient").returncode == 5
    assert site.hostler("jobs", "cancel", "patient").returncode == 2


def test_ctrl_c_leaves_the_job_running_and_says_how_to_watch_it(
    embedded_site: Site, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """Interrupting the watcher is not cancelling the job."""
    site = embedded_site
    site.start_worker()
    assert site.worker.terminate(30) == 0, site.log
    target = ["--host", "h1", "--instance", str(instance), "--request", "-", "--job-id", "watched", "--wait"]
    with subprocess.Popen(
        [sys.executable, "-m", "worker.cli", "submit", "spawn", *target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=site.environment,
        cwd=CHECKOUT,
    ) as watcher:
        try:
            assert watcher.stdin is not None
            watcher.stdin.write(json.dumps(small_guest))
            watcher.stdin.close()
            watcher.stdin = None
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "watched\n"
            assert watcher.stderr is not None
            while "queued" not in watcher.stderr.readline():
                pass

            watcher.send_signal(signal.SIGINT)
            _, said = watcher.communicate(timeout=20)
        finally:
            watcher.kill()

    assert watcher.returncode == 130
    assert "hostler jobs watch watched" in said
    assert site.job("watched")["state"] == "queued"
    assert site.hostler("jobs", "cancel", "watched").returncode == 0


def test_every_listing_speaks_json_and_table(embedded_site: Site, instance: UUID, small_guest: dict[str, Any]) -> None:
    """The shapes that programs build on are there, and people see the same."""
    site = embedded_site
    site.start_worker()
    assert site.submit("spawn", instance, small_guest, "--wait", "--job-id", "shown").returncode == 0

    job = site.job("shown")
    assert {"id", "operation", "instance", "host", "state", "run", "epoch", "request", "error", "steps", "events"} <= (
        set(job)
    )
    assert {"name", "host", "state", "attempts", "started_at", "ended_at", "error"} <= set(job["steps"][0])
    assert {"at", "type", "actor", "data"} <= set(job["events"][0])
    assert [event["type"] for event in job["events"]] == ["submitted", "claimed", "succeeded"]
    for command in (("jobs", "list"), ("jobs", "show", "shown"), ("instances", "list"), ("hosts", "list")):
        table = site.hostler(*command)
        assert table.returncode == 0, table.stderr
        assert json.loads(site.hostler(*command, "--json").stdout)
    assert str(instance) in site.hostler("instances", "show", str(instance)).stdout
    schema = json.loads(site.hostler("schema", "spawn").stdout)
    assert schema["properties"]["memory_mib"]["description"]
    for command in (("jobs", "show", "none"), ("jobs", "watch", "none"), ("instances", "show", str(uuid4()))):
        assert site.hostler(*command).returncode == 2
    assert site.submit("destroy", instance, {}, "--wait").returncode == 0


def test_a_failed_job_exits_1_and_its_reason_is_shown(embedded_site: Site, instance: UUID) -> None:
    """The operator reads why, and nothing of the job is left."""
    site = embedded_site
    site.start_worker()
    request = {"name": "x", "memory_mib": 40, "image": {"path": str(site.images / "no-such.qcow2")}}

    failed = site.submit("spawn", instance, request, "--wait", "--job-id", "failing")

    assert failed.returncode == 1
    assert "no-such.qcow2" in failed.stderr
    assert "no-such.qcow2" in site.hostler("jobs", "show", "failing").stdout
    assert site.files() == []
    instance_now = json.loads(site.hostler("instances", "show", str(instance), "--json").stdout)
    assert instance_now["state"] == "absent"


def test_a_guest_that_cannot_start_is_undone_whole(embedded_site: Site, instance: UUID) -> None:
    """QEMU refuses the start, after the disk and the definition were made: all of it is taken back."""
    site = embedded_site
    site.start_worker()
    kernel = site.images / "not-a-kernel"
    kernel.write_text("this is no kernel\n")
    request = {"name": "x", "memory_mib": 40, "disk_gib": 1, "boot": {"kernel": str(kernel)}}

    failed = site.submit("spawn", instance, request, "--wait", "--job-id", "refused", "--timeout", "100")

    assert failed.returncode == 1, failed.stderr
    job = site.job("refused")
    undone = [(step["name"], step["state"]) for step in job["steps"] if step["direction"] == "undo"]
    assert undone == [("DomainRunning", "done"), ("DomainDefined", "done"), ("RootDiskCreated", "done")]
    assert site.files() == []
    eventually(lambda: site.qemu_pids(instance) == [], "no process is left")
