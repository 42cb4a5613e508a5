"""The journal on both databases: accepting, claiming, the fence, stepping, settling, waiting, cancelling."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, select, text
from typing_extensions import override

from models import outbox
from models.engine import Database, now_in_database
from models.inventory import HostBoundElsewhereError, Registration, register
from models.journal.accepting import Accepted, DifferentPayloadError, accept, note
from models.journal.asking import Asked, request_cancel
from models.journal.claiming import Lease, NotNow, claim
from models.journal.deciding import resume
from models.journal.due import claimable
from models.journal.holding import Intend, OvertakenError, Seen
from models.journal.quarantining import WORKERS_ENDED_MAX
from models.journal.settling import quarantine, settle, wait
from models.journal.stepping import advance, attempt_failed
from models.journal.superseding import Terms
from models.journal.undoing import begin_undo
from models.reading import JobDetails
from models.reading import instance as instance_record
from models.records import Device, DeviceAdded, DeviceRemoved, ErrorRecord, InstanceIs, JobRecord
from models.states import (
    FINAL,
    AttemptOutcome,
    DeviceKind,
    Direction,
    ErrorClass,
    EventType,
    InstanceState,
    JobClass,
    JobState,
    OutboxKind,
    StepState,
    Verdict,
)
from tests.builders import DESTROY_TERMS, SPAWN_REQUEST, STEPS, Desk, dump, enrolled, submission, time_passes

pytest_plugins = ["tests.builders"]

TROUBLE = ErrorRecord(ErrorClass.TRANSIENT, "the line is down", "SYSTEM_ERROR", "RPC", 104)
MISTAKE = ErrorRecord(ErrorClass.PERMANENT, "it will never work")
SOON, LATER = timedelta(0), timedelta(hours=1)
ROOT_DISK = Device(DeviceKind.DISK, "root", {"path": "/a"})
AT_ONCE = 20


def claimable_now(desk: Desk, host: str = "h1", **options: Any) -> list[str]:  # handed on
    """What a sweeper of the host would take, with all its slots free."""
    conditions: dict[str, Any] = {"classes": list(JobClass), "in_hand": (), "superseding": ["destroy"], "limit": 100}
    return claimable(desk.database, host, **(conditions | options))


def letters(desk: Desk, host: str | None = None) -> list[tuple[str, str, str]]:
    """What lies in the outbox: kind, job, host."""
    return [(letter.kind.value, letter.job.id, letter.host) for letter in outbox.undelivered(desk.database, host=host)]


def refusal(answer: Lease | NotNow) -> str:
    """The sentence of a claim that was refused."""
    assert isinstance(answer, NotNow)
    return answer.why


def run_again(desk: Desk, job_id: str) -> None:
    """Begin a new run of a settled job."""
    with desk.database.write() as connection:
        connection.execute(
            text("UPDATE jobs SET state = 'queued', run = run + 1 WHERE id = :job"),
            {"job": job_id},
        )
        connection.execute(
            text("INSERT INTO runs (job, number, state, submitted_at) VALUES (:job, 2, 'queued', :now)"),
            {"job": job_id, "now": "2026-01-01 00:00:00.000000"},
        )


# --- time


def test_the_database_tells_the_time_with_any_delay(journal: Database) -> None:
    """Two delays asked for one after the other are two moments, however alike the statements are."""
    with journal.read() as connection:
        moments = [
            connection.execute(select(now_in_database(timedelta(hours=hours)))).scalar_one() for hours in (0, 1, -1, 2)
        ]
    hours = [round((moment - moments[0]).total_seconds() / 3600) for moment in moments]
    assert hours == [0, 1, -1, 2]


# --- accepting


def test_the_same_id_with_the_same_payload_is_the_same_job(desk: Desk) -> None:
    """A sender may send again whatever it has no answer to; nothing is written the second time."""
    asked = submission(instance=desk.instance)
    first = accept(desk.database, asked, outbox=True)
    before = dump(desk.database)
    again = accept(desk.database, asked, outbox=True)
    assert (first.new, again.new) == (True, False)
    assert again.job == first.job
    assert dump(desk.database) == before


@pytest.mark.parametrize(
    "other",
    [
        {"request": {**SPAWN_REQUEST, "memory_mib": 65}},
        {"request": {**SPAWN_REQUEST, "vcpus": 1}},
        {"host": "h2"},
        {"instance": UUID(int=77)},
        {"operation": "destroy", "request": SPAWN_REQUEST},
    ],
    ids=["a field differs", "a default is spelled out", "host", "instance", "operation"],
)
def test_the_same_id_with_another_payload_is_refused(desk: Desk, other: dict[str, Any]) -> None:
    """Sameness is judged on what was sent, before defaults; the refusal changes nothing."""
    asked = submission(instance=desk.instance)
    accept(desk.database, asked, outbox=True)
    before = dump(desk.database)
    with pytest.raises(DifferentPayloadError, match=r"job id job-1 belongs to another request already"):
        accept(desk.database, submission(**({"instance": desk.instance} | other)), outbox=True)
    assert dump(desk.database) == before


def test_the_order_of_keys_and_whitespace_mean_nothing(desk: Desk) -> None:
    """The same JSON, written down in another way, is the same payload."""
    one = json.loads('{"name": "vm", "memory_mib": 64, "image": {"path": "/a", "format": "raw"}}')
    other = json.loads('{"image":{"format":"raw","path":"/a"},\n\t"memory_mib":64,"name":"vm"}')
    accept(desk.database, submission(instance=desk.instance, request=one), outbox=False)
    assert not accept(desk.database, submission(instance=desk.instance, request=other), outbox=False).new


def test_the_same_payload_from_another_sender_is_the_same_job(desk: Desk) -> None:
    """Who asked, and what Celery is told afterwards, is no part of what was asked."""
    accept(desk.database, submission(instance=desk.instance, canvas={"chain": []}), outbox=False)
    again = replace(submission(instance=desk.instance), actor="somebody else")
    assert not accept(desk.database, again, outbox=False).new


def test_what_was_sent_is_kept_as_it_was_sent(desk: Desk) -> None:
    """The request is recorded before any default."""
    job = accept(desk.database, submission(instance=desk.instance), outbox=False).job
    assert job.request == SPAWN_REQUEST
    assert (job.state, job.run, job.epoch, job.host, job.sent_to) == (JobState.QUEUED, 1, 0, "h1", "h1")


@pytest.mark.parametrize(("outbox_wanted", "left"), [(True, [("ring", "job-1", "h1")]), (False, [])])
def test_a_ring_is_left_with_the_job(desk: Desk, *, outbox_wanted: bool, left: list[tuple[str, str, str]]) -> None:
    """Where there is a broker the ring is committed with the job's row."""
    accept(desk.database, submission(), outbox=outbox_wanted)
    assert letters(desk) == left


