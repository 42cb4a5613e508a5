"""The checker of crash rows sees what is wrong: a proof that could not fail proves nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from models.engine import Database
from tests.crash import promises
from tests.crash.picture import Domain, Picture
from tests.crash.promises import Kind, Violation
from tests.crash.verdict import Ledger
from tests.fake_host import FakeHost
from tests.worker.world import World

pytest_plugins = ["tests.builders"]

ROOT = frozenset({"ua-root"})


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """An instance that was spawned."""
    made = World(sqlite_journal, fake)
    made.run("spawned")
    return made


@pytest.fixture
def ledger(world: World) -> Iterator[Ledger]:
    """Its journal, in SQL."""
    asked = Ledger(world.database.url.render_as_string(hide_password=False))
    yield asked
    asked.close()


def as_it_is(world: World) -> Picture:
    """What a host shows on which all is well."""
    domain = Domain("running", True, str(world.instance), ROOT, ROOT, frozenset({"tap0"}))  # noqa: FBT003  # its fields
    return Picture(
        domains={world.instance: domain},
        qemus={world.instance: [1]},
        files={str(world.instance): ["root.qcow2"]},
        taps=frozenset({"tap0"}),
    )


def found(world: World, ledger: Ledger, seen: Picture) -> list[Violation]:
    """All that the checker says."""
    rows = ledger.rows("SELECT id FROM jobs")
    return [
        *(violation for row in rows for violation in promises.of_job(ledger, row["id"])),
        *promises.of_host(ledger, world.host),
        *promises.of_line(ledger, world.instance),
        *promises.of_instance(ledger, seen, world.instance),
        *promises.of_network(seen),
    ]


def test_a_host_on_which_all_is_well_breaks_nothing(world: World, ledger: Ledger) -> None:
    """Nor does one from which the instance has gone."""
    assert found(world, ledger, as_it_is(world)) == []
    world.run("destroyed", "destroy")
    assert found(world, ledger, Picture()) == []


def second_qemu(world: World, seen: Picture) -> None:
    """A guest runs twice."""
    seen.qemus[world.instance].append(2)


def dead_qemu(world: World, seen: Picture) -> None:
    """Its process has gone, and libvirt does not know."""
    del seen.qemus[world.instance]


def half_a_disk(world: World, seen: Picture) -> None:
    """An unpublished file."""
    seen.files[str(world.instance)].append("root.qcow2.4.part")


def no_domain(_world: World, seen: Picture) -> None:
    """Nothing of it is there."""
    seen.domains.clear()
    seen.qemus.clear()
    seen.taps = frozenset()


def paused(world: World, seen: Picture) -> None:
    """It is in another state than the inventory says."""
    seen.domains[world.instance] = replace(seen.domains[world.instance], state="paused")


def of_another(world: World, seen: Picture) -> None:
    """It is not marked as the instance's."""
    seen.domains[world.instance] = replace(seen.domains[world.instance], owner=None)


def extra_device(world: World, seen: Picture) -> None:
    """The running guest has a device that the inventory does not know."""
    seen.domains[world.instance] = replace(seen.domains[world.instance], live_aliases=ROOT | {"ua-extra"})


def stray_tap(_world: World, seen: Picture) -> None:
    """A tap that no guest has."""
    seen.taps |= {"tap1"}


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (second_qemu, Kind.DOUBLED),
        (dead_qemu, Kind.OTHER),
        (half_a_disk, Kind.LEFT_OVER),
        (no_domain, Kind.OTHER),
        (paused, Kind.OTHER),
        (of_another, Kind.OTHER),
        (extra_device, Kind.OTHER),
        (stray_tap, Kind.LEFT_OVER),
    ],
)
def test_what_is_wrong_with_the_host_is_seen(
    world: World, ledger: Ledger, spoil: Callable[[World, Picture], None], kind: Kind
) -> None:
    """One thing at a time."""
    seen = as_it_is(world)
    spoil(world, seen)
    assert kind in {violation.kind for violation in found(world, ledger, seen)}


def test_what_is_left_of_a_destroyed_instance_is_seen(world: World, ledger: Ledger) -> None:
    """Its domain and its files."""
    seen = as_it_is(world)
    world.run("destroyed", "destroy")
    kinds = [violation.kind for violation in found(world, ledger, seen)]
    assert kinds.count(Kind.LEFT_OVER) == 2


def test_a_job_that_did_not_end_is_lost(world: World, ledger: Ledger) -> None:
    """Whatever it waits for."""
    world.submit("destroyed", "destroy")
    assert [violation.kind for violation in found(world, ledger, as_it_is(world))] == [Kind.LOST]


@pytest.mark.parametrize(
    "spoiled",
    [
        "DELETE FROM job_events WHERE type = 'claimed'",
        "DELETE FROM job_events WHERE type = 'succeeded'",
        "UPDATE job_events SET data = json_set(data, '$.host_sequence', 2) WHERE type = 'claimed'",
        "DELETE FROM step_attempts",
        "UPDATE steps SET state = 'intended' WHERE name = 'DomainRunning'",
        "UPDATE steps SET epoch = epoch + 1 WHERE name = 'DomainRunning'",
        "INSERT INTO outbox (job, run, kind, host, created_at, tries) SELECT id, 1, 'ring', 'h1', 0, 0 FROM jobs",
        "INSERT INTO devices (instance, kind, key, details) SELECT id, 'volume', 'v', '{}' FROM instances",
    ],
)
def test_what_is_wrong_with_the_journal_is_seen(world: World, ledger: Ledger, spoiled: str) -> None:
    """Whatever keeps the product from writing it."""
    with world.database.write() as connection:
        for trigger in (
            connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
        ):
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        assert connection.execute(text(spoiled)).rowcount > 0
    assert found(world, ledger, as_it_is(world)) != []
