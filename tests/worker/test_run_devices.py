"""Attaching and detaching on a fake host: what a job comes to, whatever fails, and whenever its worker dies."""

import time
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from models.engine import Database
from models.journal.asking import Asked, request_cancel
from models.states import DeviceKind, Direction, ErrorClass, JobState, StepState
from tasks.catalogue import OPERATIONS
from tasks.host import DomainState, GuestDevice, HostError, ShownDevice
from tasks.steps.devices import interfaces_of, volumes_of
from tests.builders import watched
from tests.fake_host import FakeHost, Killed
from tests.worker.world import REQUESTS, Listener, World, die, error_class, permanent, states, transient

pytest_plugins = ["tests.builders"]

ATTACHES = {"attach_volume": "detach_volume", "attach_interface": "detach_interface"}
OPERATION = pytest.mark.parametrize("operation", ATTACHES)
#: Of NBD volumes and of interfaces on a bridge the host keeps nothing that letting go would end.
NEVER_DONE = {"VolumeDisconnected", "InterfaceUnplugged"}


@pytest.fixture
def world(sqlite_journal: Database, fake: FakeHost) -> World:
    """A host with a running instance and a server of volumes."""
    fake.volumes.servers["storage:10809"] = True
    fake.devices.longest_wait_s = 0.05
    world = World(sqlite_journal, fake)
    world.run("spawned")
    fake.effects.clear()
    return world


def devices(world: World) -> tuple[GuestDevice, ...]:
    """The volumes and interfaces that the inventory gives the instance."""
    return (*volumes_of(world.known.devices), *interfaces_of(world.known.devices))


def has_it(world: World, *, live: bool = True, persistent: bool = True) -> bool:
    """Whether the guest and its definition have the inventory's one device as said."""
    (device,) = devices(world)
    shown = world.fake.devices.shown(world.instance)
    assert shown is not None
    found = [any(each.is_same(device) for each in side or ()) for side in (shown.live, shown.persistent)]
    return found == [live, persistent]


def nothing_is_there(world: World) -> bool:
    """Whether guest, definition and inventory have no device but the root disk."""
    shown = world.fake.devices.shown(world.instance)
    assert shown is not None
    others = [each for side in (shown.live, shown.persistent) for each in side or () if each.alias != "ua-root"]
    return not others and devices(world) == ()


# --- jobs that go well


@OPERATION
def test_an_attach_gives_a_running_guest_and_its_definition_the_device(world: World, operation: str) -> None:
    """The inventory has it with what was made for it."""
    details = world.run("a", operation)
    assert (details.job.state, details.job.error) == (JobState.SUCCEEDED, None)
    assert has_it(world)
    assert set(states(details).values()) == {StepState.DONE}


@OPERATION
def test_an_attach_to_a_guest_that_is_off_changes_its_definition(world: World, operation: str) -> None:
    """It has the device when it starts."""
    world.fake.domains.kill(world.instance)
    assert world.run("a", operation).job.state is JobState.SUCCEEDED
    world.fake.domains.start(world.instance)
    assert has_it(world)


@OPERATION
def test_a_detach_leaves_nothing_of_the_device(world: World, operation: str) -> None:
    """In guest, definition and inventory."""
    world.run("a", operation)
    details = world.run("d", ATTACHES[operation])
    assert (details.job.state, details.job.error) == (JobState.SUCCEEDED, None)
    assert nothing_is_there(world)


@OPERATION
def test_a_detach_of_what_is_not_there_succeeds(world: World, operation: str) -> None:
    """What is asked for is true already."""
    details = world.run("d", ATTACHES[operation])
    assert details.job.state is JobState.SUCCEEDED
    assert set(states(details).values()) == {StepState.FOUND}
    assert world.effects == []


def test_targets_are_chosen_in_order_and_recorded_in_the_intent(world: World) -> None:
    """Free ones, beginning after the root disk's."""
    for number in ("1", "2"):
        volume = {"id": f"v{number}", "kind": "nbd", "host": "storage", "export": f"disk-{number}"}
        world.submit(number, "attach_volume", {"volume": volume})
        assert world.take(number) is None
    assert [volume.target for volume in volumes_of(world.known.devices)] == ["vdb", "vdc"]
    intent = world.details("2").steps[0].intent
    assert intent is not None
    (planned,) = intent["volumes"]
    assert (planned["target"], planned["alias"], planned["serial"]) == ("vdc", "ua-v2", "v2")