def test_threads_that_send_the_same_request_at_once_make_one_job(desk: Desk) -> None:
    """One of them records it; all others are told of the same job."""
    asked = submission(instance=desk.instance)
    start = threading.Barrier(AT_ONCE)

    def send() -> Accepted:
        start.wait(timeout=30)
        return accept(desk.database, asked, outbox=True)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [future.result(timeout=60) for future in [pool.submit(send) for _ in range(AT_ONCE)]]
    assert sum(answer.new for answer in answers) == 1
    assert len({answer.job.number for answer in answers}) == 1
    assert desk.events("job-1") == ["submitted"]
    assert letters(desk) == [("ring", "job-1", "h1")]


def test_a_note_changes_nothing_but_the_history(desk: Desk) -> None:
    """A refused ring is remembered beside the job, whose row stays."""
    job = desk.submit("a")
    note(desk.database, "a", EventType.RING_REFUSED, actor="celery", data={"why": "stale"})
    assert desk.job("a") == job
    assert desk.events("a") == ["submitted", "ring_refused"]


# --- claiming


def test_a_claim_makes_the_job_run(desk: Desk) -> None:
    """The job is running under the claimant, its steps are written by name, its instance is being built."""
    lease = desk.begun("a")
    assert lease.job.state is JobState.RUNNING
    assert [(step.name, step.state, step.epoch) for step in lease.steps] == [
        (name, StepState.PENDING, lease.epoch) for name in STEPS
    ]
    instance = instance_record(desk.database, desk.instance)
    assert instance is not None
    assert (instance.state, instance.host, instance.name, instance.epoch) == (
        InstanceState.BUILDING,
        "h1",
        "vm",
        lease.epoch,
    )
    assert instance.spec == SPAWN_REQUEST


def test_jobs_of_an_instance_are_claimed_in_order_of_submission(desk: Desk) -> None:
    """A later job waits until the one before it is settled, whichever is rung first."""
    desk.submit("a")
    desk.submit("b")
    assert "job a of the same instance comes first (queued)" in refusal(desk.try_claim("b"))
    first = desk.claim("a")
    assert "job a of the same instance comes first (running)" in refusal(desk.try_claim("b"))
    settle(desk.database, first, JobState.SUCCEEDED, outbox=False)
    assert desk.claim("b").epoch == first.epoch + 1


@pytest.mark.parametrize("state", ["waiting", "quarantined"])
def test_a_job_that_is_set_aside_still_holds_its_instance(desk: Desk, state: str) -> None:
    """The lock lasts until the job is settled, not until it is idle."""
    lease = desk.begun("a")
    desk.submit("b")
    if state == "waiting":
        wait(desk.database, lease, LATER, TROUBLE)
    else:
        quarantine(desk.database, lease, MISTAKE)
    assert f"comes first ({state})" in refusal(desk.try_claim("b"))


def test_other_instances_go_on_side_by_side(desk: Desk) -> None:
    """A job holds its own instance and no other."""
    desk.begun("a")
    desk.submit("b", instance=uuid4())
    assert desk.claim("b").job.state is JobState.RUNNING


def test_every_claim_raises_the_epoch_and_the_host_sequence_by_one(desk: Desk) -> None:
    """A gap in a host's sequence means that the database went back in time."""
    desk.submit("a")
    newer = enrolled(desk.database)
    leases = [desk.claim("a", newer), desk.claim("a", newer), desk.claim("a", newer)]
    desk.submit("b", instance=uuid4())
    leases.append(desk.claim("b", newer))
    assert [lease.epoch for lease in leases] == [1, 2, 3, 1]
    assert [lease.host_sequence for lease in leases] == [1, 2, 3, 4]


def test_a_worker_whose_host_another_one_has_registered_claims_nothing(desk: Desk) -> None:
    """The lock should have kept the second out; if it did not, the first must not go on beside it."""
    desk.submit("a")
    enrolled(desk.database)
    before = dump(desk.database)
    assert "another worker serves h1 now" in refusal(desk.try_claim("a"))
    assert dump(desk.database) == before


def test_a_success_that_is_no_longer_wanted_is_not_settled(desk: Desk) -> None:
    """A cancel that came while the last step was made is noticed at the settling, unless it came too late."""
    lease = desk.begun("a")
    request_cancel(desk.database, "a", Asked("test"), outbox=False)
    assert not settle(desk.database, lease, JobState.SUCCEEDED, outbox=False)
    assert desk.job("a").state is JobState.RUNNING
    assert settle(desk.database, lease, JobState.CANCELLED, outbox=False)


def test_a_refused_claim_writes_nothing(desk: Desk) -> None:
    """Neither an epoch nor a host's sequence is spent on it."""
    desk.begun("a")
    desk.submit("b")
    before = dump(desk.database)
    assert isinstance(desk.try_claim("b"), NotNow)
    assert isinstance(desk.try_claim("there is no such job"), NotNow)
    assert dump(desk.database) == before


def test_only_the_host_of_a_job_claims_it(desk: Desk) -> None:
    """A ring at the wrong host changes nothing."""
    desk.submit("a", host="h2")
    assert refusal(desk.try_claim("a")) == "it is for host h2"
    assert desk.job("a").state is JobState.QUEUED


def test_a_waiting_job_is_not_claimed_before_its_time(desk: Desk) -> None:
    """A ring does not cut a wait short."""
    wait(desk.database, desk.begun("a"), LATER, TROUBLE)
    assert refusal(desk.try_claim("a")).startswith("it waits until")
    time_passes(desk.database, "a")
    again = desk.claim("a")
    assert (again.job.state, again.job.not_before, again.job.waits) == (JobState.RUNNING, None, 1)


@pytest.mark.parametrize("state", sorted(FINAL), ids=str)
def test_a_settled_job_is_not_claimed(desk: Desk, state: JobState) -> None:
    """Final is final, whoever rings."""
    settle(desk.database, desk.begun("a"), state, outbox=False)
    before = dump(desk.database)
    assert refusal(desk.try_claim("a")) == f"it has {state}"
    assert dump(desk.database) == before


def test_a_quarantined_job_is_not_claimed(desk: Desk) -> None:
    """An operator decides what becomes of it."""
    quarantine(desk.database, desk.begun("a"), MISTAKE)
    assert "an operator decides" in refusal(desk.try_claim("a"))


def test_a_running_job_is_taken_over_with_its_steps(desk: Desk) -> None:
    """The new claim stamps every step with its own epoch and keeps what was journaled of each."""
    first = desk.begun("a")
    desk.done(first, 0)
    desk.intend(first, 1)
    second = desk.claim("a", enrolled(desk.database))
    assert second.worker != first.worker
    assert {step.epoch for step in second.steps} == {second.epoch}
    assert [step.state for step in second.steps] == [StepState.DONE, StepState.INTENDED, StepState.PENDING]
    assert second.steps[1].intent == {"at": 1}
    assert second.job.started_at == first.job.started_at
    assert desk.details("a").events[-1].data["took_over"]


