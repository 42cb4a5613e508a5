"""The port's `Domains`: the same promises on every host."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from models.states import ErrorClass
from tasks.host import DomainState, Guest, HostError, Identity
from tests.contract.bench import Bench

SOON_S = 10.0
NOT_LONG_S = 0.3


def guest(instance: UUID, name: str = "guest") -> Guest:
    """A guest without disks, whose firmware idles."""
    return Guest(Identity(instance, "job-1"), name, memory_mib=32, vcpus=1)


def running(bench: Bench, instance: UUID) -> None:
    """Have the guest running."""
    bench.host.domains.define(guest(instance))
    bench.host.domains.start(instance)
    bench.host.domains.wait_running(instance, SOON_S)


def refused(call: Callable[[], object]) -> ErrorClass:
    """The class of the error that the call raises."""
    with pytest.raises(HostError) as caught:
        call()
    return caught.value.error_class


def test_a_machine_is_known_with_its_version(bench: Bench) -> None:
    """By its short name and by its whole one; one that the host lacks is refused for good."""
    platform = bench.host.domains.platform("q35")
    assert platform.virt_type == "qemu"
    assert platform.machine_type.startswith("pc-q35-")
    assert bench.host.domains.platform(platform.machine_type) == platform
    assert refused(lambda: bench.host.domains.platform("pc-q35-0.1")) is ErrorClass.PERMANENT


def test_an_unknown_domain_is_absent(bench: Bench, instance: UUID) -> None:
    """Nothing was made, and that can be told."""
    assert bench.host.domains.find(instance) is None


def test_all_domains_are_known_those_of_others_too(bench: Bench, instance: UUID) -> None:
    """Each as a look at it alone shows it."""
    other = uuid4()
    bench.host.domains.define(guest(instance))
    bench.stranger(other)
    known = bench.host.domains.known()
    assert {instance, other} <= set(known)
    assert {uuid: known[uuid] for uuid in (instance, other)} == {
        uuid: bench.host.domains.find(uuid) for uuid in (instance, other)
    }


def test_a_defined_domain_is_persistent_shut_off_and_names_its_job(bench: Bench, instance: UUID) -> None:
    """The identity that was fixed before is found after."""
    bench.host.domains.define(guest(instance))
    domain = bench.host.domains.find(instance)
    assert domain is not None
    assert (domain.state, domain.persistent, domain.active) == (DomainState.SHUT_OFF, True, False)
    assert domain.identity == Identity(instance, "job-1")


def test_the_same_definition_again_is_no_error(bench: Bench, instance: UUID) -> None:
    """A replay defines what is defined."""
    bench.host.domains.define(guest(instance))
    bench.host.domains.define(guest(instance))
    assert bench.host.domains.find(instance) is not None


@pytest.mark.parametrize("name", ["a <guest> & \"its\" 'name'", "ü 猫 🐱", "]]>", "  spaces  "])
def test_a_hostile_name_is_carried(bench: Bench, instance: UUID, name: str) -> None:
    """The user's name reaches the definition as text, whatever it looks like."""
    bench.host.domains.define(guest(instance, name))
    domain = bench.host.domains.find(instance)
    assert domain is not None
    assert domain.identity == Identity(instance, "job-1")


@pytest.mark.parametrize("name", ["bell\a", "nul\0", "two\nlines", "\ufffe", "half a pair \ud800"])
def test_a_name_that_no_definition_can_carry_is_refused(bench: Bench, instance: UUID, name: str) -> None:
    """Refused for good, and nothing is defined."""
    assert refused(lambda: bench.host.domains.define(guest(instance, name))) is ErrorClass.PERMANENT
    assert bench.host.domains.find(instance) is None


def test_a_started_domain_runs(bench: Bench, instance: UUID) -> None:
    """The whole way up."""
    running(bench, instance)
    domain = bench.host.domains.find(instance)
    assert domain is not None
    assert (domain.state, domain.active, domain.reason) == (DomainState.RUNNING, True, "booted")


