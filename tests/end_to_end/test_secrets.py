"""Where a secret that a guest is told, and user data, are found: with the guest, and nowhere else."""

import stat
from contextlib import closing
from typing import Any
from uuid import UUID

import libvirt
import psutil
import pytest

from tests.builders import dump
from tests.end_to_end.test_flower import Flower, flower
from tests.lab.hosts import LibvirtHost
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.site import Site
from tests.lab.waiting import eventually

__all__ = ["flower"]
pytestmark = pytest.mark.real

NAMED, SENT = "told-by-its-name-4711", "sent-in-a-message-4712"


def test_a_secret_given_by_name_is_found_nowhere_but_with_the_guest(
    flower: Flower,
    site: Site,
    libvirt_host: LibvirtHost,
    orchestrator: Orchestrator,
    instance: UUID,
    small_guest: dict[str, Any],
) -> None:
    """No table, log, event, page of Flower, process list, domain XML or file that others read has it; nor user data."""
    secrets = site.state / "secrets"
    secrets.mkdir(0o700)
    (secrets / "init").write_text(f"#cloud-config\npassword: {NAMED}\n")
    (secrets / "init").chmod(0o600)
    site.start_worker()
    eventually(lambda: "hostler@h1" in (flower.get("/api/workers?refresh=1") or {}), "Flower sees the worker", 20)
    told = {"user_data": {"secret": "init"}, "vendor_data": f"#cloud-config\npassword: {SENT}\n"}
    orchestrator.send("spawn", instance, {**small_guest, **told}, job_id="told").get(timeout=RESULT_WITHIN_S)
    eventually(lambda: (flower.get("/api/task/info/told") or {}).get("state") == "SUCCESS", "Flower shows it", 20)

    drive = site.state / "instances" / str(instance) / "config.raw"
    assert stat.S_IMODE(drive.stat().st_mode) == 0o600
    assert NAMED.encode() in drive.read_bytes()
    assert SENT.encode() in drive.read_bytes()
    with closing(libvirt.open(libvirt_host.uri)) as connection:
        document = connection.lookupByUUID(instance.bytes).XMLDesc()
    assert str(drive) in document
    shown = {
        "tables": str(dump(site.database)),
        "log": site.log,
        "Flower": f"{flower.get('/api/tasks')}{flower.get('/api/task/info/told')}",
        "jobs show": str(site.job("told")),
        "processes": str([process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]),
        "domain": document,
    }
    assert "told" in shown["tables"]
    assert str(instance) in shown["Flower"]
    readable = [file for file in site.state.rglob("*") if file.is_file() and file.stat().st_mode & 0o044]
    shown |= {str(file): file.read_bytes().decode(errors="replace") for file in readable}
    assert [place for place, text in shown.items() if NAMED in text or SENT in text] == []
    orchestrator.send("destroy", instance, {}).get(timeout=RESULT_WITHIN_S)
