"""The port's `Power`: the same promises on every host. Real guests have no operating system here, and hear nothing."""

import time
from collections.abc import Callable
from uuid import UUID

import pytest

from models.states import ErrorClass
from tasks.host import Domain, DomainState, Guest, HostError, Identity
from tests.contract.bench import Bench

SOON_S = 20.0


@pytest.fixture
def runs(bench: Bench, instance: UUID) -> Domain:
    """A running guest."""
    bench.host.domains.define(Guest(Identity(instance, "job-1"), "guest", memory_mib=32, vcpus=1))
    bench.host.domains.start(instance)
    bench.host.domains.wait_running(instance, SOON_S)
    return seen(bench, instance)


def seen(bench: Bench, instance: UUID) -> Domain:
    """The domain, which is there."""
    domain = bench.host.domains.find(instance)
    assert domain is not None
    return domain


def refused(call: Callable[[], object]) -> ErrorClass:
    """The class of the error that the call raises."""
    with pytest.raises(HostError) as caught:
        call()
    return caught.value.error_class


def test_a_guest_stands_still_and_runs_on(bench: Bench, instance: UUID, runs: Domain) -> None:
    """In the same process, however often it is asked."""
    for _ in range(2):
        bench.host.power.pause(instance)
    assert (seen(bench, instance).state, seen(bench, instance).run) == (DomainState.PAUSED, runs.run)
    for _ in range(2):
        bench.host.power.unpause(instance)
    assert (seen(bench, instance).state, seen(bench, instance).run) == (DomainState.RUNNING, runs.run)


def test_each_start_is_another_run(bench: Bench, instance: UUID, runs: Domain) -> None:
    """By which a reboot is told from what was before."""
    assert runs.run is not None
    bench.host.domains.kill(instance)
    assert seen(bench, instance).run is None
    bench.host.domains.start(instance)
    assert seen(bench, instance).run not in {None, runs.run}


@pytest.mark.usefixtures("runs")
def test_a_guest_is_kept_and_goes_on(bench: Bench, instance: UUID) -> None:
    """Its process ends, and the next start is from its memory, once."""
    assert not bench.host.power.is_saved(instance)
    bench.host.power.save(instance, deadline_s=SOON_S)
    assert not seen(bench, instance).active
    assert bench.host.power.is_saved(instance)
    bench.host.domains.start(instance)
    bench.host.domains.wait_running(instance, SOON_S)
    assert not bench.host.power.is_saved(instance)


@pytest.mark.usefixtures("runs")
def test_what_was_kept_goes_with_the_definition(bench: Bench, instance: UUID) -> None:
    """A destroy of a suspended guest leaves nothing that a later one of the same UUID would begin with."""
    bench.host.power.save(instance, deadline_s=SOON_S)
    bench.host.domains.undefine(instance)
    bench.host.domains.define(Guest(Identity(instance, "job-2"), "guest", memory_mib=32, vcpus=1))
    assert not bench.host.power.is_saved(instance)


@pytest.mark.usefixtures("runs")
def test_a_guest_that_does_not_hear_is_waited_for_until_the_deadline(bench: Bench, instance: UUID) -> None:
    """And no longer; that it runs is for a look to tell."""
    bench.pause(instance)
    began = time.monotonic()
    bench.host.power.shut_down(instance, deadline_s=1.5, again_every_s=0.5)
    assert time.monotonic() - began < SOON_S
    assert seen(bench, instance).active


@pytest.mark.usefixtures("runs")
def test_what_is_off_cannot_be_paused_unpaused_or_saved(bench: Bench, instance: UUID) -> None:
    """However often; to ask it to shut down is no error."""
    bench.host.domains.kill(instance)
    assert refused(lambda: bench.host.power.pause(instance)) is ErrorClass.PERMANENT
    assert refused(lambda: bench.host.power.unpause(instance)) is ErrorClass.PERMANENT
    assert refused(lambda: bench.host.power.save(instance, deadline_s=SOON_S)) is ErrorClass.PERMANENT
    bench.host.power.shut_down(instance, deadline_s=SOON_S, again_every_s=SOON_S)


def test_nothing_is_asked_of_a_strangers_domain(bench: Bench, instance: UUID) -> None:
    """It runs on as it did."""
    bench.stranger(instance)
    asked: dict[str, Callable[[], object]] = {
        "shut_down": lambda: bench.host.power.shut_down(instance, deadline_s=1.0, again_every_s=1.0),
        "pause": lambda: bench.host.power.pause(instance),
        "unpause": lambda: bench.host.power.unpause(instance),
        "save": lambda: bench.host.power.save(instance, deadline_s=1.0),
        "is_saved": lambda: bench.host.power.is_saved(instance),
    }
    assert {name: refused(call) for name, call in asked.items()} == dict.fromkeys(asked, ErrorClass.CONFLICT)
    assert seen(bench, instance).state is DomainState.RUNNING