def test_a_domain_that_nobody_works_on_is_idle(bench: Bench, instance: UUID) -> None:
    """Running, defined or absent: it returns at once."""
    bench.host.domains.wait_idle(instance, 0.0)
    bench.host.domains.define(guest(instance))
    bench.host.domains.wait_idle(instance, 0.0)
    bench.host.domains.start(instance)
    bench.host.domains.wait_idle(instance, SOON_S)


def test_starting_a_running_domain_is_no_error(bench: Bench, instance: UUID) -> None:
    """A replay starts what runs."""
    running(bench, instance)
    bench.host.domains.start(instance)


def test_defining_a_running_domain_again_leaves_it_running(bench: Bench, instance: UUID) -> None:
    """A replay defines what runs."""
    running(bench, instance)
    bench.host.domains.define(guest(instance))
    domain = bench.host.domains.find(instance)
    assert domain is not None
    assert domain.state is DomainState.RUNNING


def test_an_absent_domain_cannot_be_started(bench: Bench, instance: UUID) -> None:
    """There is nothing to start, however often."""
    assert refused(lambda: bench.host.domains.start(instance)) is ErrorClass.PERMANENT


def test_waiting_is_ended_by_the_event_that_the_domain_runs(bench: Bench, instance: UUID) -> None:
    """A waiter is there before the event, or the state is there before the waiter."""
    running(bench, instance)
    bench.pause(instance)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bench.host.domains.wait_running, instance, SOON_S)
        bench.resume(instance)
        waiting.result(SOON_S)


def test_waiting_is_ended_by_the_event_that_the_domain_stopped(bench: Bench, instance: UUID) -> None:
    """It will not run by waiting."""
    running(bench, instance)
    bench.pause(instance)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(refused, lambda: bench.host.domains.wait_running(instance, SOON_S))
        bench.stop(instance)
        assert waiting.result(SOON_S) is ErrorClass.PERMANENT


def test_waiting_for_a_stopped_or_absent_domain_fails_at_once(bench: Bench, instance: UUID) -> None:
    """Nobody is starting it."""
    assert refused(lambda: bench.host.domains.wait_running(instance, SOON_S)) is ErrorClass.PERMANENT
    bench.host.domains.define(guest(instance))
    assert refused(lambda: bench.host.domains.wait_running(instance, SOON_S)) is ErrorClass.PERMANENT


def test_waiting_longer_than_the_deadline_is_transient(bench: Bench, instance: UUID) -> None:
    """Somebody may still resume it."""
    running(bench, instance)
    bench.pause(instance)
    assert refused(lambda: bench.host.domains.wait_running(instance, NOT_LONG_S)) is ErrorClass.TRANSIENT


def test_a_killed_domain_stays_defined(bench: Bench, instance: UUID) -> None:
    """Kill ends the process, and nothing else."""
    running(bench, instance)
    bench.host.domains.kill(instance)
    domain = bench.host.domains.find(instance)
    assert domain is not None
    assert (domain.state, domain.persistent) == (DomainState.SHUT_OFF, True)


def test_killing_what_does_not_run_is_no_error(bench: Bench, instance: UUID) -> None:
    """Absent, never started, or ended by itself."""
    bench.host.domains.kill(instance)
    bench.host.domains.define(guest(instance))
    bench.host.domains.kill(instance)
    bench.host.domains.start(instance)
    bench.stop(instance)
    bench.host.domains.kill(instance)


def test_a_killed_domain_can_be_started_and_killed_again(bench: Bench, instance: UUID) -> None:
    """Each run of a domain is a run of its own."""
    for _ in range(2):
        running(bench, instance)
        bench.host.domains.kill(instance)
    domain = bench.host.domains.find(instance)
    assert domain is not None
    assert not domain.active


def test_a_paused_domain_is_active_and_can_be_killed(bench: Bench, instance: UUID) -> None:
    """A process is a process."""
    running(bench, instance)
    bench.pause(instance)
    paused = bench.host.domains.find(instance)
    assert paused is not None
    assert (paused.state, paused.active) == (DomainState.PAUSED, True)
    bench.host.domains.kill(instance)
    killed = bench.host.domains.find(instance)
    assert killed is not None
    assert not killed.active


