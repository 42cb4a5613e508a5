"""Whether a host takes new guests: what waits, what goes on, and whose word stands."""

from uuid import UUID, uuid4

import pytest

from models.availability import disable, down, enable, up, why_waiting
from models.inventory import HostBoundElsewhereError, NotRebound, Registration, rebind, register, stopped
from models.journal.accepting import accept
from models.journal.claiming import Lease, NotNow, claim
from models.journal.due import claimable
from models.journal.settling import settle
from models.reading import HostRecord, job, list_hosts
from models.states import HostState, JobClass, JobState
from tests.builders import Desk, enrolled, submission, terms_of

pytest_plugins = ["tests.builders"]


def host(desk: Desk, name: str = "h1") -> HostRecord:
    """The host's row."""
    return next(each for each in list_hosts(desk.database) if each.name == name)


def due(desk: Desk) -> list[str]:
    """What the sweeper of h1 would take."""
    return claimable(desk.database, "h1", classes=list(JobClass), in_hand=(), superseding=["destroy"], limit=10)


def why(desk: Desk, job_id: str) -> str | None:
    """Why a queued job waits."""
    record = job(desk.database, job_id)
    assert record is not None
    return why_waiting(desk.database, record)


def test_a_disabled_host_begins_no_spawn_and_goes_on_with_the_rest(desk: Desk) -> None:
    """A new guest waits, with the reason; a destroy is taken; enabled again, the spawn is found."""
    settle(desk.database, desk.begun("there"), JobState.SUCCEEDED, outbox=False)
    assert disable(desk.database, "h1", "cli:ann", "new memory")
    desk.submit("wanted", instance=uuid4())
    desk.submit("away", "destroy")

    refused = claim(desk.database, "wanted", desk.claimant, terms_of, outbox=False)

    sentence = "host h1 takes no new guests: new memory"
    assert (refused, why(desk, "wanted")) == (NotNow(sentence), sentence)
    assert due(desk) == ["away"]
    assert isinstance(claim(desk.database, "away", desk.claimant, terms_of, outbox=False), Lease)
    assert (host(desk).state, host(desk).disabled_by) == (HostState.DISABLED, "cli:ann")

    assert enable(desk.database, "h1")
    assert (due(desk), why(desk, "wanted")) == (["wanted", "away"], None)


def test_no_migration_begins_to_a_disabled_host(desk: Desk) -> None:
    """The destination's word counts; one to another host goes."""
    enrolled(desk.database, "h2")
    enrolled(desk.database, "h3")
    for name, destination in (("closed", "h2"), ("open", "h3")):
        asked = submission(name, "migrate", request={"destination": destination})
        accept(desk.database, asked, outbox=False)
    disable(desk.database, "h2", "cli:ann", "it smokes")

    assert due(desk) == ["open"]
    assert why(desk, "closed") == "host h2 takes no new guests: it smokes"


def test_what_was_begun_goes_on(desk: Desk) -> None:
    """A spawn that is running when the host is disabled is taken again after a crash."""
    desk.begun("half")
    disable(desk.database, "h1", "cli:ann", "new memory")

    assert due(desk) == ["half"]
    assert isinstance(claim(desk.database, "half", enrolled(desk.database), terms_of, outbox=False), Lease)


def test_a_drained_host_begins_nothing_and_ends_what_was_begun(desk: Desk) -> None:
    """A destroy waits, too, and has superseded nobody; no migration begins to it; enabled again, all is found."""
    desk.begun("half")
    desk.submit("away", "destroy")
    desk.submit("other", "destroy", instance=uuid4())
    enrolled(desk.database, "h2")
    accept(desk.database, submission("to it", "migrate", host="h2", request={"destination": "h1"}), outbox=False)
    assert disable(desk.database, "h1", "cli:ann", "new memory", drain=True)

    refused = [claim(desk.database, job_id, desk.claimant, terms_of, outbox=False) for job_id in ("away", "other")]

    sentence = "host h1 is drained and begins no job: new memory"
    assert refused == [NotNow(sentence)] * 2
    assert (why(desk, "away"), why(desk, "to it")) == (sentence, "host h1 takes no new guests: new memory")
    assert due(desk) == ["half"]
    assert desk.events("half") == ["submitted", "claimed"]
    later = enrolled(desk.database)
    assert isinstance(claim(desk.database, "half", later, terms_of, outbox=False), Lease)

    assert enable(desk.database, "h1")
    assert "other" in due(desk)
    taken = claim(desk.database, "away", later, terms_of, outbox=False)
    assert isinstance(taken, Lease)
    assert taken.superseded == ("half",)


