"""What a plain Celery client sees."""

import base64
import json
import threading
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import chord, group

from models import reading
from tests.lab.hosts import LibvirtHost
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.site import Site
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

SENDERS = 20
MISDIRECTED = 5


def test_one_spawn_from_twenty_senders_is_one_domain_one_boot_and_each_link_fires_once(
    libvirt_host: LibvirtHost,
    site: Site,
    redis_url: str,
    orchestrator: Orchestrator,
    instance: UUID,
    small_guest: dict[str, Any],
    postgresql_url: str,
) -> None:
    """The same message from everywhere, to its host's queue and to another's, is one job with one outcome."""
    with Site(libvirt=None, host="h2", database_url=postgresql_url, broker_url=redis_url) as other:
        site.start_worker(settings={"THREADS": "16", "DESTROY_LIMIT": "4", "ATTACH_LIMIT": "1", "POWER_LIMIT": "1"})
        other.start_worker()
        job_id = str(uuid4())
        watch = orchestrator.states_seen(job_id)
        link = orchestrator.app.signature("audit.spawned", queue="audit", immutable=False)
        barrier = threading.Barrier(SENDERS)

        def send(number: int) -> None:
            sender = Orchestrator(redis_url)
            queue = "host.h2" if number < MISDIRECTED else "host.h1"
            message = sender.signature("spawn", instance, small_guest, job_id=job_id, queue=queue)
            barrier.wait(timeout=30)
            message.apply_async(link=link)
            sender.close()

        threads = [threading.Thread(target=send, args=(number,)) for number in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        outcome = orchestrator.result(job_id).get(timeout=RESULT_WITHIN_S)
        job = site.job(job_id)

        assert outcome == job["outcome"]
        assert (outcome["state"], outcome["host"], outcome["job"]) == ("succeeded", "h1", job_id)
        assert watch.states(quiet_for_s=3.0) == ["STARTED", "SUCCESS"]
        watch.close()
        assert libvirt_host.boots(instance) == 1
        assert other.boots(instance) == 0
        assert [event["type"] for event in job["events"]].count("succeeded") == 1
        with orchestrator.app.connection_for_read() as connection:
            assert connection.default_channel.client.llen("audit") == 1
        orchestrator.send("destroy", instance, {}).get(timeout=RESULT_WITHIN_S)
        assert site.files() == []


def test_a_failed_job_raises_job_failed_with_its_outcome(
    site: Site, orchestrator: Orchestrator, instance: UUID
) -> None:
    """A client without our packages gets the reason, in the words of the journal, and links on errors fire."""
    site.start_worker()
    request = {"name": "x", "memory_mib": 40, "image": {"path": "/etc/passwd", "format": "raw"}}
    sent = orchestrator.signature("spawn", instance, request)
    result = sent.apply_async(link_error=orchestrator.app.signature("audit.failed", queue="audit"))

    with pytest.raises(Exception, match="image root") as raised:
        result.get(timeout=RESULT_WITHIN_S)

    assert type(raised.value).__name__ == "JobFailed"
    outcome = raised.value.args[0]
    assert outcome["error"] == site.job(result.id)["error"]
    assert outcome["error"]["class"] == "permanent"
    with orchestrator.app.connection_for_read() as connection:
        eventually(lambda: connection.default_channel.client.llen("audit") == 1, "the error link is sent")
    assert site.files() == []


def test_a_bad_request_fails_with_one_sentence_and_leaves_nothing_in_the_journal(
    site: Site, orchestrator: Orchestrator, instance: UUID
) -> None:
    """What cannot be a job is told to its sender, and is not one."""
    site.start_worker()
    result = orchestrator.send("spawn", instance, {"name": "x", "memory_mib": "much", "disk_gib": 1})

    with pytest.raises(Exception, match="memory_mib: input should be a valid integer"):
        result.get(timeout=RESULT_WITHIN_S)

    assert reading.job(site.database, result.id) is None
    assert reading.instance(site.database, instance) is None


def test_nonsense_in_the_queue_neither_ends_the_worker_nor_overwrites_a_job(
    site: Site, orchestrator: Orchestrator, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """Messages whose frame makes no sense are thrown away; the job whose id they carry stays as it is."""
    site.start_worker()
    spawned = orchestrator.send("spawn", instance, small_guest)
    outcome = spawned.get(timeout=RESULT_WITHIN_S)
    known = {"id": spawned.id, "lang": "py", "root_id": spawned.id, "argsrepr": "", "kwargsrepr": ""}
    headers = [
        known | {"task": "compute.nosuch"},
        known | {"task": "compute.spawn", "id": ["a"]},
        known | {"task": [[1]]},
        {"task": "compute.spawn"},
    ]
    bodies = [[[], {}, {}], [1, {}, {}], [[], {"self": 1}, {}], "text", 7, {}]
    with orchestrator.app.connection_for_write() as connection:
        producer = connection.Producer(serializer="json")
        for header in [*headers, known | {"task": "compute.spawn"}]:
            for body in bodies:
                producer.publish(body, routing_key="host.h1", headers=header)

    link = orchestrator.app.signature("audit.x", kwargs={"text": "a\x00b"}, queue="audit")
    with pytest.raises(Exception, match="cannot hold it"):
        orchestrator.signature("destroy", uuid4(), {}).apply_async(link=link).get(timeout=RESULT_WITHIN_S)
    assert orchestrator.send("destroy", instance, {}).get(timeout=RESULT_WITHIN_S)["state"] == "succeeded"
    assert site.worker.alive
    assert (orchestrator.result(spawned.id).state, orchestrator.result(spawned.id).get(timeout=5)) == (
        "SUCCESS",
        outcome,
    )


def test_jobs_of_one_instance_are_recorded_in_the_order_in_which_they_were_sent(
    site: Site, orchestrator: Orchestrator, small_guest: dict[str, Any]
) -> None:
    """A spawn and, without waiting, its destroy, many times: in the end no guest is left."""
    site.start_worker()
    pairs = []
    for number in range(15):
        instance = UUID(int=uuid4().int ^ number)
        pairs.append((orchestrator.send("spawn", instance, small_guest), orchestrator.send("destroy", instance, {})))
    for _, destroy in pairs:
        assert destroy.get(timeout=RESULT_WITHIN_S)["state"] == "succeeded"
    numbers = [
        tuple(job.number for sent in pair if (job := reading.job(site.database, sent.id)) is not None) for pair in pairs
    ]
    assert all(first < second for first, second in numbers), numbers
    assert site.files() == []


def test_a_worker_that_is_told_to_stop_takes_nothing_new(
    site: Site, orchestrator: Orchestrator, small_guest: dict[str, Any]
) -> None:
    """It ends with what it has in hand, however long the line; the next one goes on."""
    site.start_worker(settings={"SPAWN_LIMIT": "1"})
    sent = [orchestrator.send("spawn", uuid4(), small_guest) for _ in range(12)]
    eventually(lambda: site.state_of(sent[0].id) == "succeeded", "the first is done", 30)

    assert site.worker.terminate(30) == 0

    left = [result.id for result in sent if site.state_of(result.id) in {"queued", None}]
    assert len(left) > 4
    site.start_worker()
    instances = [result.get(timeout=RESULT_WITHIN_S)["instance"] for result in sent]
    for gone in [orchestrator.send("destroy", UUID(instance), {}) for instance in instances]:
        gone.get(timeout=RESULT_WITHIN_S)


def test_a_known_id_with_another_payload_is_refused_and_overwrites_nothing(
    site: Site, orchestrator: Orchestrator, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """Neither another request nor nonsense under the id of a job changes its state, in Celery or in the journal."""
    site.start_worker()
    first = orchestrator.send("spawn", instance, small_guest)
    outcome = first.get(timeout=RESULT_WITHIN_S)

    orchestrator.send("spawn", instance, small_guest | {"memory_mib": 48}, job_id=first.id)
    orchestrator.send("destroy", instance, {"no": "such field"}, job_id=first.id)

    def refusals() -> int:
        return [event["type"] for event in site.job(first.id)["events"]].count("ring_refused")

    eventually(lambda: refusals() == 2, "both are refused")
    assert orchestrator.result(first.id).state == "SUCCESS"
    assert orchestrator.result(first.id).get(timeout=5) == outcome
    orchestrator.send("destroy", instance, {}).get(timeout=RESULT_WITHIN_S)


def test_a_chord_of_jobs_calls_its_body_once_with_their_outcomes(
    site: Site, orchestrator: Orchestrator, small_guest: dict[str, Any]
) -> None:
    """Two spawns side by side, then a body that is no job of ours; then both destroyed as a group."""
    site.start_worker()
    instances = [uuid4(), uuid4()]
    spawns = [orchestrator.signature("spawn", instance, small_guest) for instance in instances]

    chord(spawns, app=orchestrator.app)(orchestrator.app.signature("audit.both", queue="audit"))

    with orchestrator.app.connection_for_read() as connection:
        eventually(lambda: connection.default_channel.client.llen("audit") == 1, "the body is called", 60)
        message = json.loads(connection.default_channel.client.lindex("audit", 0))
    [outcomes] = json.loads(base64.b64decode(message["body"]))[0]
    assert [outcome["instance"] for outcome in outcomes] == [str(instance) for instance in instances]
    destroys = [orchestrator.signature("destroy", instance, {}) for instance in instances]
    results = group(destroys, app=orchestrator.app).apply_async().get(timeout=RESULT_WITHIN_S)
    assert [result["state"] for result in results] == ["succeeded", "succeeded"]
    assert site.files() == []


def test_revoke_cancels_a_queued_job_and_its_id_is_not_kept(
    site: Site, orchestrator: Orchestrator, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """A revoked job ends REVOKED; a revoke of a settled one changes nothing; neither swallows later messages."""
    site.start_worker()
    spawned = orchestrator.send("spawn", instance, small_guest)
    spawned.get(timeout=RESULT_WITHIN_S)
    job_id = str(uuid4())
    orchestrator.app.control.revoke(job_id)
    eventually(lambda: f"job {job_id} is not known here" in site.log, "the early revoke is noted")

    late = orchestrator.send("spawn", uuid4(), small_guest, job_id=job_id)
    with pytest.raises(Exception, match="cancelled"):
        late.get(timeout=RESULT_WITHIN_S)

    assert orchestrator.result(job_id).state == "REVOKED"
    assert site.job(job_id)["state"] == "cancelled"
    orchestrator.app.control.revoke(spawned.id)
    eventually(lambda: f"job {spawned.id} has succeeded already" in site.log, "the late revoke is refused")
    assert orchestrator.result(spawned.id).state == "SUCCESS"
    replies = orchestrator.app.control.inspect(timeout=5).revoked()
    assert list(replies.values()) == [[]]
    orchestrator.send("destroy", instance, {}).get(timeout=RESULT_WITHIN_S)