def test_an_undefined_domain_is_absent_with_its_files(bench: Bench, instance: UUID) -> None:
    """What defining it made goes with it."""
    bench.host.domains.define(guest(instance))
    bench.host.domains.undefine(instance)
    assert bench.host.domains.find(instance) is None
    assert not bench.host.disks.folder_exists(instance)


def test_undefining_an_absent_domain_is_no_error(bench: Bench, instance: UUID) -> None:
    """A replay undefines what is gone."""
    bench.host.domains.undefine(instance)


def test_a_running_domain_keeps_its_definition(bench: Bench, instance: UUID) -> None:
    """Undefined it would be transient, and a crash would lose it."""
    running(bench, instance)
    assert refused(lambda: bench.host.domains.undefine(instance)) is ErrorClass.TRANSIENT
    domain = bench.host.domains.find(instance)
    assert domain is not None
    assert (domain.persistent, domain.state) == (True, DomainState.RUNNING)


def test_a_strangers_domain_is_seen_and_never_touched(bench: Bench, instance: UUID) -> None:
    """A job that names its UUID gets a conflict, and the domain runs on."""
    bench.stranger(instance)
    domains = bench.host.domains
    before = domains.find(instance)
    assert before is not None
    assert (before.identity, before.state) == (None, DomainState.RUNNING)
    for call in (
        lambda: domains.define(guest(instance)),
        lambda: domains.start(instance),
        lambda: domains.kill(instance),
        lambda: domains.undefine(instance),
    ):
        assert refused(call) is ErrorClass.CONFLICT
    assert domains.find(instance) == before
    assert not bench.host.disks.folder_exists(instance)


def test_a_domain_of_another_instance_is_never_touched(bench: Bench, instance: UUID) -> None:
    """Its metadata decide, not its UUID."""
    other = uuid4()
    bench.mislabelled(instance, other)
    domains = bench.host.domains
    before = domains.find(instance)
    assert before is not None
    assert before.identity == Identity(other, "job-of-another")
    for call in (lambda: domains.start(instance), lambda: domains.kill(instance), lambda: domains.undefine(instance)):
        assert refused(call) is ErrorClass.CONFLICT
    assert domains.find(instance) == before


def test_a_mark_is_put_into_anothers_domain_and_taken_out_again(bench: Bench, instance: UUID) -> None:
    """On both sides, so that it outlives the process; the guest runs on in that process meanwhile."""
    bench.stranger(instance)
    before = bench.host.domains.find(instance)
    assert before is not None
    assert bench.host.domains.owners(instance) == (None, None)
    mine = Identity(instance, "job & <1>")
    for _ in range(2):
        bench.host.domains.mark(mine)
    assert bench.host.domains.owners(instance) == (mine, mine)
    assert bench.host.domains.find(instance) == replace(before, identity=mine)
    for _ in range(2):
        bench.host.domains.unmark(instance)
    assert bench.host.domains.owners(instance) == (None, None)
    assert bench.host.domains.find(instance) == before
    bench.host.domains.mark(mine)
    bench.stop(instance)
    assert bench.host.domains.owners(instance) == (mine,)


def test_no_mark_is_put_where_there_is_no_domain_or_anothers(bench: Bench, instance: UUID) -> None:
    """A copy of an instance keeps what it says."""
    mine, other = Identity(instance, "job-1"), uuid4()
    assert bench.host.domains.owners(instance) == ()
    assert refused(lambda: bench.host.domains.mark(mine)) is ErrorClass.PERMANENT
    bench.host.domains.unmark(instance)
    bench.mislabelled(instance, other)
    assert refused(lambda: bench.host.domains.mark(mine)) is ErrorClass.CONFLICT
    assert refused(lambda: bench.host.domains.unmark(instance)) is ErrorClass.CONFLICT
    assert [owner and owner.instance for owner in bench.host.domains.owners(instance)] == [other]