def test_a_libvirt_that_is_back_does_not_undo_an_operators_word(desk: Desk) -> None:
    """The two reasons are kept apart, whichever came first."""
    worker = desk.claimant.worker
    assert down(desk.database, "h1", worker, "libvirt does not answer")
    assert not down(desk.database, "h1", worker, "libvirt does not answer")
    assert host(desk).state is HostState.DISABLED
    disable(desk.database, "h1", "cli:ann", "new memory")

    assert up(desk.database, "h1", worker)
    assert (host(desk).state, host(desk).down_because) == (HostState.DISABLED, None)

    down(desk.database, "h1", worker, "libvirt does not answer")
    enable(desk.database, "h1")
    assert host(desk).state is HostState.DISABLED
    up(desk.database, "h1", worker)
    assert host(desk).state is HostState.ENABLED


def test_only_the_worker_that_serves_the_host_tells_of_its_libvirt(desk: Desk) -> None:
    """An earlier one that wakes up says nothing; a new one starts with a libvirt that answered."""
    earlier = desk.claimant.worker
    down(desk.database, "h1", earlier, "libvirt does not answer")
    later = enrolled(desk.database).worker

    assert host(desk).state is HostState.ENABLED
    assert not down(desk.database, "h1", earlier, "libvirt does not answer")
    assert down(desk.database, "h1", later, "libvirt does not answer")
    assert not up(desk.database, "h1", earlier)


def test_there_is_no_such_host(desk: Desk) -> None:
    """Nothing is made of a mistyped name."""
    assert not disable(desk.database, "h9", "cli:ann", "why")
    assert not enable(desk.database, "h9")
    assert rebind(desk.database, "h9", "cli:ann", "why") == NotRebound("there is no host h9")
    assert [each.name for each in list_hosts(desk.database)] == ["h1"]


def test_a_name_goes_to_another_machine_on_an_operators_word_only(desk: Desk) -> None:
    """Not while the old worker lives, and to the next machine alone."""

    def another(machine: str) -> Registration:
        return Registration("h1", machine, UUID(int=7), "qemu:///test", uuid4(), 1, "0")

    with pytest.raises(HostBoundElsewhereError, match="run: hostler hosts rebind h1"):
        register(desk.database, another("machine-b"))
    alive = rebind(desk.database, "h1", "cli:ann", "its board burnt")
    assert isinstance(alive, NotRebound)
    assert "stop it first" in alive.why

    stopped(desk.database, desk.claimant.worker)
    assert rebind(desk.database, "h1", "cli:ann", "its board burnt") == 0
    register(desk.database, another("machine-b"))

    assert (host(desk).machine_id, host(desk).rebind_by) == ("machine-b", None)
    with pytest.raises(HostBoundElsewhereError):
        register(desk.database, another("machine-c"))


def test_the_old_machine_takes_the_word_back(desk: Desk) -> None:
    """Its worker started again: nobody else may have the name."""
    stopped(desk.database, desk.claimant.worker)
    rebind(desk.database, "h1", "cli:ann", "its board burnt")
    enrolled(desk.database)

    assert host(desk).rebind_by is None


def test_what_a_host_is_and_has_is_registered_anew_at_each_start(desk: Desk) -> None:
    """The last start's word counts."""
    old = host(desk)
    told = Registration(
        *("h1", old.machine_id, old.libvirt_host_uuid, "qemu:///test", uuid4(), 1, "0"),
        capabilities={"qemu_version": "7.2.0"},
        inventory={"vcpus": 8},
    )
    register(desk.database, told)

    assert (host(desk).capabilities, host(desk).inventory) == ({"qemu_version": "7.2.0"}, {"vcpus": 8})