def test_a_job_that_ends_its_workers_is_set_aside(desk: Desk) -> None:
    """It is not tried for ever; what it got on with, and an operator's word, begin the count anew."""
    desk.submit("a")
    for _ in range(WORKERS_ENDED_MAX):
        desk.intend(desk.claim("a", enrolled(desk.database)))
    refused = desk.try_claim("a", enrolled(desk.database))
    assert refusal(refused).startswith(f"it is quarantined: {WORKERS_ENDED_MAX} workers in a row ended")
    assert "at step " in refusal(refused)
    assert desk.job("a").state is JobState.QUARANTINED
    assert resume(desk.database, "a", Asked("ops"), outbox=False).taken
    for _ in range(WORKERS_ENDED_MAX - 1):
        lease = desk.claim("a", enrolled(desk.database))
    desk.done(lease, 0)
    for _ in range(WORKERS_ENDED_MAX):
        lease = desk.claim("a", enrolled(desk.database))
    assert isinstance(lease, Lease)


def test_a_worker_that_lets_a_job_go_and_takes_it_again_has_not_ended(desk: Desk) -> None:
    """A journal out of reach, however often, is no defect of the job."""
    desk.submit("a")
    for _ in range(WORKERS_ENDED_MAX + 2):
        desk.claim("a")


def test_a_take_over_supersedes_nobody(desk: Desk) -> None:
    """A job that is queued again behind the running one is not told that it was superseded."""
    settle(desk.database, desk.begun("a"), JobState.FAILED, outbox=False)
    desk.begun("b")
    run_again(desk, "a")
    taken_over = desk.claim("b", enrolled(desk.database))
    assert taken_over.superseded == ()
    assert desk.details("b").events[-1].data["superseded"] == []
    assert desk.job("a").state is JobState.QUEUED


def test_a_job_of_an_unknown_operation_can_be_claimed(desk: Desk) -> None:
    """It has no steps that this revision could name; whoever claims it sets it aside."""
    desk.submit("a", "transmogrify")
    nothing_known = Terms(version=0, steps=(), supersedes=False, begins_as=None)
    lease = claim(desk.database, "a", desk.claimant, lambda _job: nothing_known, outbox=False)
    assert isinstance(lease, Lease)
    assert lease.steps == ()


@pytest.mark.parametrize("state", ["queued", "running", "waiting", "quarantined"])
def test_a_destroy_supersedes_an_earlier_job(desk: Desk, state: str) -> None:
    """At its claim the earlier job is cancelled, with the destroy's id, in the same transaction."""
    desk.submit("a")
    if state != "queued":
        lease = desk.claim("a")
        if state == "waiting":
            wait(desk.database, lease, LATER, TROUBLE)
        elif state == "quarantined":
            quarantine(desk.database, lease, MISTAKE)
    desk.submit("d", "destroy")
    lease = desk.claim("d", outbox=True)
    assert lease.superseded == ("a",)
    superseded = desk.details("a")
    assert superseded.job.state is JobState.CANCELLED
    assert superseded.job.outcome is not None
    assert superseded.job.outcome["superseded_by"] == "d"
    assert desk.scalar("SELECT superseded_by FROM jobs WHERE id = 'a'") == "d"
    assert desk.scalar("SELECT state FROM runs WHERE job = 'a'") == "cancelled"
    assert superseded.events[-1].type == "cancelled"
    assert {step.epoch for step in superseded.steps} <= {lease.epoch}
    assert ("outcome", "a", "h1") in letters(desk)


def test_a_destroy_supersedes_all_jobs_before_it_and_none_after(desk: Desk) -> None:
    """What was submitted after the destroy waits for it."""
    desk.begun("a")
    for job_id in ("b", "c"):
        desk.submit(job_id)
    desk.submit("d", "destroy")
    desk.submit("e")
    assert desk.claim("d").superseded == ("a", "b", "c")
    assert desk.job("e").state is JobState.QUEUED
    assert "comes first" in refusal(desk.try_claim("e"))


@pytest.mark.parametrize("state", ["queued", "running", "waiting"])
def test_a_destroy_does_not_supersede_a_destroy(desk: Desk, state: str) -> None:
    """The earlier one does what the later one asks; the later one waits for it."""
    desk.submit("d", "destroy")
    if state != "queued":
        lease = desk.claim("d")
        if state == "waiting":
            wait(desk.database, lease, LATER, TROUBLE)
    desk.submit("e", "destroy")
    assert f"job d of the same instance comes first ({state})" in refusal(desk.try_claim("e"))


def test_a_destroy_supersedes_a_quarantined_destroy(desk: Desk) -> None:
    """Asking again is how an operator gets out of a destroy that is stuck."""
    quarantine(desk.database, desk.begun("d", "destroy"), MISTAKE)
    desk.submit("e", "destroy")
    assert desk.claim("e").superseded == ("d",)


@pytest.mark.parametrize(("where", "goes_there"), [("running", True), ("deleted", False)])
def test_a_job_follows_its_instance(desk: Desk, where: str, *, goes_there: bool) -> None:
    """A job that was sent to a host where its instance no longer lives goes to that host, unless there is none."""
    elsewhere = enrolled(desk.database, "h2")
    settle(desk.database, desk.begun("a"), JobState.SUCCEEDED, outbox=False)
    with desk.database.write() as connection:
        connection.execute(text("UPDATE instances SET state = :where"), {"where": where})
    desk.submit("d", "destroy", host="h2")
    answer = desk.try_claim("d", elsewhere, outbox=True)
    job = desk.job("d")
    if goes_there:
        assert "lives on host h1" in refusal(answer)
        assert (job.state, job.host, job.sent_to, job.epoch) == (JobState.QUEUED, "h1", "h2", 0)
        assert letters(desk) == [("ring", "d", "h1")]
        assert desk.events("d") == ["submitted", "redirected"]
        assert desk.claim("d").host == "h1"
    else:
        assert isinstance(answer, Lease)


def test_threads_that_claim_at_once_hold_one_lease(desk: Desk) -> None:
    """Of many claims of two queued jobs of one instance, exactly one lease counts in the end."""
    desk.submit("a")
    desk.submit("b")
    start = threading.Barrier(AT_ONCE)

    def take(number: int) -> Lease | NotNow:
        start.wait(timeout=30)
        return desk.try_claim("ab"[number % 2])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [future.result(timeout=60) for future in [pool.submit(take, number) for number in range(AT_ONCE)]]
    leases = sorted((answer for answer in answers if isinstance(answer, Lease)), key=lambda lease: lease.epoch)
    assert [lease.epoch for lease in leases] == list(range(1, len(leases) + 1))
    assert {lease.job.id for lease in leases} == {"a"}
    for lease in leases[:-1]:
        with pytest.raises(OvertakenError):
            advance(desk.database, lease, (), None)
    advance(desk.database, leases[-1], (), None)


