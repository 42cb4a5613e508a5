"""`hostler hosts`, as it is typed, on a journal that a worker has registered its host in."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result

from models.availability import down
from models.engine import Database
from models.inventory import Registration, register, stopped
from tests.builders import SPAWN_REQUEST, Desk, enrolled
from worker.cli import hostler

pytest_plugins = ["tests.builders"]

CAPABILITIES = {"domain_types": ["kvm", "qemu"]}
HOST_VERBS: list[tuple[str, ...]] = [
    ("show",),
    ("disable", "--because", "x"),
    ("drain", "--because", "x"),
    ("enable",),
    ("rebind", "--because", "x"),
]
INVENTORY = {
    "vcpus": 8,
    "memory_mib": 16000,
    "disk_gib": 100,
    "disk_free_gib": 60,
    "numa_cells": [{"id": 0}],
    "huge_pages": {"2048": 512, "1048576": 0},
    "pci_devices": [{}, {}],
}


@pytest.fixture
def served(sqlite_journal: Database) -> Desk:
    """h1, with all that a worker registers."""
    desk = Desk(sqlite_journal, enrolled(sqlite_journal))
    bound = Registration("h1", "machine-of-h1", UUID(int=1), "qemu:///test", desk.claimant.worker, 1, "0")
    register(
        desk.database,
        Registration(**vars(bound) | {"worker": uuid4(), "capabilities": CAPABILITIES, "inventory": INVENTORY}),
    )
    return desk


def typed(desk: Desk, *arguments: str, given: object = None) -> Result:
    """Run the command in this process; its status is the command's answer."""
    environment = {"HOSTLER_DATABASE_URL": desk.database.url.render_as_string(hide_password=False)}
    text = None if given is None else json.dumps(given)
    return CliRunner().invoke(hostler, arguments, env=environment, input=text, standalone_mode=False)


def shown(desk: Desk) -> dict[str, Any]:
    """The host as programs see it."""
    document: dict[str, Any] = json.loads(typed(desk, "hosts", "show", "h1", "--json").stdout)
    return document


def test_a_host_is_shown_with_all_that_it_registered(served: Desk) -> None:
    """To programs and to people."""
    document, text = shown(served), typed(served, "hosts", "show", "h1").stdout

    assert (document["state"], document["disabled"], document["down"], document["rebind"]) == (
        "enabled",
        None,
        None,
        None,
    )
    assert (document["inventory"], document["capabilities"]) == (INVENTORY, CAPABILITIES)
    assert document["machine_id"] == "machine-of-h1"
    for part in ("16000 MiB", "100 GiB, 60 free", "512 of 2048 KiB", "domain_types kvm+qemu", "machine-of-h1"):
        assert part in text


def test_disabled_and_enabled_by_an_operator(served: Desk) -> None:
    """With who and why; a spawn that is submitted meanwhile is told to wait."""
    disabled = typed(served, "hosts", "disable", "h1", "--because", "new memory")
    submitted = typed(
        *(served, "submit", "spawn", "--host", "h1", "--instance", str(uuid4()), "--request", "-", "--job-id", "late"),
        given=SPAWN_REQUEST,
    )
    document, listed = shown(served), typed(served, "hosts", "list").stdout

    assert disabled.stdout == "h1 is disabled: spawns and migrations to it wait.\n"
    assert "host h1 takes no new guests: new memory; the job waits." in submitted.stderr
    assert "takes no new guests: new memory" in typed(served, "jobs", "show", "late").stdout
    assert (document["state"], document["disabled"]["because"]) == ("disabled", "new memory")
    assert document["disabled"]["by"].startswith("cli:")
    assert ": new memory" in listed

    assert typed(served, "hosts", "enable", "h1").stdout == "h1 is enabled.\n"
    assert shown(served)["disabled"] is None
    assert "takes no new guests" not in typed(served, "jobs", "show", "late").stdout


def test_enabled_by_an_operator_while_libvirt_is_lost(served: Desk) -> None:
    """It says what is still in the way."""
    worker = UUID(shown(served)["worker"])
    down(served.database, "h1", worker, "libvirt does not answer: refused")

    enabled = typed(served, "hosts", "enable", "h1")

    assert "once its worker reaches libvirt: libvirt does not answer: refused" in enabled.stdout
    assert (shown(served)["state"], shown(served)["down"]["because"]) == (
        "disabled",
        "libvirt does not answer: refused",
    )


def test_drained_by_an_operator(served: Desk) -> None:
    """A job that waits because of it says so; a blank reason is none."""
    blank = typed(served, "hosts", "drain", "h1", "--because", " ")
    assert (blank.return_value, "reason: one is needed" in blank.stderr) == (2, True)

    drained = typed(served, "hosts", "drain", "h1", "--because", "new memory")
    served.submit("late", "destroy")

    assert drained.stdout == "h1 is drained: what was begun there ends, all else waits.\n"
    assert "host h1 is drained and begins no job: new memory" in typed(served, "jobs", "show", "late").stdout
    assert shown(served)["state"] == "draining"
    assert typed(served, "hosts", "enable", "h1").stdout == "h1 is enabled.\n"


def test_rebind_is_refused_while_the_worker_lives(served: Desk) -> None:
    """And says what it means once it is dead."""
    refused = typed(served, "hosts", "rebind", "h1", "--because", "its board burnt")
    assert (refused.return_value, "stop it first" in refused.stderr) == (2, True)

    stopped(served.database, UUID(shown(served)["worker"]))
    allowed = typed(served, "hosts", "rebind", "h1", "--because", "its board burnt")

    assert (allowed.return_value, "the journal has 0 instances there" in allowed.stdout) == (0, True)
    assert shown(served)["rebind"]["because"] == "its board burnt"


@pytest.mark.parametrize("verb", HOST_VERBS)
def test_a_host_that_there_is_not(served: Desk, verb: tuple[str, ...]) -> None:
    """One sentence, exit status 2."""
    name, *options = verb
    answer = typed(served, "hosts", name, "h9", *options)

    status = answer.return_value if isinstance(answer.return_value, int) else answer.exit_code
    assert (status, "there is no host h9." in answer.stderr) == (2, True)