def test_a_guest_runs_once_its_interfaces_can_be_heard(sqlite_journal: Database, fake: FakeHost) -> None:
    """Until then it stands still and its job waits; whoever takes the job up lets it go on. So it is started anew."""
    world = World(sqlite_journal, fake)
    interface = REQUESTS["attach_interface"]["interface"]
    fake.interfaces.bridge_is(interface["bridge"], up=False)
    world.submit("a", "spawn", {**REQUESTS["spawn"], "interfaces": [interface], "timeout_s": 1})
    fake.fail("interfaces.wait_forwarding", Killed())
    with pytest.raises(Killed):
        world.take("a")
    silent = HostError(ErrorClass.TRANSIENT, "nothing is passed on")
    fake.fail("interfaces.wait_forwarding", silent, times=5)
    world.take("a")
    assert world.details("a").job.state is JobState.WAITING
    paused = fake.domains.find(world.instance)
    assert paused is not None
    assert paused.state is DomainState.PAUSED

    fake.interfaces.bridge_is(interface["bridge"], up=True)
    assert world.take_until_settled("a").job.state is JobState.SUCCEEDED
    running = fake.domains.find(world.instance)
    assert running is not None
    assert (running.state, running.run) == (DomainState.RUNNING, paused.run)
    assert world.effects.count("domains.start") == 1

    fake.power.shut_down(world.instance, deadline_s=1, again_every_s=1)
    fake.fail("interfaces.wait_forwarding", Killed())
    world.submit("b", "start")
    with pytest.raises(Killed):
        world.take("b")
    assert world.take_until_settled("b").job.state is JobState.SUCCEEDED
    started = fake.domains.find(world.instance)
    assert started is not None
    assert started.state is DomainState.RUNNING
    assert world.effects.count("domains.start") == 2


def test_a_guest_that_somebody_paused_stays_so(sqlite_journal: Database, fake: FakeHost) -> None:
    """A spawn without interfaces waits for nothing, and lets nobody's guest run on."""
    world = World(sqlite_journal, fake)
    fake.fail("domains.start", Killed(), after=True)
    world.submit("a")
    with pytest.raises(Killed):
        world.take("a")
    fake.power.pause(world.instance)
    assert world.take_until_settled("a").job.state is JobState.SUCCEEDED
    paused = fake.domains.find(world.instance)
    assert paused is not None
    assert paused.state is DomainState.PAUSED


def test_a_spawn_with_devices_is_given_them_and_a_destroy_leaves_none(sqlite_journal: Database, fake: FakeHost) -> None:
    """By the same steps as a later attach."""
    fake.volumes.servers["storage:10809"] = True
    world = World(sqlite_journal, fake)
    wanted = {
        "volumes": [REQUESTS["attach_volume"]["volume"]],
        "interfaces": [REQUESTS["attach_interface"]["interface"]],
    }
    world.submit("a", "spawn", {**REQUESTS["spawn"], **wanted})
    assert world.take("a") is None
    details = world.details("a")
    assert states(details)["VolumesConnected"] is StepState.DONE
    assert states(details)["InterfacesPlugged"] is StepState.DONE
    shown = fake.devices.shown(world.instance)
    assert shown is not None
    assert [device.kind for device in world.known.devices] == [
        DeviceKind.DISK,
        DeviceKind.INTERFACE,
        DeviceKind.VOLUME,
    ]
    assert all(shown.everywhere(device) for device in devices(world))
    assert world.run("d", "destroy").job.state is JobState.SUCCEEDED
    assert world.leftovers == ()
    assert world.known.devices == ()


# --- whose it is


@OPERATION
def test_what_an_earlier_job_attached_is_found_and_not_undone(world: World, operation: str) -> None:
    """A second job for the same device that then fails, or is cancelled, leaves it attached."""
    world.run("a", operation)
    world.fake.effects.clear()
    last = OPERATIONS[operation].steps[-1].name
    listener = Listener(("look", last), lambda: request_cancel(world.database, "b", Asked("ops"), outbox=False))
    details = world.run("b", operation, world.worker(watched(OPERATIONS[operation], listener)))
    assert set(states(details).values()) == {StepState.FOUND}
    assert states(details, Direction.UNDO) == {}
    assert world.effects == []
    assert has_it(world)