@pytest.mark.real
def test_no_claim_and_no_run_wait_for_each_other_in_a_circle(postgresql_journal: Database) -> None:
    """A run that must wait for its instance's row holds no row that whoever has the instance may want next."""
    desk = Desk(postgresql_journal, enrolled(postgresql_journal))
    lease = desk.begun("a")
    desk.intend(lease, 0)
    seen = [Seen(0, StepState.DONE, changes=(InstanceIs(InstanceState.RUNNING), DeviceAdded(ROOT_DISK)))]
    waiting_for_a_lock = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with ThreadPoolExecutor(1) as pool:
        with desk.database.write() as claiming:
            claiming.execute(text("SELECT id FROM instances FOR UPDATE"))
            advancing = pool.submit(advance, desk.database, lease, seen, None)
            while True:
                with desk.database.read() as watching:
                    if watching.execute(waiting_for_a_lock).scalar_one() or advancing.done():
                        break
            claiming.execute(text("SELECT id FROM jobs FOR UPDATE NOWAIT"))
        advancing.result(timeout=30)
    assert desk.details("a").steps[0].state is StepState.DONE


# --- the fence

LATE_WRITES: dict[str, Callable[[Database, Lease], object]] = {
    "advance": lambda database, lease: advance(
        database,
        lease,
        [Seen(0, StepState.DONE, changes=(DeviceAdded(ROOT_DISK), InstanceIs(InstanceState.RUNNING)))],
        Intend(1, {}),
    ),
    "advance, nothing intended": lambda database, lease: advance(database, lease, [Seen(0, StepState.FOUND)], None),
    "attempt_failed": lambda database, lease: attempt_failed(database, lease, Direction.DO, 0, 1, TROUBLE),
    "begin_undo": lambda database, lease: begin_undo(database, lease, Verdict.FAILED, MISTAKE, ()),
    "settle": lambda database, lease: settle(
        database, lease, JobState.SUCCEEDED, undone_as=InstanceState.ABSENT, outbox=True
    ),
    "wait": lambda database, lease: wait(database, lease, SOON, TROUBLE),
    "quarantine": lambda database, lease: quarantine(database, lease, MISTAKE),
}
OVERTAKEN_BY: dict[str, Callable[[Desk, Lease], object]] = {
    "taken over by another worker": lambda desk, _lease: desk.claim("a", enrolled(desk.database)),
    "taken over by the same worker": lambda desk, _lease: desk.claim("a"),
    "superseded": lambda desk, _lease: desk.begun("d", "destroy"),
    "waiting": lambda desk, lease: wait(desk.database, lease, LATER, TROUBLE),
    "quarantined": lambda desk, lease: quarantine(desk.database, lease, MISTAKE),
    "settled": lambda desk, lease: settle(desk.database, lease, JobState.FAILED, outbox=True),
}


@pytest.mark.parametrize("write", sorted(LATE_WRITES))
@pytest.mark.parametrize("overtaken", sorted(OVERTAKEN_BY))
def test_a_lease_that_has_passed_writes_nothing(desk: Desk, write: str, overtaken: str) -> None:
    """Whatever a run still wants to write, once its epoch has passed it is told so and no row changes."""
    lease = desk.begun("a")
    desk.intend(lease, 0)
    OVERTAKEN_BY[overtaken](desk, lease)
    before = dump(desk.database)
    with pytest.raises(OvertakenError):
        LATE_WRITES[write](desk.database, lease)
    assert dump(desk.database) == before


def test_a_step_of_another_epoch_is_not_written(desk: Desk) -> None:
    """The epoch is checked on the step's own row too, and what was written beside it goes back."""
    lease = desk.begun("a")
    with desk.database.write() as connection:
        connection.execute(text("UPDATE steps SET epoch = epoch + 1 WHERE position = 1"))
    before = dump(desk.database)
    with pytest.raises(OvertakenError):
        advance(desk.database, lease, [Seen(0, StepState.FOUND)], Intend(1, {}))
    with pytest.raises(OvertakenError):
        advance(desk.database, lease, [Seen(0, StepState.FOUND), Seen(1, StepState.FOUND)], None)
    assert dump(desk.database) == before


# --- stepping


def test_the_done_of_a_step_and_the_intent_of_the_next_are_one_commit(desk: Desk) -> None:
    """When the intent cannot be written, neither is the done, nor what the inventory learnt."""
    lease = desk.begun("a")
    desk.intend(lease, 0)
    before = dump(desk.database)
    seen = [Seen(0, StepState.DONE, changes=(DeviceAdded(ROOT_DISK),))]
    with pytest.raises(OvertakenError):
        advance(desk.database, lease, seen, Intend(99, {}))
    assert dump(desk.database) == before
    advance(desk.database, lease, seen, Intend(1, {"b": 2}))
    steps = desk.details("a").steps
    assert [step.state for step in steps] == [StepState.DONE, StepState.INTENDED, StepState.PENDING]
    assert steps[1].intent == {"b": 2}
    instance = instance_record(desk.database, desk.instance)
    assert instance is not None
    assert instance.devices == (ROOT_DISK,)


def test_the_inventory_learns_in_the_commit_of_the_done(desk: Desk) -> None:
    """Devices come, are replaced and go, and the instance changes state, with the steps that tell of it."""
    lease = desk.begun("a")
    moved = replace(ROOT_DISK, details={"path": "/b"})
    cd = Device(DeviceKind.DISK, "cd")
    advance(
        desk.database,
        lease,
        [
            Seen(0, StepState.FOUND, changes=(DeviceAdded(ROOT_DISK), DeviceAdded(cd))),
            Seen(1, StepState.FOUND, changes=(DeviceAdded(moved), DeviceRemoved(DeviceKind.DISK, "cd"))),
            Seen(2, StepState.FOUND, changes=(InstanceIs(InstanceState.RUNNING),)),
        ],
        None,
    )
    instance = instance_record(desk.database, desk.instance)
    assert instance is not None
    assert instance.devices == (moved,)
    assert instance.state is InstanceState.RUNNING


def test_a_cancel_is_noticed_before_the_next_intent(desk: Desk) -> None:
    """What was seen is journaled, nothing is intended."""
    lease = desk.begun("a")
    desk.intend(lease, 0)
    assert request_cancel(desk.database, "a", Asked("test"), outbox=False).taken
    advanced = advance(desk.database, lease, [Seen(0, StepState.DONE)], Intend(1, {}))
    assert advanced.cancelled
    assert [step.state for step in desk.details("a").steps] == [StepState.DONE, StepState.PENDING, StepState.PENDING]


def test_a_cancel_is_noticed_at_the_point_of_no_return_itself(desk: Desk) -> None:
    """The intent that would pass the point is not written when the cancel was there first."""
    lease = desk.begun("a")
    request_cancel(desk.database, "a", Asked("test"), outbox=False)
    assert advance(desk.database, lease, (), Intend(0, {}, passes_return=True)).cancelled
    assert not desk.job("a").past_return


def test_past_the_point_of_no_return_no_cancel_is_noticed(desk: Desk) -> None:
    """From the intent on that passes the point there is only forward."""
    lease = desk.begun("a")
    advance(desk.database, lease, (), Intend(0, {}, passes_return=True))
    assert desk.job("a").past_return
    with desk.database.write() as connection:
        connection.execute(text("UPDATE jobs SET cancel_requested_at = submitted_at"))
    assert not advance(desk.database, lease, [Seen(0, StepState.DONE)], Intend(1, {})).cancelled


