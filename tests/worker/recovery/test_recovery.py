"""A database that is put back to an earlier moment: nothing is touched, and one word has the journal told again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from models.engine import Database
from models.journal.asking import request_cancel
from models.journal.claiming import NotNow
from models.journal.deciding import retry
from models.journal.recovering import ask, open_recovery
from models.reading import instance, list_hosts, list_instances
from models.states import InstanceState, JobState
from tests.builders import HOST, time_passes
from tests.contract.fake_migrations import FakeWorld
from tests.fake_host import FakeHost
from tests.worker.recovery.inn import ASKED, Inn, Worker
from tests.worker.world import World, permanent, states

pytest_plugins = ["tests.builders"]


@pytest.fixture
def inn(sqlite_journal: Database, fake: FakeHost, tmp_path: Path) -> Inn:
    """A host before its first worker."""
    return Inn(sqlite_journal, fake, tmp_path)


def twenty_more(inn: Inn, worker: Worker) -> tuple[list[UUID], list[UUID], list[UUID]]:
    """Ten instances that a backup knows, five of them destroyed since; fifteen since, five of them destroyed, too."""
    old = [uuid4() for _ in range(10)]
    for at, each in enumerate(old):
        inn.run(worker, f"spawn-{at}", "spawn", each)
    inn.back_up()
    new = [uuid4() for _ in range(10)]
    for at, each in enumerate(new):
        inn.run(worker, f"spawn-new-{at}", "spawn", each)
    for at, each in enumerate((*old[:5], *new[:5])):
        inn.run(worker, f"destroy-{at}", "destroy", each)
    return old[5:], new[5:], [*old[:5], *new[:5]]


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_restored_backup_touches_nothing_and_is_told_again_by_one_word(inn: Inn, *, running: bool) -> None:
    """Twenty spawns and destroys are in no journal any more; the host keeps what it has, and no id runs twice."""
    worker = inn.start()
    kept, new, destroyed = twenty_more(inn, worker)
    before = (inn.jobs(), inn.instances(), dict(inn.fake.domains.there))
    inn.submit("waits", "stop", kept[0])
    inn.fake._script.effects.clear()

    inn.restore(inn.folder / "backup")
    inn.submit("later", "stop", kept[1])
    if not running:
        worker = inn.start()
    refused = inn.take(worker, "later")

    assert refused is not None
    assert "restored from a backup" in refused.why or "went back in time" in refused.why
    worker.keeper.look()
    assert [host.recovering_because for host in list_hosts(inn.database)] != [None]
    assert (inn.fake.effects, inn.jobs()["later"]) == ([], JobState.QUEUED)
    plan = inn.recovery.plan
    assert plan is not None
    assert (len(plan["jobs"]), plan["left"]) == (20, [])
    assert {change["id"]: change["to"]["state"] for change in plan["instances"]} == (
        {str(each): "running" for each in new} | {str(each): "deleted" for each in destroyed}
    )
    assert [job["id"] for job in plan["goes_on"]] == ["later"]

    ended = inn.recover(worker)

    assert (ended.ended_at is not None, ended.refusal) == (True, None)
    assert {name: state for name, state in inn.jobs().items() if name != "later"} == before[0]
    assert (inn.instances(), dict(inn.fake.domains.there)) == before[1:]
    assert inn.fake.effects == []
    assert inn.take(worker, "later") is None
    assert inn.jobs()["later"] is JobState.SUCCEEDED
    # what its sender asks for again is the job that it was
    for job_id, of in (("spawn-new-0", destroyed[5]), ("destroy-0", destroyed[0])):
        inn.submit(job_id, job_id.partition("-")[0], of)
        assert isinstance(inn.take(worker, job_id), NotNow)
    inn.run(worker, "last", "destroy", new[0])
    assert new[0] not in inn.fake.domains.there


def test_recovered_once_it_is_well_until_the_next_time(inn: Inn) -> None:
    """A worker that starts again finds nothing amiss; the same backup, restored once more, is found once more."""
    worker = inn.start()
    _, new, _ = twenty_more(inn, worker)
    inn.restore(inn.folder / "backup")
    worker = inn.start()
    inn.recover(worker)

    worker = inn.start()
    assert (worker.ledger.held, open_recovery(inn.database, HOST)) == (None, None)
    inn.run(worker, "after", "destroy", new[0])
    wanted = inn.instances()

    inn.restore(inn.folder / "backup")
    worker = inn.start()
    assert worker.ledger.held is not None
    inn.recover(worker)
    assert inn.instances() == wanted


def test_a_run_under_way_writes_nothing_into_another_history(inn: Inn) -> None:
    """The database goes back while a job is in hand: its worker gives it up, and what it made stays for a destroy."""
    worker, one = inn.start(), uuid4()
    inn.submit("spawn", "spawn", one)
    inn.back_up()

    def go_back() -> None:
        inn.restore(inn.folder / "backup")

    at_define(inn, go_back)
    inn.take(worker, "spawn")
    assert inn.jobs() == {"spawn": JobState.QUEUED}
    worker.beat.beat()

    assert worker.ledger.held is not None
    assert inn.take(worker, "spawn") is not None
    made = dict(inn.fake.domains.there)
    worker.keeper.look()
    plan = inn.recovery.plan
    assert plan is not None
    assert (plan["jobs"], [job["id"] for job in plan["goes_on"]]) == ([], ["spawn"])
    [sentence] = plan["left"]
    assert f"job spawn (spawn of instance {one}) was under way, and the database has it queued" in sentence
    inn.recover(worker)

    assert inn.take(worker, "spawn") is None
    assert (inn.fake.domains.there, inn.jobs()) == (made, {"spawn": JobState.FAILED})
    inn.run(worker, "destroy", "destroy", one)
    assert inn.fake.leftovers(one) == ()


def at_define(inn: Inn, then: Callable[[], None]) -> None:
    """Have it happen as the next domain has just been defined."""
    domains = inn.fake.domains
    define = domains.define

    def define_then(guest: object) -> None:
        define(guest)  # type: ignore[arg-type]
        domains.define = define  # type: ignore[method-assign]
        then()

    domains.define = define_then  # type: ignore[assignment]


def test_epochs_are_raised_above_all_that_were_seen(inn: Inn) -> None:
    """In the ledger, or in the name of a file; so is the host sequence."""
    worker, one, two = inn.start(), uuid4(), uuid4()
    inn.back_up()
    inn.run(worker, "spawn", "spawn", one)
    for at in range(3):
        inn.run(worker, f"stop-{at}", "stop", one)
    seen, inn.marks = worker.ledger.last, {two: 41}

    inn.restore(inn.folder / "backup")
    worker = inn.start()
    inn.recover(worker)

    epochs = {each.id: each.epoch for each in list_instances(inn.database)}
    assert (epochs[one] > 4, epochs[two]) == (True, 42)
    [host] = list_hosts(inn.database)
    assert host.sequence == worker.ledger.last > seen


def test_what_an_operator_saw_is_what_is_done(inn: Inn) -> None:
    """A plan that is not the one that was shown is refused, in a sentence, and told anew."""
    worker, one = inn.start(), uuid4()
    inn.submit("stays", "spawn", one)
    inn.back_up()
    inn.run(worker, "other", "spawn", uuid4())
    inn.run(worker, "stays-not", "destroy", one)
    inn.restore(inn.folder / "backup")
    worker = inn.start()
    worker.keeper.look()
    shown = inn.recovery.digest
    assert shown is not None

    request_cancel(inn.database, "stays", ASKED, outbox=False)
    assert ask(inn.database, HOST, shown, ASKED).taken
    worker.keeper.look()

    refused = inn.recovery
    assert refused.refusal is not None
    assert "not what was shown" in refused.refusal
    assert not ask(inn.database, HOST, "0" * 64, ASKED).taken
    inn.recover(worker)
    assert inn.jobs()["stays"] is JobState.CANCELLED


def test_a_job_that_was_begun_in_the_backup_is_told_its_end(inn: Inn) -> None:
    """Its steps that had not ended are skipped by the operator's word; its history says what happened."""
    worker, one = inn.start(), uuid4()
    inn.submit("spawn", "spawn", one)
    at_define(inn, lambda: inn.back_up() and None)
    assert inn.take(worker, "spawn") is None
    inn.run(worker, "stop", "stop", one)
    inn.restore(inn.folder / "backup")
    assert inn.jobs() == {"spawn": JobState.RUNNING}

    worker = inn.start()
    inn.recover(worker)

    details = World(inn.database, inn.fake, one).details("spawn")
    assert details.job.state is JobState.SUCCEEDED
    assert set(states(details).values()) <= {"done", "found", "skipped"}
    assert [event.type for event in details.events[-2:]] == ["recovered", "succeeded"]
    assert details.events[-1].actor == "cli:ann"
    found = instance(inn.database, one)
    assert found is not None
    assert (found.state, inn.jobs()["stop"]) == (InstanceState.STOPPED, JobState.SUCCEEDED)