@OPERATION
def test_a_device_of_another_instance_is_a_conflict(world: World, operation: str) -> None:
    """It is refused before anything is done to the second instance: no two writers on one disk, no MAC twice."""
    request: dict[str, Any] = dict(REQUESTS[operation])
    if operation == "attach_interface":
        request = {"interface": {"id": "i1", "bridge": "br-guests", "mac": "52:54:00:00:00:01"}}
    world.submit("a", operation, request)
    assert world.take("a") is None
    other = World(world.database, world.fake, uuid4())
    other.run("other-spawned")
    world.fake.effects.clear()
    other.submit("b", operation, request)
    assert other.take("b") is None
    details = other.details("b")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.CONFLICT)
    assert details.job.error is not None
    assert f"belongs to instance {world.instance} already" in details.job.error.message
    assert world.effects == []
    assert nothing_is_there(other)
    assert has_it(world)


def test_the_same_id_for_another_volume_is_a_conflict(world: World) -> None:
    """The instance keeps the one that it has."""
    world.run("a", "attach_volume")
    world.submit("b", "attach_volume", {"volume": {"id": "v1", "kind": "nbd", "host": "storage", "export": "other"}})
    assert world.take("b") is None
    assert error_class(world.details("b")) is ErrorClass.CONFLICT
    assert has_it(world)


def test_a_volume_can_go_to_another_instance_once_it_was_detached(world: World) -> None:
    """The reservation ends with the detach."""
    world.run("a", "attach_volume")
    world.run("d", "detach_volume")
    other = World(world.database, world.fake, uuid4())
    other.run("other-spawned")
    assert other.run("b", "attach_volume").job.state is JobState.SUCCEEDED


# --- what fails


@OPERATION
def test_an_attach_that_fails_is_undone_whole(world: World, operation: str) -> None:
    """Neither guest nor definition nor inventory keep anything of it, and another instance may have it."""
    world.fake.fail("devices.attach", permanent())
    details = world.run("a", operation)
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert nothing_is_there(world)
    world.fake.fail("devices.attach", ZeroDivisionError("after its effect"), after=True)
    assert world.run("b", operation).job.state is JobState.FAILED
    assert nothing_is_there(world)


@OPERATION
@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
def test_an_attach_whose_call_fails_for_a_while_is_made_once(world: World, operation: str, *, after: bool) -> None:
    """The look that follows tells whether it was."""
    world.fake.fail("devices.attach", transient(), times=3, after=after)
    assert world.run("a", operation).job.state is JobState.SUCCEEDED
    assert has_it(world)
    assert world.effects.count("devices.attach") == 1


def test_an_instance_without_a_domain_can_be_given_nothing(sqlite_journal: Database, fake: FakeHost) -> None:
    """One sentence, and nothing is reserved for it."""
    fake.volumes.servers["storage:10809"] = True
    world = World(sqlite_journal, fake)
    details = world.run("a", "attach_volume")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert world.known.devices == ()


@OPERATION
def test_a_guest_that_does_not_let_go_keeps_the_device_and_a_replay_finishes_it(world: World, operation: str) -> None:
    """Its definition is given the device back; once the guest is off, the same request goes through."""
    world.run("a", operation)
    world.fake.devices.no_os.add(world.instance)
    details = world.run("d", ATTACHES[operation])
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert has_it(world)
    assert "volumes.disconnect" not in world.effects
    world.fake.domains.kill(world.instance)
    assert world.run("e", ATTACHES[operation]).job.state is JobState.SUCCEEDED
    assert devices(world) == ()


@OPERATION
def test_a_detach_hears_a_cancel_while_it_waits_for_the_guest(world: World, operation: str) -> None:
    """It does not wait for the guest's time to pass, and gives back what it took from the definition."""
    world.run("attached", operation)
    world.fake.devices.no_os.add(world.instance)
    world.fake.devices.longest_wait_s = 30.0
    detach = ATTACHES[operation]
    request = dict(REQUESTS[detach]) | {"attempts": 8, "timeout_s": 20}
    world.submit("d", detach, request)

    def cancel() -> None:
        assert request_cancel(world.database, "d", Asked("operator"), outbox=False).taken

    released = next(step.name for step in OPERATIONS[detach].steps if step.name.endswith("Released"))
    began = time.monotonic()
    world.take("d", world.worker(watched(OPERATIONS[detach], Listener(("do", released), cancel))))
    assert time.monotonic() - began < 10
    assert world.details("d").job.state is JobState.CANCELLED
    assert has_it(world)


