"""The room of migrations where libvirt's answers do not match what happens."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import libvirt
import pytest
from typing_extensions import override

from models.states import ErrorClass
from tasks.host import Half, HostError, MigrationPlan, MigrationProgress, Peer, Wish, ignore_progress
from tests.lab.waiting import eventually
from tests.worker.host.doubles import ConnectionsDouble, DomainDouble, libvirt_error
from worker.host.connections import ConnectionClass, Connections
from worker.host.errors import Call
from worker.host.facts import HostFacts
from worker.host.folders import Folders
from worker.host.migrations import monitor
from worker.host.migrations.calls import Questions
from worker.host.migrations.peers import Peers
from worker.host.migrations.room import LibvirtMigrations

OUT = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
PLAN = MigrationPlan(Peer("h2", "qemu+tcp://h2/system", "192.0.2.2"), {"/a/console.log": "/b/console.log"})
FACTS = HostFacts(UUID(int=1), (9, 0, 0), (7, 2, 0), "x86_64", frozenset({"qemu"}), {})
SOON_S = 10.0
XML = "<domain type='qemu'><devices><serial type='file'><source path='/a/console.log'/></serial></devices></domain>"


class MovingDouble(DomainDouble):
    """A domain of ours that may move; what its verbs do is a test's to say."""

    def __init__(self, instance: UUID) -> None:
        super().__init__(instance, run=7)
        self.moves = False
        self.paused_for: int | None = None
        self.migrated: list[tuple[str, dict[str, Any], int]] = []

    @override
    def state(self) -> tuple[int, int]:
        """Paused where a test says why."""
        return super().state() if self.paused_for is None else (libvirt.VIR_DOMAIN_PAUSED, self.paused_for)

    def jobStats(self) -> dict[str, Any]:  # noqa: N802 - libvirt's name
        """A migration, or nothing."""
        if self.run < 0:
            raise libvirt_error("OPERATION_INVALID", "DOMAIN")
        return {"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED if self.moves else 0, "operation": OUT, "data_total": 9}

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's name
        """Hardly anything."""
        return XML

    def migrateToURI3(self, uri: str, parameters: dict[str, Any], flags: int) -> None:  # noqa: N802 - libvirt's name
        """Noted."""
        self.migrated.append((uri, parameters, flags))
        self._verb("migrate")

    def abortJob(self) -> None:  # noqa: N802 - libvirt's name
        """Noted."""
        self._verb("abort")

    def resume(self) -> None:
        """Noted."""
        self._verb("resume")

    def migrateSetMaxDowntime(self, _downtime_ms: int) -> None:  # noqa: N802 - libvirt's name
        """Any will do."""


class MigratingConnections(ConnectionsDouble):
    """Connections that a migration may have for itself."""

    @contextmanager
    def calling_alone(self, call: Call) -> Iterator["ConnectionsDouble"]:
        """This one."""
        with self.calling(ConnectionClass.MIGRATE, call) as connection:
            yield connection


class Scene:
    """One domain that runs, and the room of migrations around it; nothing is seen of the other host but ``there``."""

    def __init__(self, state: Path) -> None:
        self.instance = uuid4()
        self.domain = MovingDouble(self.instance)
        self.connections = MigratingConnections(self.domain)
        self.there = MovingDouble(self.instance)
        self.other = ConnectionsDouble(self.there)
        self.gate = threading.Event()
        self.room = LibvirtMigrations(
            cast("Connections", self.connections),
            Folders(str(state)),
            lambda: FACTS,
            lambda _path: None,
        )
        self.room._peers = Peers(Questions(), opening=lambda _uri: _Window(self.other))

    def arrives(self) -> None:
        """The guest has left."""
        self.connections.domain = None

    def waits(self) -> None:
        """The call returns when the gate is opened."""
        eventually(self.gate.is_set, "the gate is open", SOON_S)


class _Window:
    def __init__(self, connections: ConnectionsDouble) -> None:
        self.lookupByUUID = connections.lookupByUUID

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A running domain, and no patience."""
    monkeypatch.setattr(monitor, "TICK_S", 0.01)
    monkeypatch.setattr(monitor, "ABORT_AGAIN_S", 0.01)
    monkeypatch.setattr(monitor, "ABORTED_WITHIN_S", 0.1)
    scene = Scene(tmp_path / "state")
    yield scene
    scene.gate.set()


def refused(call: Callable[[], object]) -> HostError:
    """The error that the call raises."""
    with pytest.raises(HostError) as caught:
        call()
    return caught.value


def test_a_migration_is_one_call_with_the_destinations_documents(scene: Scene) -> None:
    """To the other daemon, and to the address for the guest's memory."""
    scene.domain.verbs["migrate"] = scene.arrives
    scene.room.perform(scene.instance, PLAN, ignore_progress)
    ((uri, parameters, flags),) = scene.domain.migrated
    assert (uri, parameters["migrate_uri"]) == ("qemu+tcp://h2/system", "tcp://192.0.2.2")
    assert flags & libvirt.VIR_MIGRATE_PEER2PEER
    for document in ("destination_xml", "persistent_xml"):
        assert "/b/console.log" in parameters[document]
    assert scene.room.here(scene.instance) == Half(None)


def test_a_call_that_does_not_return_after_an_abort_is_under_way_until_it_does(scene: Scene) -> None:
    """Whatever libvirt says; whoever performs it again watches the same call."""
    scene.domain.verbs["migrate"] = scene.waits
    error = refused(lambda: scene.room.perform(scene.instance, PLAN, lambda _progress: Wish.CANCEL))
    assert (error.error_class, "has not ended" in str(error)) == (ErrorClass.TRANSIENT, True)
    assert scene.room.here(scene.instance).under_way
    assert not scene.room.here(scene.instance).runs

    def watch(_progress: MigrationProgress) -> Wish:
        scene.gate.set()
        return Wish.GO_ON

    scene.room.perform(scene.instance, PLAN, watch)
    assert len(scene.domain.migrated) == 1
    assert not scene.room.here(scene.instance).under_way


def test_a_migration_under_way_is_not_begun_again(scene: Scene) -> None:
    """It was another process's; its end is that libvirt has no job any more."""
    scene.domain.moves = True
    seen: list[MigrationProgress] = []

    def watch(progress: MigrationProgress) -> Wish:
        seen.append(progress)
        if len(seen) == 3:
            scene.arrives()
        return Wish.GO_ON

    scene.room.perform(scene.instance, PLAN, watch)
    assert (scene.domain.migrated, len(seen)) == ([], 3)


def test_a_broken_post_copy_is_taken_up_again(scene: Scene) -> None:
    """Between the two that have it; from the first there is only forward."""
    scene.domain.moves, scene.domain.paused_for = True, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED
    scene.there.shown_state = libvirt.VIR_DOMAIN_RUNNING
    seen: list[MigrationProgress] = []

    def watch(progress: MigrationProgress) -> Wish:
        seen.append(progress)
        scene.arrives()
        scene.gate.set()
        return Wish.CANCEL

    scene.domain.verbs["migrate"] = scene.waits
    scene.room.perform(scene.instance, PLAN, watch)
    ((_, _, flags),) = scene.domain.migrated
    assert flags & libvirt.VIR_MIGRATE_POSTCOPY
    assert flags & libvirt.VIR_MIGRATE_POSTCOPY_RESUME
    assert seen[0].post_copy


def test_a_broken_post_copy_without_its_other_end_is_lost(scene: Scene) -> None:
    """No repetition brings it back."""
    scene.domain.moves, scene.domain.paused_for = True, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED
    scene.there.run = -1
    error = refused(lambda: scene.room.perform(scene.instance, PLAN, ignore_progress))
    assert (error.error_class, "has no guest" in str(error)) == (ErrorClass.PERMANENT, True)
    assert scene.domain.migrated == []


def test_an_error_says_nothing_of_who_has_the_guest(scene: Scene) -> None:
    """It leaves as the table has it."""

    def breaks() -> None:
        scene.arrives()
        raise libvirt_error("INTERNAL_ERROR", "RPC")

    scene.domain.verbs["migrate"] = breaks
    error = refused(lambda: scene.room.perform(scene.instance, PLAN, ignore_progress))
    assert (error.error_class, error.record.code, error.record.domain) == (ErrorClass.UNKNOWN, "INTERNAL_ERROR", "RPC")
    assert scene.room.here(scene.instance).domain is None


def test_an_abort_is_asked_for_until_the_migration_is_over(scene: Scene) -> None:
    """Libvirt's 'no job' is no error."""
    scene.domain.moves = True
    tries = 0

    def abort() -> None:
        nonlocal tries
        tries += 1
        scene.domain.moves = tries < 3
        if tries == 2:
            raise libvirt_error("OPERATION_INVALID")

    scene.domain.verbs["abort"] = abort
    scene.room.abort(scene.instance, SOON_S)
    assert tries == 3


def test_an_abort_that_has_no_effect_is_told_after_its_deadline(scene: Scene) -> None:
    """It may be too late for one."""
    scene.domain.moves = True
    assert refused(lambda: scene.room.abort(scene.instance, 0.0)).error_class is ErrorClass.TRANSIENT


def test_a_resume_that_is_refused_because_it_runs_is_done(scene: Scene) -> None:
    """A look tells."""
    scene.domain.paused_for = libvirt.VIR_DOMAIN_PAUSED_MIGRATION

    def runs_already() -> None:
        scene.domain.paused_for = None
        raise libvirt_error("OPERATION_INVALID")

    scene.domain.verbs["resume"] = runs_already
    scene.room.resume(scene.instance)
    assert scene.domain.called == ["resume"]
    scene.room.resume(scene.instance)
    assert scene.domain.called == ["resume"]


def test_a_resume_that_is_refused_for_another_reason_is_an_error(scene: Scene) -> None:
    """The same code, and it stays paused."""
    scene.domain.paused_for = libvirt.VIR_DOMAIN_PAUSED_MIGRATION

    def refuses() -> None:
        raise libvirt_error("OPERATION_INVALID")

    scene.domain.verbs["resume"] = refuses
    error = refused(lambda: scene.room.resume(scene.instance))
    assert (error.error_class, error.record.code) == (ErrorClass.TRANSIENT, "OPERATION_INVALID")


@pytest.mark.parametrize("verb", ["resume", "persist"])
def test_a_guest_on_its_way_is_left_alone(scene: Scene, verb: str) -> None:
    """It may turn out to live on the other host."""
    scene.domain.moves, scene.domain.paused_for = True, libvirt.VIR_DOMAIN_PAUSED_MIGRATION
    assert refused(lambda: getattr(scene.room, verb)(scene.instance)).error_class is ErrorClass.TRANSIENT
    assert scene.domain.called == []


def test_a_peer_that_cannot_be_sent_anything_is_refused_before_the_call(scene: Scene) -> None:
    """For good, and nothing was begun."""
    for peer in (Peer("h3"), Peer("h3", "qemu+tcp://h3/system"), Peer("h3", "qemu+tcp://h3/system", "not an address")):
        plan = replace(PLAN, peer=peer)
        assert refused(lambda plan=plan: scene.room.perform(scene.instance, plan, ignore_progress)).error_class is (  # type: ignore[misc]
            ErrorClass.PERMANENT
        )
    assert scene.domain.migrated == []