def test_no_cancel_is_noticed_while_undoing(desk: Desk) -> None:
    """A run that has turned round undoes all it made."""
    lease = desk.begun("a")
    desk.done(lease, 0)
    begin_undo(desk.database, lease, Verdict.FAILED, MISTAKE, ())
    request_cancel(desk.database, "a", Asked("test"), outbox=False)
    assert not advance(desk.database, lease, (), Intend(0, {}, Direction.UNDO)).cancelled


def test_attempts_are_counted(desk: Desk) -> None:
    """Each intent is an attempt with a row of its own, over take-overs too; how each ended stands there."""
    lease = desk.begun("a")
    assert desk.intend(lease) == 1
    attempt_failed(desk.database, lease, Direction.DO, 0, 1, TROUBLE)
    assert desk.intend(lease) == 2
    lease = desk.claim("a", enrolled(desk.database))
    assert desk.intend(lease) == 3
    advance(desk.database, lease, [Seen(0, StepState.DONE)], None)
    assert desk.details("a").steps[0].attempts == 3
    with desk.database.read() as connection:
        outcomes = connection.execute(text("SELECT number, outcome, epoch FROM step_attempts ORDER BY number")).all()
    assert outcomes[0] == (1, AttemptOutcome.ERROR, 1)
    assert outcomes[2] == (3, AttemptOutcome.MADE, 2)


def test_an_attempt_that_failed_leaves_its_step_intended(desk: Desk) -> None:
    """The effect may exist all the same; the error stands beside it."""
    lease = desk.begun("a")
    attempt = desk.intend(lease)
    attempt_failed(desk.database, lease, Direction.DO, 0, attempt, TROUBLE)
    step = desk.details("a").steps[0]
    assert (step.state, step.error, step.intent) == (StepState.INTENDED, TROUBLE, {"at": 0})


def test_only_what_was_intended_gets_a_row_to_be_undone_in(desk: Desk) -> None:
    """Done and intended steps are undone, in reverse; found, skipped and pending ones never."""
    terms = replace(DESTROY_TERMS, steps=("Found", "Done", "Skipped", "Intended", "Pending"))
    desk.submit("a", "five")
    lease = claim(desk.database, "a", desk.claimant, lambda _job: terms, outbox=False)
    assert isinstance(lease, Lease)
    advance(desk.database, lease, [Seen(0, StepState.FOUND)], Intend(1, {}))
    advance(desk.database, lease, [Seen(1, StepState.DONE), Seen(2, StepState.SKIPPED)], Intend(3, {}))
    records = begin_undo(desk.database, lease, Verdict.FAILED, MISTAKE, ())
    assert [(record.name, record.state) for record in records if record.direction is Direction.UNDO] == [
        ("Intended", StepState.PENDING),
        ("Done", StepState.PENDING),
    ]
    job = desk.job("a")
    assert (job.state, job.verdict, job.error) == (JobState.RUNNING, Verdict.FAILED, MISTAKE)


def test_a_step_that_was_skipped_after_its_intent_is_not_undone(desk: Desk) -> None:
    """Whoever skipped it has answered for what the intent may have left."""
    lease = desk.begun("a")
    desk.intend(lease, 0)
    records = begin_undo(desk.database, lease, Verdict.FAILED, MISTAKE, [Seen(0, StepState.SKIPPED)])
    assert [record for record in records if record.direction is Direction.UNDO] == []


def test_a_found_step_that_had_to_be_made_after_all_is_undone(desk: Desk) -> None:
    """What was there at the first look, and was gone and made by this job later, is this job's to undo."""
    lease = desk.begun("a")
    advance(desk.database, lease, [Seen(0, StepState.FOUND)], None)
    lease = desk.claim("a", enrolled(desk.database))
    desk.done(lease, 0)
    records = begin_undo(desk.database, lease, Verdict.FAILED, None, ())
    assert [record.name for record in records if record.direction is Direction.UNDO] == ["First"]


def test_waits_count_from_the_last_step_that_got_on(desk: Desk) -> None:
    """Seeing again what an earlier claim had seen already is not getting on: the backoff grows."""
    lease = desk.begun("a")
    for waits in (1, 2, 3):
        desk.intend(lease, 1, seen=[Seen(0, StepState.FOUND)])
        wait(desk.database, lease, SOON, TROUBLE)
        assert desk.job("a").waits == waits
        lease = desk.claim("a")
    desk.done(lease, 1)
    wait(desk.database, lease, SOON, TROUBLE, progressed=True)
    assert desk.job("a").waits == 1


# --- settling


@pytest.mark.parametrize("state", sorted(FINAL), ids=str)
def test_settling_ends_a_run_in_one_commit(desk: Desk, state: JobState) -> None:
    """Job, run, exactly one final event, and the letter that tells Celery."""
    error = MISTAKE if state is JobState.FAILED else None
    lease = desk.begun("a")
    settle(desk.database, lease, state, error=error, seen=[Seen(0, StepState.FOUND)], outbox=True)
    details = desk.details("a")
    assert (details.job.state, details.job.error) == (state, error)
    assert details.job.ended_at is not None
    assert details.job.outcome == {
        "job": "a",
        "operation": "spawn",
        "instance": str(desk.instance),
        "host": "h1",
        "run": 1,
        "state": state.value,
        "error": None if error is None else error.as_json(),
    }
    assert desk.scalar("SELECT state FROM runs") == state.value
    assert desk.scalar("SELECT owner FROM jobs") is None
    assert [event.type for event in details.events] == ["submitted", "claimed", state.value]
    assert details.steps[0].state is StepState.FOUND
    assert letters(desk) == [("outcome", "a", "h1")]


def test_without_anyone_to_tell_no_letter_is_left(desk: Desk) -> None:
    """One machine with neither broker nor result backend keeps an empty outbox."""
    settle(desk.database, desk.begun("a"), JobState.SUCCEEDED, outbox=False)
    assert letters(desk) == []


def test_a_job_that_succeeds_after_an_error_has_none(desk: Desk) -> None:
    """The error of a wait is gone once the job got through."""
    wait(desk.database, desk.begun("a"), SOON, TROUBLE)
    settle(desk.database, desk.claim("a"), JobState.SUCCEEDED, outbox=False)
    assert desk.job("a").error is None


def test_an_instance_is_undone_by_the_job_that_began_it(desk: Desk) -> None:
    """A spawn that failed leaves its instance absent."""
    settle(desk.database, desk.begun("a"), JobState.FAILED, undone_as=InstanceState.ABSENT, outbox=False)
    instance = instance_record(desk.database, desk.instance)
    assert instance is not None
    assert instance.state is InstanceState.ABSENT