@OPERATION
def test_a_half_done_detach_is_finished(world: World, operation: str) -> None:
    """The guest let go after the job had given up and before its undo: the next one finds half of it done."""
    world.run("a", operation)
    (device,) = devices(world)
    world.fake.devices.remove_from_definition(world.instance, device)
    assert has_it(world, persistent=False)
    details = world.run("d", ATTACHES[operation])
    assert details.job.state is JobState.SUCCEEDED
    assert states(details)[OPERATIONS[ATTACHES[operation]].steps[0].name] is StepState.FOUND
    assert nothing_is_there(world)


def test_the_undo_of_a_detach_ends_though_the_guest_is_off(world: World) -> None:
    """It has nothing to give back to; the definition has the device for the next start."""
    world.run("a", "attach_volume")
    world.fake.devices.refusing.add(world.instance)
    listener = Listener(("undo", "VolumeReleased"), lambda: world.fake.domains.kill(world.instance))
    details = world.run("d", "detach_volume", world.worker(watched(OPERATIONS["detach_volume"], listener)))
    assert details.job.state is JobState.FAILED
    world.fake.domains.start(world.instance)
    assert has_it(world)


def test_an_undo_needs_nothing_that_is_out_of_reach(world: World) -> None:
    """A bridge that is gone, a server that is dead: what this job made is gone all the same."""
    for operation, lose in (
        ("attach_interface", world.fake.interfaces.bridges.clear),
        ("attach_volume", lambda: world.fake.volumes.servers.update({"storage:10809": False})),
    ):
        last = OPERATIONS[operation].steps[-1].name
        world.fake.fail("devices.attach", permanent())
        worker = world.worker(watched(OPERATIONS[operation], Listener(("do", last), lose)))
        details = world.run(f"of-{operation}", operation, worker)
        assert details.job.state is JobState.FAILED
    assert nothing_is_there(world)


def test_one_mac_twice_on_one_instance_is_a_conflict(world: World) -> None:
    """Like one of another instance."""
    interface = {"bridge": "br-guests", "mac": "52:54:00:00:00:01"}
    world.submit("a", "attach_interface", {"interface": {"id": "i1", **interface}})
    assert world.take("a") is None
    world.submit("b", "attach_interface", {"interface": {"id": "i2", **interface}})
    assert world.take("b") is None
    assert (world.details("b").job.state, error_class(world.details("b"))) == (JobState.FAILED, ErrorClass.CONFLICT)


def test_one_export_under_two_ids_is_a_conflict(world: World) -> None:
    """Two writers on one disk, whatever it is called."""
    export = {"kind": "nbd", "host": "storage", "export": "disk"}
    world.submit("a", "attach_volume", {"volume": {"id": "v1", **export}})
    assert world.take("a") is None
    other = World(world.database, world.fake, uuid4())
    other.run("other-spawned")
    other.submit("b", "attach_volume", {"volume": {"id": "v2", **export}})
    assert other.take("b") is None
    details = other.details("b")
    assert (details.job.state, error_class(details)) == (JobState.FAILED, ErrorClass.CONFLICT)
    assert details.job.error is not None
    assert "nbd://storage:10809/disk belongs to instance" in details.job.error.message


def test_a_disk_that_somebody_attached_by_hand_is_in_nobodys_way(world: World) -> None:
    """Its target is taken; the next one is free."""
    live = world.fake.domains.live[world.instance]
    world.fake.domains.live[world.instance] = (*live, ShownDevice("ua-mine", "vdb", serial="mine", source="/x"))
    assert world.run("a", "attach_volume").job.state is JobState.SUCCEEDED
    assert [volume.target for volume in volumes_of(world.known.devices)] == ["vdc"]


def test_a_destroy_does_not_wait_for_a_detach_that_cannot_end(world: World) -> None:
    """A tap that something holds keeps nobody from killing the guest."""
    world.run("a", "attach_interface")
    (interface,) = interfaces_of(world.known.devices)
    world.fake.interfaces.stuck_taps.add(interface.tap)
    assert world.run("d", "detach_interface").job.state is JobState.WAITING
    world.run("x", "destroy")
    assert world.fake.domains.find(world.instance) is None


# --- workers that die


