"""A job that arrives in a message is recorded and claimed in one commit, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from models.journal.accepting import Accepted, DifferentPayloadError
from models.journal.arriving import accept_and_claim
from models.journal.claiming import Claimant, Lease, NotNow
from models.states import EventType, JobState
from models.submission import Submission
from tests.builders import SPAWN_REQUEST, Desk, dump, enrolled, submission, terms_of

pytest_plugins = ["tests.builders"]

#: Rounds of the race: enough to meet a deadlock nearly always, where there is one.
ROUNDS = 15


def arrive(desk: Desk, asked: Submission, claimant: Claimant | None = None) -> tuple[Accepted, Lease | NotNow]:
    """As a worker's ring does it."""
    return accept_and_claim(desk.database, asked, claimant or desk.claimant, terms_of, outbox=False)


def test_a_new_job_is_recorded_and_claimed(desk: Desk) -> None:
    """Its history is that of a job that was first accepted, then claimed."""
    accepted, claimed = arrive(desk, submission("a", instance=desk.instance))
    assert accepted.new
    assert isinstance(claimed, Lease)
    assert (claimed.job.state, claimed.epoch) == (JobState.RUNNING, 1)
    assert [event.type for event in desk.details("a").events] == [EventType.SUBMITTED, EventType.CLAIMED]


def test_one_that_must_wait_is_recorded(desk: Desk) -> None:
    """Accepted is accepted, whoever stands before it."""
    desk.begun("first")
    accepted, claimed = arrive(desk, submission("second", "attach_volume", instance=desk.instance))
    assert accepted.new
    assert isinstance(claimed, NotNow)
    assert desk.job("second").state is JobState.QUEUED


def test_a_destroy_takes_the_instance_over_as_it_arrives(desk: Desk) -> None:
    """Superseding is a part of the claim."""
    desk.begun("first")
    _, claimed = arrive(desk, submission("last", "destroy", instance=desk.instance, request={}))
    assert isinstance(claimed, Lease)
    assert claimed.superseded == ("first",)
    assert desk.job("first").state is JobState.CANCELLED


def test_another_payload_under_a_known_id_changes_nothing(desk: Desk) -> None:
    """Neither is it recorded nor is the job claimed."""
    desk.submit("a")
    before = dump(desk.database)
    with pytest.raises(DifferentPayloadError):
        arrive(desk, submission("a", instance=desk.instance, request={**SPAWN_REQUEST, "memory_mib": 65}))
    assert dump(desk.database) == before


def test_a_worker_whose_host_another_has_taken_records_and_claims_nothing(desk: Desk) -> None:
    """The new worker finds the job as its sender left it."""
    old = desk.claimant
    enrolled(desk.database)
    accepted, claimed = arrive(desk, submission("a", instance=desk.instance), old)
    assert accepted.new
    assert isinstance(claimed, NotNow)
    assert desk.job("a").state is JobState.QUEUED
    assert desk.job("a").epoch == 0


def test_two_hosts_that_get_jobs_of_one_instance_at_once_do_not_wait_for_each_other_in_a_circle(desk: Desk) -> None:
    """Each records its job; one at most is claimed."""
    other = enrolled(desk.database, "h2")
    for _ in range(ROUNDS):
        instance = uuid4()
        jobs = [(f"{instance}-{host.host}", host) for host in (desk.claimant, other)]
        with ThreadPoolExecutor(len(jobs)) as pool:
            came = list(
                pool.map(
                    lambda job: arrive(desk, submission(job[0], instance=instance, host=job[1].host), job[1]),  # noqa: B023  # done before the next round
                    jobs,
                )
            )
        assert all(accepted.new for accepted, _ in came)
        assert sum(isinstance(claimed, Lease) for _, claimed in came) == 1