def test_an_instance_is_not_undone_by_a_job_that_found_it(desk: Desk) -> None:
    """A second spawn that fails does not take the first one's instance out of the inventory."""
    made = [Seen(0, StepState.FOUND, changes=(InstanceIs(InstanceState.RUNNING),))]
    settle(desk.database, desk.begun("a"), JobState.SUCCEEDED, seen=made, outbox=False)
    settle(desk.database, desk.begun("b"), JobState.FAILED, undone_as=InstanceState.ABSENT, outbox=False)
    instance = instance_record(desk.database, desk.instance)
    assert instance is not None
    assert instance.state is InstanceState.RUNNING


@pytest.mark.parametrize(("host", "rung"), [("h1", []), ("h2", [("ring", "b", "h2")])])
def test_settling_rings_the_next_job_on_another_host(desk: Desk, host: str, rung: list[tuple[str, str, str]]) -> None:
    """On its own host the worker that settles takes the next job itself."""
    lease = desk.begun("a")
    desk.submit("b", host=host)
    settle(desk.database, lease, JobState.SUCCEEDED, outbox=True)
    assert letters(desk) == [("outcome", "a", "h1"), *rung]


# --- waiting and quarantine


def test_a_waiting_job_is_nobodys(desk: Desk) -> None:
    """It has no owner, it has an hour before it, and its error says why."""
    wait(desk.database, desk.begun("a"), LATER, TROUBLE, [Seen(0, StepState.FOUND)])
    job = desk.job("a")
    assert (job.state, job.error, job.waits) == (JobState.WAITING, TROUBLE, 1)
    assert desk.scalar("SELECT owner FROM jobs") is None
    with desk.database.read() as connection:
        now = connection.execute(select(now_in_database())).scalar_one()
    assert job.not_before is not None
    assert timedelta(minutes=59) < job.not_before - now < timedelta(minutes=61)
    assert desk.events("a") == ["submitted", "claimed", "waiting"]
    assert letters(desk) == []


def test_an_undoing_job_that_waits_keeps_the_error_it_will_fail_with(desk: Desk) -> None:
    """What the undoing waits for stands in the history."""
    lease = desk.begun("a")
    begin_undo(desk.database, lease, Verdict.FAILED, MISTAKE, ())
    lease = replace(lease, job=desk.job("a"))
    wait(desk.database, lease, SOON, TROUBLE)
    assert desk.job("a").error == MISTAKE
    assert desk.details("a").events[-1].data["error"] == TROUBLE.as_json()


def test_a_quarantined_job_says_why_and_tells_celery_nothing(desk: Desk) -> None:
    """It is not settled: no final event, no letter."""
    quarantine(desk.database, desk.begun("a"), MISTAKE, [Seen(0, StepState.FOUND)])
    job = desk.job("a")
    assert (job.state, job.error, job.outcome, job.ended_at) == (JobState.QUARANTINED, MISTAKE, None, None)
    assert desk.events("a") == ["submitted", "claimed", "quarantined"]
    assert letters(desk) == []


# --- cancelling


def test_a_queued_job_is_cancelled_at_once(desk: Desk) -> None:
    """Nothing of it was begun; it is settled with its event and its letter."""
    desk.submit("a")
    answer = request_cancel(desk.database, "a", Asked("ops", "not needed"), outbox=True)
    assert (answer.taken, answer.sentence) == (True, "job a is cancelled; nothing of it was begun.")
    details = desk.details("a")
    assert details.job.state is JobState.CANCELLED
    assert [(event.type, event.actor) for event in details.events[1:]] == [
        ("cancel_requested", "ops"),
        ("cancelled", "worker"),
    ]
    assert letters(desk) == [("outcome", "a", "h1")]


@pytest.mark.parametrize("state", ["running", "waiting"])
def test_a_begun_job_is_asked_to_stop(desk: Desk, state: str) -> None:
    """It goes on holding its instance until it has been undone."""
    lease = desk.begun("a")
    if state == "waiting":
        wait(desk.database, lease, LATER, TROUBLE)
    answer = request_cancel(desk.database, "a", Asked("ops"), outbox=True)
    assert (answer.taken, answer.sentence) == (True, f"job a is {state}; it stops at its next safe point.")
    job = desk.job("a")
    assert (job.state, job.cancel_requested) == (JobState(state), True)
    assert letters(desk) == []


def test_a_waiting_job_that_is_asked_to_stop_waits_no_longer(desk: Desk) -> None:
    """The sweeper takes it at once to undo it."""
    wait(desk.database, desk.begun("a"), LATER, TROUBLE)
    request_cancel(desk.database, "a", Asked("ops"), outbox=False)
    assert claimable_now(desk) == ["a"]
    assert desk.claim("a").job.cancel_requested


def test_the_undoing_of_a_cancelled_job_waits_its_time(desk: Desk) -> None:
    """Once the cancel was noticed, what the undoing waits for is waited for."""
    lease = desk.begun("a")
    desk.done(lease, 0)
    request_cancel(desk.database, "a", Asked("ops"), outbox=False)
    begin_undo(desk.database, lease, Verdict.CANCELLED, None, ())
    wait(desk.database, replace(lease, job=desk.job("a")), LATER, TROUBLE)
    assert claimable_now(desk) == []
    assert refusal(desk.try_claim("a")).startswith("it waits until")


def _past_return(desk: Desk) -> None:
    advance(desk.database, desk.begun("a"), (), Intend(0, {}, passes_return=True))


def _asked_already(desk: Desk) -> None:
    desk.begun("a")
    request_cancel(desk.database, "a", Asked("ops"), outbox=False)


def _settled_as(state: JobState) -> Callable[[Desk], object]:
    return lambda desk: settle(desk.database, desk.begun("a"), state, outbox=False)


def _stuck_past_return(desk: Desk) -> None:
    lease = desk.begun("a")
    advance(desk.database, lease, (), Intend(0, {}, passes_return=True))
    quarantine(desk.database, lease, MISTAKE)


def _stuck_in_undo(desk: Desk) -> None:
    lease = desk.begun("a")
    desk.done(lease, 0)
    begin_undo(desk.database, lease, Verdict.FAILED, MISTAKE, ())
    quarantine(desk.database, lease, MISTAKE)


REFUSED_CANCELS: dict[str, tuple[Callable[[Desk], object], str]] = {
    "quarantined past return": (
        _stuck_past_return,
        "job a is past its point of no return: spawn can only go forward; it is quarantined, so resume or settle it.",
    ),
    "quarantined in its undoing": (
        _stuck_in_undo,
        "job a is being undone already; it is quarantined, so resume or settle it.",
    ),
    "past return": (_past_return, "job a is past its point of no return: spawn can only go forward."),
    "asked already": (_asked_already, "job a was asked to stop already."),
} | {state.value: (_settled_as(state), f"job a has {state.value} already.") for state in sorted(FINAL)}


