"""What operators decide, with a real worker, Redis and a guest: revoked, undone, and retried under the same id."""

import json
from typing import Any
from uuid import UUID

import pytest
from celery.exceptions import TaskRevokedError

from tests.lab.nbd import NbdServer
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.site import Site
from tests.lab.waiting import eventually

DECIDED_WITHIN_S = 20.0


def ask(orchestrator: Orchestrator, verb: str, **arguments: object) -> dict[str, Any]:
    """What any Celery client gets for ``ops.<verb>``."""
    sent = orchestrator.app.send_task(f"ops.{verb}", kwargs=arguments, queue="ops")
    answer: dict[str, Any] = sent.get(timeout=DECIDED_WITHIN_S)
    return answer


def test_a_revoked_job_is_retried_under_its_id(
    site: Site, orchestrator: Orchestrator, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """Running, waiting or queued when it was revoked, it is undone; its second run is like any other's first."""
    volumes = site.state / "volumes"
    volumes.mkdir()
    (volumes / "later.raw").write_bytes(bytes(1024**2))
    with NbdServer() as server:
        server.kill()
        site.start_worker(settings={"NBD_SERVERS": "*"})
        orchestrator.send("spawn", instance, small_guest).get(timeout=RESULT_WITHIN_S)
        volume = {"id": "v1", "kind": "nbd", "host": "127.0.0.1", "port": server.port}
        first = orchestrator.send("attach_volume", instance, {"volume": volume}).id
        eventually(lambda: site.state_of(first) == "running", "the attach runs", DECIDED_WITHIN_S)
        orchestrator.app.control.revoke(first)
        with pytest.raises(TaskRevokedError):
            orchestrator.result(first).get(timeout=RESULT_WITHIN_S)
        assert site.job(first)["state"] == "cancelled"

        assert ask(orchestrator, "job_retry", job=first, reason="the storage is being mended")["taken"]
        eventually(lambda: site.state_of(first) == "waiting", "its second run waits", DECIDED_WITHIN_S)
        assert orchestrator.result(first).state in {"PENDING", "STARTED"}
        later = {"id": "v2", "kind": "file", "path": str(volumes / "later.raw"), "format": "raw"}
        second = orchestrator.send("attach_volume", instance, {"volume": later}).id
        eventually(lambda: site.state_of(second) == "queued", "another attach stands behind it", DECIDED_WITHIN_S)
        for job_id in (second, first):
            orchestrator.app.control.revoke(job_id)
            with pytest.raises(TaskRevokedError):
                orchestrator.result(job_id).get(timeout=RESULT_WITHIN_S)
        assert volumes_of(site, instance) == []

        server.start()
        said = site.hostler("jobs", "retry", first, "--because", "the storage is back")
        assert (said.returncode, said.stderr) == (0, "")
        assert orchestrator.result(first).get(timeout=RESULT_WITHIN_S)["run"] == 3
        later_success = ask(orchestrator, "job_retry", job=second, reason="it has nothing to do with that")
        assert f"job {first} (attach_volume) of the same instance has succeeded since" in later_success["sentence"]
        assert ask(orchestrator, "job_retry", job=second, reason="it has nothing to do with that", force=True)["taken"]
        outcomes = [orchestrator.result(job_id).get(timeout=RESULT_WITHIN_S) for job_id in (first, second)]
        assert [(outcome["state"], outcome["run"]) for outcome in outcomes] == [("succeeded", 3), ("succeeded", 2)]
        assert {"v1", "v2"} <= {volume["id"] for volume in volumes_of(site, instance)}

        refused = ask(orchestrator, "job_retry", job=first, reason="once more")
        assert not refused["taken"]
        assert f"job {first} has succeeded" in refused["sentence"]
        drained = ask(orchestrator, "host_drain", host="h1", reason="new memory")
        assert drained == {"taken": True, "sentence": "h1 is drained: what was begun there ends, all else waits."}
        last = orchestrator.send("destroy", instance, {})
        eventually(lambda: site.state_of(last.id) == "queued", "the destroy is recorded", DECIDED_WITHIN_S)
        assert not ask(orchestrator, "host_disable", host="h9", reason="new memory")["taken"]
        assert ask(orchestrator, "host_enable", host="h1")["taken"]
        last.get(timeout=RESULT_WITHIN_S)


def volumes_of(site: Site, instance: UUID) -> list[dict[str, Any]]:
    """As ``instances show --json`` gives them."""
    shown = site.hostler("instances", "show", str(instance), "--json")
    document: dict[str, Any] = json.loads(shown.stdout)
    volumes: list[dict[str, Any]] = document["volumes"]
    return volumes