def test_a_job_that_was_begun_and_is_in_no_journal_is_said(inn: Inn) -> None:
    """With what to do; its instance has an epoch above that of the run."""
    worker, one = inn.start(), uuid4()
    inn.back_up()
    inn.submit("spawn", "spawn", one)
    at_define(inn, lambda: inn.restore(inn.folder / "backup"))
    inn.take(worker, "spawn")
    worker = inn.start()
    worker.keeper.look()
    plan = inn.recovery.plan
    assert plan is not None

    [sentence] = plan["left"]
    assert f"job spawn (spawn of instance {one}) was under way, and the database does not know it" in sentence
    inn.recover(worker)
    found = instance(inn.database, one)
    assert found is not None
    assert (found.state, found.epoch) == (InstanceState.ABSENT, 2)
    inn.run(worker, "destroy", "destroy", one)
    assert inn.fake.leftovers(one) == ()


def test_an_id_that_was_given_away_again_does_not_run_as_another_request(inn: Inn) -> None:
    """Its second request is cancelled, and says why."""
    worker = inn.start()
    inn.back_up()
    inn.run(worker, "mine", "spawn", uuid4())
    inn.restore(inn.folder / "backup")
    worker = inn.start()
    inn.submit("mine", "spawn", uuid4())
    inn.fake._script.effects.clear()

    ended = inn.recover(worker)

    assert ended.refusal is not None
    assert "its id had belonged to another request (spawn)" in ended.refusal
    assert (inn.jobs(), inn.fake.effects) == ({"mine": JobState.CANCELLED}, [])