def _prepare(world: World, operation: str) -> str:
    """What the instance must have before; the name of the attach that stands behind the operation."""
    attach = next(name for name in ATTACHES if operation in {name, ATTACHES[name]})
    if operation != attach:
        world.run("before", attach)
        world.fake.effects.clear()
    return attach


DEATHS = [
    pytest.param(operation, step.name, moment, id=f"{operation}-{step.name}-{moment}")
    for pair in ATTACHES.items()
    for operation in pair
    for step in OPERATIONS[operation].steps
    for moment in ("look", "do", "did")
    if moment == "look" or step.name not in NEVER_DONE
]


@pytest.mark.parametrize(("operation", "step", "moment"), DEATHS)
def test_a_killed_worker_makes_no_difference(world: World, operation: str, step: str, moment: str) -> None:
    """At each moment of each step: the next worker comes to the same end, and nothing was done twice."""
    attach = _prepare(world, operation)
    world.submit("a", operation)
    with pytest.raises(Killed):
        world.take("a", world.worker(watched(OPERATIONS[operation], Listener((moment, step), die))))
    assert world.take("a") is None
    details = world.details("a")
    assert (details.job.state, details.job.error) == (JobState.SUCCEEDED, None)
    assert has_it(world) if operation == attach else nothing_is_there(world)
    assert len(world.effects) == len(set(world.effects))


UNDONE = [
    pytest.param(operation, step.name, moment, id=f"{operation}-{step.name}-{moment}")
    for operation in ATTACHES
    for step in OPERATIONS[operation].steps
    for moment in ("undo", "undid")
]


@pytest.mark.parametrize(("operation", "step", "moment"), UNDONE)
def test_a_worker_killed_while_undoing_makes_no_difference(
    world: World, operation: str, step: str, moment: str
) -> None:
    """The next one goes on undoing."""
    world.fake.fail("devices.attach", permanent())
    world.submit("a", operation)
    with pytest.raises(Killed):
        world.take("a", world.worker(watched(OPERATIONS[operation], Listener((moment, step), die))))
    assert world.take("a") is None
    assert world.details("a").job.state is JobState.FAILED
    assert nothing_is_there(world)


def test_a_volume_that_only_the_domain_knows_is_detached(world: World) -> None:
    """By the names that it has in the guest: a success that left it there would be a lie."""
    world.run("a", "attach_volume")
    (device,) = devices(world)
    with world.database.write() as connection:
        connection.execute(text("DELETE FROM devices WHERE kind = 'volume'"))
    details = world.run("d", "detach_volume")
    assert details.job.state is JobState.SUCCEEDED
    assert states(details)["VolumeReleased"] is StepState.DONE
    shown = world.fake.devices.shown(world.instance)
    assert shown is not None
    assert not shown.anywhere(device)


@OPERATION
def test_a_suspended_guest_keeps_the_devices_it_was_suspended_with(world: World, operation: str) -> None:
    """It would go on without what it was given meanwhile, and with what was taken; resumed, it is given it."""
    world.run("suspended", "suspend")
    refused = world.run("refused", operation)
    assert (refused.job.state, error_class(refused)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert refused.job.error is not None
    assert "is suspended, with its devices: resume it first" in refused.job.error.message
    assert world.known.devices == tuple(each for each in world.known.devices if each.kind is DeviceKind.DISK)
    world.run("resumed", "resume")
    assert world.run("attached", operation).job.state is JobState.SUCCEEDED
    world.run("suspended again", "suspend")
    kept = world.run("kept", ATTACHES[operation])
    assert (kept.job.state, error_class(kept)) == (JobState.FAILED, ErrorClass.PERMANENT)
    assert has_it(world, live=False)
    world.run("resumed again", "resume")
    assert has_it(world)


@OPERATION
@pytest.mark.parametrize("before", ["stop", "pause"])
def test_a_stopped_or_paused_guest_is_given_devices_and_asked_for_them(
    world: World, operation: str, before: str
) -> None:
    """Of one that is off the definition alone is changed, and the next start goes by it."""
    live = before == "pause"
    world.run("before", before)
    assert world.run("attached", operation).job.state is JobState.SUCCEEDED
    assert has_it(world, live=live)
    if not live:
        world.run("started", "start")
        assert has_it(world)
        world.run("stopped again", "stop")
        assert world.run("detached", ATTACHES[operation]).job.state is JobState.SUCCEEDED
        assert not [each for each in world.known.devices if each.kind is not DeviceKind.DISK]
