"""Jobs that two hosts have a part in: hops, what is asked of them on the way, and who comes after them."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from models import outbox
from models.inventory import Registration, register
from models.journal.asking import Asked, request_cancel, request_force_complete
from models.journal.claiming import Claimant, Lease, NotNow, claim
from models.journal.due import claimable
from models.journal.holding import Intend, OvertakenError, Seen
from models.journal.progress import STALLED_AFTER_S, Wanted, report
from models.journal.settling import hop, quarantine, settle
from models.journal.stepping import TakenError, advance
from models.journal.superseding import Terms
from models.reading import instance as instance_record
from models.records import Device, DeviceAdded, DeviceChanged, ErrorRecord, InstanceMoved, JobRecord, Progress
from models.states import DeviceKind, ErrorClass, InstanceState, JobClass, JobState, StepState
from tests.builders import DESTROY_TERMS, SPAWN_TERMS, STEPS, Desk, dump

pytest_plugins = ["tests.builders"]

MIGRATE_TERMS = Terms(version=1, steps=STEPS, supersedes=False, begins_as=None, peer="h2")
HALF_WAY = Progress("migrating", done_bytes=50, total_bytes=100, eta_s=2.0)
MISTAKE = ErrorRecord(ErrorClass.PERMANENT, "it will never work")


def terms_of(job: JobRecord) -> Terms:
    """A migration goes from h1 to h2."""
    return {"migrate": MIGRATE_TERMS, "destroy": DESTROY_TERMS}.get(job.operation, SPAWN_TERMS)


class Two:
    """Two hosts with one journal, and an instance that lives on the first."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.first = desk.claimant
        self.second = self.enrol("h2", UUID(int=2))
        settle(desk.database, desk.begun("spawned"), JobState.SUCCEEDED, outbox=False)

    def enrol(self, host: str, libvirt_host: UUID) -> Claimant:
        """A worker of another host, which has said how it is reached."""
        worker = uuid4()
        uri = f"qemu+tcp://{host}/system"
        registration = Registration(host, f"machine-of-{host}", libvirt_host, "qemu:///test", worker, 1, "0", uri, host)
        register(self.desk.database, registration)
        return Claimant(worker, host)

    def try_claim(self, job_id: str, who: Claimant) -> Lease | NotNow:
        """Claim, or hear why not."""
        return claim(self.desk.database, job_id, who, terms_of, outbox=True)

    def claim(self, job_id: str, who: Claimant) -> Lease:
        """Claim, which must be possible."""
        claimed = self.try_claim(job_id, who)
        assert isinstance(claimed, Lease), claimed
        return claimed

    def migrating(self) -> Lease:
        """A migration, claimed by its source."""
        self.desk.submit("m", "migrate")
        return self.claim("m", self.first)

    def hop(self, lease: Lease, to: str, *seen: Seen) -> None:
        """Hand the job over."""
        hop(self.desk.database, lease, to, seen, outbox=True)

    def past_the_switch(self) -> Lease:
        """A migration whose guest has moved, held by its source."""
        lease = self.migrating()
        self.desk.intend(lease)
        moved = Seen(0, StepState.DONE, changes=(InstanceMoved("h2"),), passes_return=True)
        advance(self.desk.database, lease, [moved], None)
        return lease


@pytest.fixture
def two(desk: Desk) -> Two:
    """Two hosts, on each of the databases."""
    return Two(desk)


def rings(two: Two) -> list[tuple[str, str]]:
    """What hosts are told to look at: job, host."""
    return [(letter.job.id, letter.host) for letter in outbox.undelivered(two.desk.database) if letter.kind == "ring"]


# --- hops


def test_a_hop_hands_the_job_to_its_other_host_alone(two: Two) -> None:
    """It is waiting, not queued: nothing of the instance gets before it."""
    lease = two.migrating()
    two.desk.submit("later", "spawn")
    two.hop(lease, "h2")

    job = two.desk.job("m")
    assert (job.state, job.host, job.home, job.peer, job.hopping) == (JobState.WAITING, "h2", "h1", "h2", True)
    assert rings(two) == [("m", "h2")]
    assert isinstance(two.try_claim("m", two.first), NotNow)
    assert isinstance(two.try_claim("later", two.first), NotNow)
    assert claimable(two.desk.database, "h2", classes=list(JobClass), in_hand=(), superseding=["destroy"], limit=9) == [
        "m"
    ]

    arrived = two.claim("m", two.second)
    assert (arrived.host, arrived.arrived, arrived.epoch) == ("h2", True, lease.epoch + 1)
    assert not two.desk.job("m").hopping


def test_each_host_sees_the_other_as_that_one_registered(two: Two) -> None:
    """The address comes from the hosts' rows, never from a request."""
    lease = two.migrating()
    assert lease.peer is not None
    assert (lease.peer.name, lease.peer.libvirt_uri, lease.peer.address) == ("h2", "qemu+tcp://h2/system", "h2")
    two.hop(lease, "h2")
    back = two.claim("m", two.second).peer
    assert back is not None
    assert (back.name, back.libvirt_uri) == ("h1", "fake://h1")