def test_a_retry_that_the_backup_does_not_know_is_told_as_a_run_of_its_own(inn: Inn) -> None:
    """First failed, then, by a retry, succeeded: so it stands in the journal again."""
    worker, one = inn.start(), uuid4()
    inn.submit("spawn", "spawn", one)
    inn.fake.fail("domains.define", permanent())
    inn.take(worker, "spawn")
    inn.back_up()
    retry(inn.database, "spawn", ASKED, outbox=False)
    assert inn.take(worker, "spawn") is None
    assert inn.jobs() == {"spawn": JobState.SUCCEEDED}

    inn.restore(inn.folder / "backup")
    assert inn.jobs() == {"spawn": JobState.FAILED}
    inn.recover(inn.start())

    details = World(inn.database, inn.fake, one).details("spawn")
    assert (details.job.state, details.job.run) == (JobState.SUCCEEDED, 2)
    assert inn.instances() == {one: InstanceState.RUNNING}


# --- a ledger that is lost, a database that is new


def test_a_new_database_beside_an_old_ledger_is_held(inn: Inn, migrated_file: Path) -> None:
    """And told all that the ledger knows."""
    worker = inn.start()
    kept, new, destroyed = twenty_more(inn, worker)
    inn.restore(migrated_file)

    worker = inn.start()

    assert worker.ledger.held is not None
    assert "has never heard of a claim of this host" in worker.ledger.held
    inn.recover(worker)
    assert inn.instances() == dict.fromkeys((*kept, *new), InstanceState.RUNNING) | dict.fromkeys(
        destroyed, InstanceState.DELETED
    )
    assert len(inn.jobs()) == 30