@pytest.mark.parametrize("case", sorted(REFUSED_CANCELS))
def test_a_cancel_that_is_refused_says_why(desk: Desk, case: str) -> None:
    """The job's row stays as it is, and its history tells of the request."""
    arrange, sentence = REFUSED_CANCELS[case]
    arrange(desk)
    before = desk.job("a")
    answer = request_cancel(desk.database, "a", Asked("ops", "I said so"), outbox=True)
    assert (answer.taken, answer.sentence) == (False, sentence)
    assert desk.job("a") == before
    last = desk.details("a").events[-1]
    assert (last.type, last.actor, last.data) == (
        "cancel_refused",
        "ops",
        {"reason": "I said so", "because": sentence},
    )
    assert letters(desk) == []


def test_a_job_that_nobody_knows_cannot_be_cancelled(desk: Desk) -> None:
    """Nothing is written."""
    before = dump(desk.database)
    answer = request_cancel(desk.database, "nobody", Asked("ops"), outbox=True)
    assert (answer.taken, answer.sentence) == (False, "there is no job nobody.")
    assert dump(desk.database) == before


# --- the outbox


def test_a_letter_stays_until_it_was_delivered(desk: Desk) -> None:
    """A failed try is counted with its error; the letter lies there as before."""
    accept(desk.database, submission("a", canvas={"link": 1}), outbox=True)
    [letter] = outbox.undelivered(desk.database, host="h1")
    assert (letter.kind, letter.host, letter.run, letter.job.id, letter.canvas) == (
        OutboxKind.RING,
        "h1",
        1,
        "a",
        {"link": 1},
    )
    outbox.not_delivered(desk.database, letter, "no route" * 1000)
    assert outbox.undelivered(desk.database, host="h1") == [replace(letter, tries=1)]
    assert desk.scalar("SELECT tries FROM outbox") == 1
    assert desk.scalar("SELECT error FROM outbox").startswith("no route")
    outbox.delivered(desk.database, letter)
    assert outbox.undelivered(desk.database, host="h1") == []
    assert desk.scalar("SELECT tries FROM outbox") == 2
    assert desk.scalar("SELECT error FROM outbox") is None


def test_a_letter_that_lies_about_is_taken_over_by_one(desk: Desk) -> None:
    """Of those who saw it in the same state, one delivers it; who sees it later may try again."""
    accept(desk.database, submission("a"), outbox=True)
    [letter] = outbox.undelivered(desk.database)
    assert [outbox.take_over(desk.database, letter) for _ in range(2)] == [True, False]
    [again] = outbox.undelivered(desk.database)
    assert outbox.take_over(desk.database, again)
    outbox.delivered(desk.database, letter)
    assert not outbox.take_over(desk.database, replace(again, tries=again.tries + 2))


def test_letters_are_told_apart_by_host_job_and_age(desk: Desk) -> None:
    """Anyone may ring; what a job came to is told by its own host; a fresh letter is left to who wrote it."""
    accept(desk.database, submission("a", host="h2"), outbox=True)
    settle(desk.database, desk.begun("b"), JobState.SUCCEEDED, outbox=True)

    def found(**conditions: Any) -> list[str]:
        return [one.job.id for one in outbox.undelivered(desk.database, **conditions)]

    assert found() == ["a", "b"]
    assert found(kind=OutboxKind.RING) == ["a"]
    assert found(kind=OutboxKind.OUTCOME, host="h1") == ["b"]
    assert found(kind=OutboxKind.OUTCOME, host="h2") == []
    assert found(job="b") == ["b"]
    assert found(limit=1) == ["a"]
    assert found(min_age=timedelta(hours=1)) == []


# --- what a sweeper takes


def _many_jobs(desk: Desk) -> None:
    """Jobs in every state, alone and behind each other."""
    for number, state in enumerate(["queued", "running", "waiting", "due", "quarantined", "settled", "cancelling"]):
        for follower in ("spawn", "destroy", "none"):
            of = Desk(desk.database, desk.claimant)
            job_id = f"{number}-{state}-before-{follower}"
            of.submit(job_id)
            if state != "queued":
                lease = of.claim(job_id)
                if state in {"waiting", "due", "cancelling"}:
                    wait(of.database, lease, SOON if state == "due" else LATER, TROUBLE)
                elif state == "quarantined":
                    quarantine(of.database, lease, MISTAKE)
                elif state == "settled":
                    settle(of.database, lease, JobState.SUCCEEDED, outbox=False)
                if state == "cancelling":
                    request_cancel(of.database, job_id, Asked("ops"), outbox=False)
            if follower != "none":
                of.submit(f"{number}-{follower}-after-{state}", follower)
                of.submit(f"{number}-destroy-after-{follower}-after-{state}", "destroy")
    desk.submit("elsewhere", instance=uuid4(), host="h2")


def test_a_sweeper_takes_what_a_claim_would_give(desk: Desk) -> None:
    """Of jobs in every state it lists exactly those whose claim succeeds, in order of submission."""
    _many_jobs(desk)
    enrolled(desk.database, "h2")
    with desk.database.read() as connection:
        everything = list(connection.execute(text("SELECT id FROM jobs ORDER BY number")).scalars())
    listed = claimable_now(desk)
    rehearsal = replace(desk, database=Rehearsal(desk.database))
    assert listed == [job_id for job_id in everything if isinstance(rehearsal.try_claim(job_id), Lease)]
    assert len(listed) > 10


class Rehearsal(Database):
    """The same database, of which nothing that is written is kept."""

    def __init__(self, original: Database) -> None:
        self.engine = original.engine

    @contextmanager
    @override
    def write(self) -> Iterator[Connection]:
        with self.engine.connect() as connection, connection.begin() as transaction:
            yield connection
            transaction.rollback()


def test_a_sweeper_takes_nothing_that_is_in_hand(desk: Desk) -> None:
    """A running job counts once no thread of this process has it."""
    desk.begun("a")
    assert claimable_now(desk) == ["a"]
    assert claimable_now(desk, in_hand={"a"}) == []


def test_a_sweeper_takes_jobs_of_the_classes_and_the_host_it_was_asked_for(desk: Desk) -> None:
    """No more than there are slots, the oldest first."""
    desk.submit("a")
    desk.submit("b", "destroy", instance=uuid4())
    desk.submit("c", instance=uuid4())
    desk.submit("d", instance=uuid4(), host="h2")
    assert claimable_now(desk) == ["a", "b", "c"]
    assert claimable_now(desk, limit=2) == ["a", "b"]
    assert claimable_now(desk, classes=[JobClass.DESTROY]) == ["b"]
    assert claimable_now(desk, classes=[]) == []
    assert claimable_now(desk, "h2") == ["d"]


# --- hosts


def test_a_host_name_is_bound_to_one_machine(desk: Desk) -> None:
    """Another machine, or another libvirt host, under that name is refused and registers nothing."""
    mine = Registration("h1", "machine-of-h1", UUID(int=1), "qemu:///test", uuid4(), 1, "0")
    register(desk.database, mine)
    before = dump(desk.database)
    for other in (replace(mine, machine_id="another"), replace(mine, libvirt_host_uuid=UUID(int=2))):
        with pytest.raises(HostBoundElsewhereError, match=r"HOSTLER_HOST: the name h1 is bound to machine"):
            register(desk.database, replace(other, worker=uuid4()))
    assert dump(desk.database) == before