def test_after_a_hop_its_old_holder_writes_nothing(two: Two) -> None:
    """It may still be on its way out of a call."""
    lease = two.migrating()
    two.hop(lease, "h2")
    before = dump(two.desk.database)
    for write in (
        lambda: two.hop(lease, "h2"),
        lambda: report(two.desk.database, lease, HALF_WAY),
        lambda: two.desk.intend(lease),
        lambda: settle(two.desk.database, lease, JobState.SUCCEEDED, outbox=True),
    ):
        with pytest.raises(OvertakenError):
            write()
    assert dump(two.desk.database) == before


def test_what_was_seen_is_committed_with_the_hop(two: Two) -> None:
    """The other host reads it there."""
    lease = two.migrating()
    two.desk.intend(lease)
    two.hop(lease, "h2", Seen(0, StepState.DONE))
    step = two.claim("m", two.second).steps[0]
    assert (step.state, step.host, step.intent) == (StepState.DONE, "h1", {"at": 0})


def test_a_job_that_waits_for_an_error_has_not_arrived(two: Two) -> None:
    """It is looked at from its first step again."""
    lease = two.migrating()
    assert not lease.arrived
    two.hop(lease, "h2")
    two.claim("m", two.second)
    assert not two.claim("m", two.second).arrived


# --- progress, and what is asked meanwhile


def test_progress_is_the_rows_and_hears_what_is_wanted(two: Two) -> None:
    """Each report answers for all that was asked before it."""
    lease = two.migrating()
    assert report(two.desk.database, lease, HALF_WAY) == Wanted()
    progress = two.desk.job("m").progress
    assert progress is not None
    assert (progress["what"], progress["done_bytes"], progress["eta_s"]) == ("migrating", 50, 2.0)
    assert request_force_complete(two.desk.database, "m", Asked("ops", "now")).taken
    assert report(two.desk.database, lease, HALF_WAY) == Wanted(force_complete=True)
    assert request_cancel(two.desk.database, "m", Asked("ops", "no"), outbox=True).taken
    assert report(two.desk.database, lease, HALF_WAY).cancel
    two.hop(lease, "h2")
    assert two.desk.job("m").progress is None


def test_a_report_passes_the_point_of_no_return_unless_a_cancel_came_first(two: Two) -> None:
    """Whichever is committed first counts."""
    lease = two.migrating()
    report(two.desk.database, lease, HALF_WAY, passes_return=True)
    assert two.desk.job("m").past_return
    assert not request_cancel(two.desk.database, "m", Asked("ops"), outbox=True).taken
    assert two.desk.events("m").count("past_return") == 1


def test_a_cancel_keeps_a_report_from_passing_the_point_of_no_return(two: Two) -> None:
    """The call is told to stop instead."""
    lease = two.migrating()
    request_cancel(two.desk.database, "m", Asked("ops"), outbox=True)
    assert report(two.desk.database, lease, HALF_WAY, passes_return=True).cancel
    assert not two.desk.job("m").past_return


def test_a_call_of_which_nothing_comes_is_told_of_once(two: Two) -> None:
    """When it stalls, and when it moves again."""
    lease, before = two.migrating(), None
    for silent_s in (1.0, STALLED_AFTER_S, STALLED_AFTER_S + 1, 0.0, 1.0):
        now = replace(HALF_WAY, silent_s=silent_s)
        report(two.desk.database, lease, now, before=before)
        before = now
    assert [event for event in two.desk.events("m") if event in {"stalled", "moving_again"}] == [
        "stalled",
        "moving_again",
    ]


@pytest.mark.parametrize(
    ("job", "why"), [("spawned", "is no migration"), ("nobody", "there is no job"), ("done", "has succeeded")]
)
def test_only_a_migration_under_way_is_made_to_complete(two: Two, job: str, why: str) -> None:
    """Each refusal is a sentence."""
    two.desk.submit("done", "migrate")
    settle(two.desk.database, two.claim("done", two.first), JobState.SUCCEEDED, outbox=False)
    answer = request_force_complete(two.desk.database, job, Asked("ops"))
    assert not answer.taken
    assert why in answer.sentence


# --- the instance, and who comes after


def test_the_instance_lives_where_it_was_seen_to_run(two: Two) -> None:
    """In the commit of that step, past which there is only forward; its jobs follow it."""
    disk = Device(DeviceKind.DISK, "root", {"path": "/there"})
    lease = two.migrating()
    two.desk.intend(lease)
    moved = Seen(0, StepState.DONE, changes=(InstanceMoved("h2"), DeviceChanged(disk)), passes_return=True)
    advance(two.desk.database, lease, [moved], None)
    instance = instance_record(two.desk.database, two.desk.instance)
    assert instance is not None
    assert (instance.host, instance.devices) == ("h2", (disk,))
    assert two.desk.job("m").past_return
    settle(two.desk.database, lease, JobState.SUCCEEDED, outbox=True)

    two.desk.submit("later", "spawn")
    assert isinstance(two.try_claim("later", two.first), NotNow)
    assert two.desk.job("later").host == "h2"
    assert two.claim("later", two.second).host == "h2"


