"""The fake's own promises: faults happen where they were scripted, and the ledger knows what really happened."""

from uuid import UUID

import pytest

from models.states import ErrorClass
from tasks.host import Guest, HostError, Identity
from tests.fake_host import FakeHost, Killed

MIB = 1024**2
LOST = HostError(ErrorClass.UNKNOWN, "the daemon went")


@pytest.fixture
def host() -> FakeHost:
    """A new fake."""
    return FakeHost()


def define(host: FakeHost, instance: UUID) -> None:
    """Define a guest."""
    host.domains.define(Guest(Identity(instance, "job-1"), "guest", memory_mib=32, vcpus=1))


def test_a_lost_request_has_no_effect(host: FakeHost, instance: UUID) -> None:
    """The error comes before."""
    define(host, instance)
    host.fail("domains.start", LOST)
    with pytest.raises(HostError):
        host.domains.start(instance)
    assert host.effects == [("domains.define", instance)]
    host.domains.start(instance)
    assert host.effects[-1] == ("domains.start", instance)


def test_a_lost_answer_leaves_its_effect(host: FakeHost, instance: UUID) -> None:
    """The error comes after."""
    define(host, instance)
    host.fail("domains.start", LOST, after=True)
    with pytest.raises(HostError):
        host.domains.start(instance)
    assert host.effects[-1] == ("domains.start", instance)


def test_a_killed_worker_is_seen_by_no_except_exception(host: FakeHost, instance: UUID) -> None:
    """It is a BaseException."""
    host.fail("domains.find", Killed())
    with pytest.raises(Killed):
        host.domains.find(instance)
    assert not issubclass(Killed, Exception)


def test_faults_happen_as_often_as_scripted_and_unspent_ones_are_told(host: FakeHost, instance: UUID) -> None:
    """A test that scripted a fault in vain can see it."""
    host.fail("domains.find", LOST, times=2)
    host.fail("disks.remove", LOST)
    for _ in range(2):
        with pytest.raises(HostError):
            host.domains.find(instance)
    assert host.domains.find(instance) is None
    assert host.unspent() == ("disks.remove",)
    assert host.calls["domains.find"] == 3


def test_half_a_disk_is_left_and_is_no_disk(host: FakeHost, instance: UUID) -> None:
    """Killed before it was published."""
    path = host.disks.path_for(instance, "root", "qcow2")
    host.fail("disks.create", Killed(), halfway=True)
    with pytest.raises(Killed):
        host.disks.create(instance, path, size_bytes=MIB, backing=None, epoch=4)
    assert host.disks.find(instance, path) is None
    assert host.leftovers(instance) == ("folder", "root.qcow2.4.part")
    host.disks.remove(instance, path)
    assert host.leftovers(instance) == ()


def test_a_half_removed_folder_is_something_left(host: FakeHost, instance: UUID) -> None:
    """A replay finishes it."""
    define(host, instance)
    host.fail("disks.remove_folder", Killed(), halfway=True)
    with pytest.raises(Killed):
        host.disks.remove_folder(instance)
    assert host.disks.folder_exists(instance)
    assert host.leftovers(instance) == ("domain", "removing")
    host.disks.remove_folder(instance)
    assert host.leftovers(instance) == ("domain",)


def test_what_changes_nothing_is_not_in_the_ledger(host: FakeHost, instance: UUID) -> None:
    """A replay that finds all done adds nothing."""
    define(host, instance)
    host.domains.start(instance)
    before = list(host.effects)
    define(host, instance)
    host.domains.start(instance)
    host.disks.remove(instance, host.disks.path_for(instance, "root", "qcow2"))
    assert host.effects == before


def test_earlier_work_is_what_a_test_began(host: FakeHost, instance: UUID) -> None:
    """And ends when the test ends it."""
    host.earlier_work.begin(instance, "job-1")
    assert host.earlier_work.going_on(instance, "job-2") == ("job-1",)
    with pytest.raises(HostError):
        host.earlier_work.wait_ended(instance, "job-2", 0.01)
    host.earlier_work.end(instance, "job-1")
    host.earlier_work.wait_ended(instance, "job-2", 0.01)


@pytest.mark.parametrize("method", ["domains.stat", "discs.find", "effects"])
def test_a_fault_of_no_method_is_refused(host: FakeHost, method: str) -> None:
    """A misspelt fault would never happen."""
    with pytest.raises((AttributeError, TypeError, ValueError)):
        host.fail(method, LOST)


def test_a_half_of_what_has_none_is_refused(host: FakeHost) -> None:
    """A start is one effect."""
    with pytest.raises(ValueError, match="has no half"):
        host.fail("domains.start", LOST, halfway=True)
