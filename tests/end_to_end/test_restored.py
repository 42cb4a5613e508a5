"""A database restored from a backup, under a running worker and under one that starts, on a real host."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from models.journal.accepting import accept
from models.journal.recovering import open_recovery
from models.reading import list_instances
from tasks.catalogue import OPERATIONS
from tasks.submission import read_submission
from tests.end_to_end.guests import done
from tests.lab.postgres import PostgresServer
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

NOTICED_WITHIN_S = 20.0


def test_nothing_is_touched_and_one_command_recovers(
    site: Site, postgres_server: PostgresServer, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """The backup knows one guest, which is gone since, and not the one that runs; restored twice, found twice."""
    site.start_worker()
    gone, here = instance, uuid4()
    done(site, "spawn", gone, small_guest)
    url = site.environment["HOSTLER_DATABASE_URL"]
    backup = postgres_server.back_up(url)
    site.database.close()  # its connections are
    done(site, "destroy", gone, {})
    spawned = done(site, "spawn", here, small_guest)["id"]
    [pid] = site.qemu_pids(here)

    postgres_server.put_back(url, backup)
    site.database.close()
    waits = site.accept("stop", gone, {})
    eventually(lambda: is_held(site), "the running worker holds its host", NOTICED_WITHIN_S)
    sent = {"operation": "spawn", "instance": str(here), "request": small_guest, "job_id": spawned}
    accept(site.database, read_submission(OPERATIONS, host=site.host, actor="test", **sent), outbox=True)
    recovered(site, gone, here, waits)

    site.end_worker()
    postgres_server.put_back(url, backup)
    site.database.close()
    site.start_worker()
    assert is_held(site)
    recovered(site, gone, here)

    assert (site.qemu_pids(here), site.boots(here), site.qemu_pids(gone)) == ([pid], 1, [])
    done(site, "destroy", here, {})
    assert site.files() == []
    postgres_server.drop_database(backup)


def is_held(site: Site) -> bool:
    """Whether the host is in recovery, by the journal."""
    return open_recovery(site.database, site.host) is not None


def recovered(site: Site, gone: UUID, here: UUID, *goes_on: str) -> None:
    """The command has told again what it shows."""
    applied = site.hostler("hosts", "recover", site.host, "--apply", "--because", "the disk died", "--json")
    assert applied.returncode == 0, applied.stderr
    said = json.loads(applied.stdout)
    plan, told = said["plan"], {str(gone): "deleted", str(here): "running"}
    assert {change["id"]: change["to"]["state"] for change in plan["instances"]} == told
    assert ([job["id"] for job in plan["goes_on"]], plan["left"], said["not_done"]) == (list(goes_on), [], [])
    for job in goes_on:
        assert site.settled(job)["state"] == "failed"  # a stop of what is gone
    assert {str(each.id): each.state.value for each in list_instances(site.database)} == told