def test_a_cancel_after_the_switch_comes_too_late(two: Two) -> None:
    """The success is settled all the same."""
    lease = two.migrating()
    two.desk.intend(lease)
    request_cancel(two.desk.database, "m", Asked("ops"), outbox=True)
    moved = Seen(0, StepState.DONE, passes_return=True)
    assert settle(two.desk.database, lease, JobState.SUCCEEDED, seen=[moved], outbox=True)


@pytest.mark.parametrize("where", ["h1", "h2"])
def test_a_destroy_that_ends_a_migration_has_a_part_on_both_hosts(two: Two, where: str) -> None:
    """Wherever the migration intended anything; and it goes only forward."""
    lease = two.migrating()
    if where == "h2":
        two.hop(lease, "h2")
        two.desk.intend(two.claim("m", two.second))
    two.desk.submit("d", "destroy")
    destroying = two.claim("d", two.first)
    assert destroying.superseded == ("m",)
    assert two.desk.job("d").peer == ("h2" if where == "h2" else None)
    assert two.desk.job("d").past_return
    ended = two.desk.job("m")
    assert (ended.state, ended.hopping, ended.progress) == (JobState.CANCELLED, False, None)
    assert two.desk.details("m").events[-1].data["superseded_by"] == "d"
    assert (destroying.peer is not None) == (where == "h2")


def test_a_destroy_of_a_migration_that_never_began_has_a_part_on_one_host(two: Two) -> None:
    """There is no half of it anywhere."""
    two.desk.submit("m", "migrate")
    two.desk.submit("d", "destroy")
    two.claim("d", two.first)
    assert two.desk.job("d").peer is None


def test_a_destroy_waits_for_a_migration_past_its_switch_and_follows_the_instance(two: Two) -> None:
    """It says so; a sweeper does not offer it either."""
    lease = two.past_the_switch()
    two.desk.submit("d", "destroy")
    redirected = two.try_claim("d", two.first)
    assert isinstance(redirected, NotNow)
    assert "lives on host h2" in redirected.why
    refused = two.try_claim("d", two.second)
    assert isinstance(refused, NotNow)
    assert "job m of the same instance comes first" in refused.why
    asked = {"classes": list(JobClass), "in_hand": (), "superseding": ["destroy"], "limit": 9}
    assert claimable(two.desk.database, "h2", **asked) == []
    settle(two.desk.database, lease, JobState.SUCCEEDED, outbox=True)
    assert two.claim("d", two.second).superseded == ()


def test_a_destroy_ends_a_migration_that_was_set_aside_past_its_switch(two: Two) -> None:
    """Else nothing ever would."""
    quarantine(two.desk.database, two.past_the_switch(), MISTAKE)
    two.desk.submit("d", "destroy")
    two.try_claim("d", two.first)
    assert two.claim("d", two.second).superseded == ("m",)
    assert two.desk.job("d").peer == "h1"


# --- what only one instance may have


def volume(key: str = "v") -> DeviceAdded:
    """A volume as an intent reserves it."""
    return DeviceAdded(Device(DeviceKind.VOLUME, key, {"id": key}, exclusive=f"volume:{key}"))


def test_an_intent_reserves_what_only_one_instance_may_have(desk: Desk) -> None:
    """Before the effect: two writers on one disk are refused while nothing has happened yet."""
    mine = desk.begun("mine")
    advance(desk.database, mine, (), Intend(0, {}, reserves=(volume(),)))
    other = desk.submit("other", instance=uuid4())
    theirs = desk.claim(other.id)
    before = dump(desk.database)
    with pytest.raises(TakenError, match=rf"volume:v belongs to instance {desk.instance} already"):
        advance(desk.database, theirs, [Seen(0, StepState.FOUND)], Intend(1, {}, reserves=(volume(),)))
    assert dump(desk.database) == before
    advance(desk.database, theirs, [Seen(0, StepState.FOUND)], Intend(1, {}, reserves=(volume("w"),)))


def test_an_intent_reserves_again_what_its_instance_has(desk: Desk) -> None:
    """A second attempt of the same step."""
    lease = desk.begun("a")
    for _ in range(2):
        advance(desk.database, lease, (), Intend(0, {}, reserves=(volume(),)))
    instance = instance_record(desk.database, desk.instance)
    assert instance is not None
    assert [device.exclusive for device in instance.devices] == ["volume:v"]
    assert instance.state is InstanceState.BUILDING


def test_hosts_that_never_said_how_they_are_reached_are_empty(desk: Desk) -> None:
    """Whoever wants to go there says so in a sentence."""
    register(desk.database, Registration("h3", "machine-of-h3", UUID(int=3), "qemu:///test", uuid4(), 1, "0"))
    desk.submit("m", "migrate")
    lease = claim(desk.database, "m", desk.claimant, lambda _job: replace(MIGRATE_TERMS, peer="h3"), outbox=False)
    assert isinstance(lease, Lease)
    assert lease.peer is not None
    assert (lease.peer.libvirt_uri, lease.peer.address) == ("", "")