# --- replay


def replayed(details: JobDetails) -> dict[str, Any]:  # noqa: C901, PLR0912  # a case for each type of event
    """What a job's events alone say of its row."""
    row: dict[str, Any] = {"error": None, "outcome": None, "verdict": None, "epoch": 0, "cancel_requested": False}
    row |= {"past_return": False, "waits": 0, "home": None, "peer": None, "hopping": False}
    row |= {"force_complete_requested": False}
    for event in details.events:
        data = event.data
        row["run"] = event.run
        match EventType(event.type):
            case EventType.SUBMITTED:
                row |= {"state": "queued", "sent_to": data["host"], "version": None}
                row |= {name: data[name] for name in ("operation", "instance", "host", "request")}
            case EventType.CLAIMED:
                row |= {"state": "running", "epoch": data["epoch"], "version": data["version"], "not_before": None}
                row |= {"hopping": False, "home": row["home"] or data["host"], "peer": data["peer"]}
            case EventType.HOPPED:
                row |= {"state": "waiting", "host": data["to"], "hopping": True, "waits": 0}
                row |= {"not_before": data["not_before"], "error": row["error"] if row["verdict"] else None}
            case EventType.REDIRECTED:
                row["host"] = data["to"]
            case EventType.WAITING:
                row |= {"state": "waiting", "not_before": data["not_before"], "waits": data["waits"]}
                row["error"] = row["error"] if row["verdict"] else data["error"]
            case EventType.UNDOING:
                row |= {"verdict": data["verdict"], "error": data["error"], "waits": 0}
            case EventType.PAST_RETURN:
                row["past_return"] = True
            case EventType.QUARANTINED:
                row |= {"state": "quarantined", "error": data["error"]}
            case EventType.CANCEL_REQUESTED:
                row["cancel_requested"] = True
            case EventType.FORCE_COMPLETE_REQUESTED:
                row["force_complete_requested"] = True
            case EventType.SUCCEEDED | EventType.FAILED | EventType.CANCELLED:
                row |= {"state": event.type, "outcome": data["outcome"], "error": data.get("error", row["error"])}
                row |= {"not_before": None, "hopping": False}
            case _:  # refused cancels and rings change nothing
                pass
    return {"not_before": None} | row


def standing(details: JobDetails) -> dict[str, Any]:
    """The same of the job's row itself."""
    job = details.job
    return {
        "operation": job.operation,
        "instance": str(job.instance),
        "request": job.request,
        "sent_to": job.sent_to,
        "host": job.host,
        "version": job.operation_version,
        "state": job.state.value,
        "run": job.run,
        "epoch": job.epoch,
        "verdict": None if job.verdict is None else job.verdict.value,
        "error": None if job.error is None else job.error.as_json(),
        "outcome": job.outcome,
        "cancel_requested": job.cancel_requested,
        "past_return": job.past_return,
        "waits": job.waits,
        "not_before": None if job.not_before is None else job.not_before.isoformat(),
        "home": job.home,
        "peer": job.peer,
        "hopping": job.hopping,
        "force_complete_requested": job.force_complete_requested,
    }


def _lived_undone(desk: Desk) -> None:
    lease = desk.begun("a")
    desk.done(lease, 0)
    wait(desk.database, lease, SOON, TROUBLE)
    lease = desk.claim("a")
    begin_undo(desk.database, lease, Verdict.FAILED, MISTAKE, ())
    wait(desk.database, replace(lease, job=desk.job("a")), SOON, TROUBLE)
    settle(desk.database, desk.claim("a"), JobState.FAILED, error=MISTAKE, outbox=False)


def _lived_redirected(desk: Desk) -> None:
    settle(
        desk.database,
        desk.begun("first"),
        JobState.SUCCEEDED,
        seen=[Seen(0, StepState.FOUND, changes=(InstanceIs(InstanceState.RUNNING),))],
        outbox=False,
    )
    desk.submit("a", "destroy", host="h2")
    desk.try_claim("a", enrolled(desk.database, "h2"))
    desk.claim("a")


def _lived_superseded(desk: Desk) -> None:
    wait(desk.database, desk.begun("a"), SOON, TROUBLE)
    desk.begun("d", "destroy")


def _lived_cancelled(desk: Desk) -> None:
    lease = desk.begun("a")
    request_cancel(desk.database, "a", Asked("ops"), outbox=False)
    request_cancel(desk.database, "a", Asked("ops"), outbox=False)
    begin_undo(desk.database, lease, Verdict.CANCELLED, None, ())
    settle(desk.database, lease, JobState.CANCELLED, outbox=False)


def _lived_cancelled_before_it_began(desk: Desk) -> None:
    desk.submit("a")
    request_cancel(desk.database, "a", Asked("ops"), outbox=False)


LIVES: dict[str, Callable[[Desk], object]] = {
    "queued": lambda desk: desk.submit("a"),
    "running": lambda desk: desk.begun("a"),
    "waiting": lambda desk: wait(desk.database, desk.begun("a"), LATER, TROUBLE),
    "quarantined": lambda desk: quarantine(desk.database, desk.begun("a"), MISTAKE),
    "succeeded": lambda desk: settle(desk.database, desk.begun("a"), JobState.SUCCEEDED, outbox=False),
    "undone": _lived_undone,
    "redirected": _lived_redirected,
    "superseded": _lived_superseded,
    "cancelled": _lived_cancelled,
    "cancelled before it began": _lived_cancelled_before_it_began,
}


@pytest.mark.parametrize("life", sorted(LIVES))
def test_replaying_the_events_of_a_job_rebuilds_its_row(desk: Desk, life: str) -> None:
    """The history says all that the row says, of a job that lived any of these lives."""
    LIVES[life](desk)
    details = desk.details("a")
    assert replayed(details) == standing(details)


#: What of a job's row its events do not tell: numbers and moments that the database gave, what follows from the
#: operation, how the run stands at its steps, how far the call has come that it is in, and that the history is gone.
NOT_IN_HISTORY = {"id", "number", "job_class", "submitted_at", "started_at", "ended_at", "progress", "pruned_at"}


def test_what_the_history_does_not_tell_is_known(desk: Desk) -> None:
    """A new field of a job is told by its events, or stands in the list of those that are not."""
    told = {{"version": "operation_version"}.get(name, name) for name in standing(desk.details(desk.submit("a").id))}
    assert {one.name for one in fields(JobRecord)} == told | NOT_IN_HISTORY


def test_a_step_that_is_looked_at_again_ended_when_it_ended(desk: Desk) -> None:
    """How long it took is not how long the job waited since."""
    lease = desk.begun("a")
    desk.done(lease, 0)
    ended = desk.details("a").steps[0].ended_at
    advance(desk.database, lease, [Seen(0, StepState.DONE)], None)
    assert desk.details("a").steps[0].ended_at == ended
    desk.done(lease, 0)
    again = desk.details("a").steps[0].ended_at
    assert ended is not None
    assert again is not None
    assert again > ended