def test_a_new_database_under_a_running_worker_is_held(inn: Inn, migrated_file: Path) -> None:
    """The worker registers its host there."""
    worker = inn.start()
    inn.run(worker, "spawn", "spawn", uuid4())
    inn.restore(migrated_file)

    worker.beat.beat()
    worker.keeper.look()

    assert open_recovery(inn.database, HOST) is not None
    inn.recover(worker)
    inn.run(worker, "another", "spawn", uuid4())


def test_a_lost_ledger_is_said_and_held_only_where_a_domain_speaks_for_it(
    inn: Inn, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that knows all domains is believed; one that does not is not."""
    worker, one = inn.start(), uuid4()
    inn.back_up()
    inn.run(worker, "spawn", "spawn", one)
    shutil.rmtree(inn.folder / "ledger")

    worker = inn.start()
    assert worker.ledger.held is None
    assert "this host has no ledger yet, or has lost it" in caplog.text
    inn.run(worker, "stop", "stop", one)

    shutil.rmtree(inn.folder / "ledger")
    forget(inn, "spawn")
    worker = inn.start()
    assert worker.ledger.held is not None
    assert f"its domain {one} says that it is of job spawn, which the database does not know" in worker.ledger.held


def forget(inn: Inn, job_id: str) -> None:
    """Have the journal not know the job, nor its instance, as an earlier backup would not."""
    with inn.database.write() as connection:
        connection.execute(text("DROP TRIGGER jobs_are_never_forgotten"))
        connection.execute(text("DELETE FROM job_events"))
        connection.execute(text("DELETE FROM jobs"))
        connection.execute(text("DELETE FROM instances"))
    assert job_id not in inn.jobs()


def test_a_ledger_whose_last_lines_are_lost_is_believed_no_further_than_it_goes(
    inn: Inn, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that lost its power: the database knows more, and nothing is amiss."""
    worker, one = inn.start(), uuid4()
    inn.run(worker, "spawn", "spawn", one)
    ledger = inn.folder / "ledger" / f"{HOST}.jsonl"
    kept = ledger.read_bytes()
    inn.run(worker, "stop", "stop", one)
    ledger.write_bytes(kept + b'{"claimed":{"sequ')

    worker = inn.start()

    assert worker.ledger.held is None
    assert "the ledger is 1 claims behind the database" in caplog.text
    inn.run(worker, "start", "start", one)


def test_a_database_whose_last_commits_are_lost_is_held_though_its_claims_are_not(inn: Inn) -> None:
    """As after a failover to a replica that had not all of them: the end of the last job is what tells."""
    worker, one = inn.start(), uuid4()
    inn.submit("spawn", "spawn", one)
    at_define(inn, lambda: inn.back_up() and None)
    assert inn.take(worker, "spawn") is None

    inn.restore(inn.folder / "backup")
    worker = inn.start()

    assert worker.ledger.held is not None
    assert (
        "job spawn (spawn) has succeeded by this host's ledger, and the database has it running" in worker.ledger.held
    )


def test_more_claims_than_a_worker_made_hold_the_host(inn: Inn) -> None:
    """Somebody put another history in the database's place while it ran."""
    worker = inn.start()
    inn.run(worker, "spawn", "spawn", uuid4())
    with inn.database.write() as connection:
        connection.execute(text("UPDATE hosts SET sequence = sequence + 3"))
    inn.submit("next", "spawn", uuid4())
    inn.take(worker, "next")

    assert worker.ledger.held is not None
    assert "ahead of what its worker claimed" in worker.ledger.held
    worker.keeper.look()
    assert open_recovery(inn.database, HOST) is not None
    inn.recover(worker)
    inn.run(worker, "last", "spawn", uuid4())


def test_a_suspicion_that_is_unfounded_is_dropped(inn: Inn) -> None:
    """The worker looks, finds one story, and claims again."""
    worker = inn.start()
    worker.ledger.suspect("somebody said so")
    inn.submit("spawn", "spawn", uuid4())
    assert inn.take(worker, "spawn") == NotNow("somebody said so")

    worker.keeper.look()

    assert inn.take(worker, "spawn") is None


# --- two hosts


@pytest.mark.parametrize("order", [("h1", "h2"), ("h2", "h1")], ids="-then-".join)
def test_an_instance_that_has_moved_since_is_where_it_is(
    sqlite_journal: Database, tmp_path: Path, order: tuple[str, str]
) -> None:
    """Whichever host recovers first; what is asked of it goes there, and nothing is taken for gone."""
    world, one = FakeWorld(), uuid4()
    inns = {name: Inn(sqlite_journal, FakeHost(name, world), tmp_path / name, name) for name in ("h1", "h2")}
    for name in inns:
        (tmp_path / name).mkdir()
    first = inns["h1"]
    workers = {name: each.start() for name, each in inns.items()}
    first.run(workers["h1"], "spawn", "spawn", one)
    first.back_up()
    first.submit("move", "migrate", one)
    moved(first, workers)
    assert first.jobs()["move"] is JobState.SUCCEEDED

    first.restore(first.folder / "backup")
    workers = {name: each.start() for name, each in inns.items()}
    first.submit("stop", "stop", one)
    for name in order:
        inns[name].recover(workers[name])

    found = instance(sqlite_journal, one)
    assert found is not None
    assert (found.host, found.state, first.jobs()["move"]) == ("h2", InstanceState.RUNNING, JobState.SUCCEEDED)
    assert first.take(workers["h1"], "stop") == NotNow("its instance lives on host h2; the job goes there")
    assert inns["h2"].take(workers["h2"], "stop") is None
    assert first.jobs()["stop"] is JobState.SUCCEEDED
    assert open_recovery(sqlite_journal, "h1") is open_recovery(sqlite_journal, "h2") is None


def test_a_job_that_left_for_another_host_is_told_of_there(sqlite_journal: Database, tmp_path: Path) -> None:
    """The host that it left says so, and which host is to recover, too."""
    world, one = FakeWorld(), uuid4()
    inns = {name: Inn(sqlite_journal, FakeHost(name, world), tmp_path / name, name) for name in ("h1", "h2")}
    for name in inns:
        (tmp_path / name).mkdir()
    first = inns["h1"]
    workers = {name: each.start() for name, each in inns.items()}
    first.run(workers["h1"], "spawn", "spawn", one)
    first.back_up()
    first.submit("move", "migrate", one)
    moved(first, workers)
    first.restore(first.folder / "backup")

    worker = first.start()
    worker.keeper.look()

    plan = first.recovery.plan
    assert plan is not None
    [sentence] = plan["left"]
    assert sentence.startswith(f"job move (migrate of instance {one}) went on to host h2")
    assert plan["instances"][0]["to"] == {"host": "h2", "state": "running"}


def moved(inn: Inn, workers: dict[str, Worker]) -> None:
    """Have the job carried out by the worker of whichever host it is on."""
    for _ in range(20):
        details = World(inn.database, inn.fake).details("move")
        if details.job.state in {JobState.SUCCEEDED, JobState.FAILED}:
            return
        if details.job.state is JobState.WAITING:
            time_passes(inn.database, "move")
        workers[details.job.host].runner.take(details.job)


def test_what_fails_as_a_host_is_let_go_is_tried_again(inn: Inn) -> None:
    """The journal was told; that its host is served is said once what failed does not."""
    worker, one = inn.start(), uuid4()
    inn.back_up()
    inn.run(worker, "spawn", "spawn", one)
    inn.restore(inn.folder / "backup")
    worker = inn.start()
    worker.keeper.look()
    found = inn.recovery
    assert found.digest is not None
    ask(inn.database, HOST, found.digest, ASKED)

    def fails() -> None:
        raise OSError("no boot id")

    inn.answer = fails
    with pytest.raises(OSError, match="no boot id"):
        worker.keeper.look()
    assert worker.ledger.suspected.is_set()
    assert inn.take(worker, "spawn") is not None

    inn.answer = None
    worker.keeper.look()
    assert (worker.ledger.held, inn.served[-1]) == (None, "served")
    inn.run(worker, "destroy", "destroy", one)
