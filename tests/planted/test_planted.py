"""Each bug that the design rules out is put in, and the test that is named for it catches it."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import pytest
from sqlalchemy import text

from models.engine import Database
from models.journal import (
    accepting,
    claiming,
    holding,
    pruning,
    quarantining,
    recovering,
    repairing,
    settling,
    superseding,
    undoing,
)
from tests.builders import Desk, enrolled
from tests.fake_host import FakeHost
from tests.models import test_fence, test_journal, test_pruning, test_repairing, test_two_hosts
from tests.planted.planting import caught_by, plant
from tests.worker import test_revoking, test_run
from tests.worker.recovery import test_recovery
from tests.worker.recovery.inn import Inn
from tests.worker.world import World
from worker import run, step
from worker.celery_app import revoking
from worker.recovery import judging

pytest_plugins = ["tests.builders"]

ONE_UNSETTLED = "uq_jobs_one_unsettled_per_instance"


@dataclass(frozen=True)
class Bug:
    """What the source says, what it says instead, and who notices."""

    where: ModuleType
    says: str
    instead: str
    caught: Callable[[Database], str]
    sql: tuple[str, ...] = ()  #: what of the schema would stand in its way, or is the bug's other half
    made_of_it: tuple[str, ...] = ()  #: the values of the module that are made of that one, as they are


def at_desk(test: Callable[..., None], *arguments: object, **more: object) -> Callable[[Database], str]:
    """The test of the journal, with these arguments."""
    return lambda database: caught_by(test, Desk(database, enrolled(database)), *arguments, **more)


def in_world(test: Callable[..., None], *arguments: object) -> Callable[[Database], str]:
    """The test of the spine on a fake host, with these arguments."""
    return lambda database: caught_by(test, World(database, FakeHost()), *arguments)


def of_two(test: Callable[..., None], *arguments: object) -> Callable[[Database], str]:
    """The test of two hosts' journal, with these arguments."""
    return lambda database: caught_by(test, test_two_hosts.Two(Desk(database, enrolled(database))), *arguments)


def of_revokes(test: Callable[..., None]) -> Callable[[Database], str]:
    """The test of what revokes do; Celery's own is put back."""

    def put_back(_database: Database) -> str:
        with test_revoking.celerys_own():
            return caught_by(test)

    return put_back


def in_inn(test: Callable[..., None], **more: object) -> Callable[[Database], str]:
    """The test of a journal that is put back, with these arguments."""

    def put_back(database: Database) -> str:
        assert database.file is not None
        return caught_by(test, Inn(database, FakeHost(), database.file.parent), **more)

    return put_back


BUGS: dict[str, Bug] = {
    "a database that went back is believed": Bug(
        judging,
        "    if claims.sequence < ledger.last:\n",
        "    if False:\n",
        in_inn(test_recovery.test_a_restored_backup_touches_nothing_and_is_told_again_by_one_word, running=False),
    ),
    "a run writes on into another history": Bug(
        recovering,
        ".values(owner=None)",
        ".values(waits=0)",
        at_desk(test_repairing.test_a_run_under_way_is_fenced_as_the_recovery_begins),
    ),
    "an id that the backup forgot runs again": Bug(
        repairing,
        "            elif ending is newest[ending.job]:\n",
        "            elif False:\n",
        at_desk(test_repairing.test_a_job_that_the_journal_does_not_know_is_a_tombstone),
    ),
    "epochs are raised above the journal's alone": Bug(
        repairing,
        "max(mark, there.get(instance, 0)) + 1",
        "there.get(instance, 0) + 1",
        at_desk(test_repairing.test_epochs_and_the_sequence_are_above_all_that_was_seen),
    ),
    "no fence": Bug(
        holding,
        '        jobs.c.epoch == bindparam("mine"),\n        jobs.c.owner == bindparam("worker"),\n'
        "        jobs.c.state == JobState.RUNNING,\n",
        "",
        at_desk(test_journal.test_a_lease_that_has_passed_writes_nothing, "settle", "taken over by another worker"),
        made_of_it=("_HOLD = Prepared(_HELD)\n",),
    ),
    "no fence on the step's own row": Bug(
        holding,
        "    if written != wanted:\n",
        "    if False:\n",
        at_desk(test_journal.test_a_step_of_another_epoch_is_not_written),
    ),
    "a claim keeps the epoch": Bug(
        claiming,
        "    epoch = row.instance_epoch + 1\n",
        "    epoch = row.instance_epoch\n",
        in_world(test_run.test_a_run_that_was_taken_over_does_nothing_more),
    ),
    "no look": Bug(
        step,
        "            sight = step.look(work, self.host)\n            if isinstance(sight, Absent | Partial):\n",
        "            sight = Absent()\n            if isinstance(sight, Absent | Partial):\n",
        in_world(test_run.test_a_killed_worker_makes_no_difference, "spawn", "RootDiskCreated", "did"),
    ),
    "an effect before its intent is journaled": Bug(
        step,
        "                work, attempt = self._intend_to_make(step, record, work, found)\n",
        "                work, attempt = replace(work, intent=step.plan(work, self.host)), 1\n",
        in_world(test_run.test_a_killed_worker_makes_no_difference, "spawn", "RootDiskCreated", "did"),
    ),
    "lock only on running": Bug(
        claiming,
        "            jobs.c.state.in_(UNSETTLED),\n",
        "            jobs.c.state == JobState.RUNNING,\n",
        at_desk(test_journal.test_a_job_that_is_set_aside_still_holds_its_instance, "waiting"),
        sql=(
            f"DROP INDEX {ONE_UNSETTLED}",
            f"CREATE UNIQUE INDEX {ONE_UNSETTLED} ON jobs (instance) WHERE state = 'running'",
        ),
    ),
    "undo of what was found": Bug(
        undoing,
        "                steps.c.intent.is_not(None),\n"
        "                steps.c.state.in_([StepState.INTENDED, StepState.DONE]),\n",
        "                steps.c.state.in_([StepState.INTENDED, StepState.DONE, StepState.FOUND]),\n",
        in_world(test_run.test_what_was_found_is_not_undone),
    ),
    "no undo of what was intended": Bug(
        undoing,
        "steps.c.state.in_([StepState.INTENDED, StepState.DONE])",
        "steps.c.state.in_([StepState.DONE])",
        at_desk(test_journal.test_only_what_was_intended_gets_a_row_to_be_undone_in),
    ),
    "undo past the point of no return": Bug(
        run,
        "        if error is not None and run.lease.job.past_return:\n",
        "        if False:\n",
        in_world(test_run.test_a_permanent_error_past_the_point_of_no_return_quarantines),
    ),
    "hop as queued": Bug(
        settling,
        "                state=JobState.WAITING,\n                hopping=True,\n",
        "                state=JobState.QUEUED,\n                hopping=True,\n",
        of_two(test_two_hosts.test_a_hop_hands_the_job_to_its_other_host_alone),
        sql=("DROP TRIGGER jobs_states_move_as_named",),
    ),
    "absent is success on the wrong host": Bug(
        claiming,
        "    if row.state is JobState.QUEUED and _lives_elsewhere(row, claimant.host):\n",
        "    if False:\n",
        at_desk(test_journal.test_a_job_follows_its_instance, "running", goes_there=True),
    ),
    "revoke swallows a re-ring": Bug(
        revoking,
        "            answer = cancel(job, ",
        "            from celery.worker.state import revoked\n"
        "            revoked.add(job)\n"
        "            answer = cancel(job, ",
        of_revokes(test_revoking.test_a_revoke_of_a_known_job_is_a_cancel_and_is_not_kept),
    ),
    "an early revoke is kept": Bug(
        revoking,
        "            until = self._until.pop(job, None)\n",
        "            until = self._until.get(job)\n",
        of_revokes(test_revoking.test_a_revoke_before_its_message_waits_for_it_once_and_briefly),
    ),
    "another payload under a known id": Bug(
        accepting,
        "    if row.payload_digest != submission.digest:\n",
        "    if False:\n",
        at_desk(test_journal.test_the_same_id_with_another_payload_is_refused, {"host": "h2"}),
    ),
    "a destroy that waits its turn": Bug(
        superseding,
        "    return terms.supersedes and ",
        "    return False and ",
        at_desk(test_journal.test_a_destroy_supersedes_all_jobs_before_it_and_none_after),
    ),
    "a job that kills for ever": Bug(
        quarantining,
        "    if claimed < WORKERS_ENDED_MAX:\n",
        "    if True:\n",
        at_desk(test_journal.test_a_job_that_ends_its_workers_is_set_aside),
    ),
    "a cancel that comes during the last step is lost": Bug(
        settling,
        "held.cancel_requested and not held.past_return",
        "False",
        in_world(test_run.test_a_cancel_during_the_last_step_is_not_overlooked),
    ),
    "the history of what is not over is pruned": Bug(
        pruning,
        "        ~exists().where(other.c.instance == jobs.c.instance, other.c.state.in_(UNSETTLED)),\n",
        "",
        at_desk(
            test_pruning.test_what_is_not_settled_stays_whole_and_so_does_what_came_before_it,
            test_pruning._quarantined,
            0,
        ),
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught_by_the_test_named_for_it(
    sqlite_journal: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The same test passes without the bug: it is one of the suite."""
    bug = BUGS[name]
    with sqlite_journal.write() as connection:
        for statement in bug.sql:
            connection.execute(text(statement))
    with monkeypatch.context() as patch:
        plant(patch, bug.where, bug.says, bug.instead)
        for assignment in bug.made_of_it:
            plant(patch, bug.where, assignment, assignment)
        assert bug.caught(sqlite_journal)


#: The fence asks whether the job has my epoch, in place of writing under it: each statement on its own snapshot.
FENCE_BY_EXISTS = (
    (
        (
            "        jobs.c.state == JobState.RUNNING,\n        select(_INSTANCE_HELD.c.id).exists(),\n    )\n"
            "    .with_for_update()\n"
        ),
        "        jobs.c.state == JobState.RUNNING,\n    )\n",
    ),
    (
        '    steps.c.epoch == bindparam("mine"),\n)',
        '    select(jobs.c.id).where(jobs.c.id == steps.c.job, jobs.c.epoch == bindparam("mine")).exists(),\n)',
    ),
    *((made_of_it, made_of_it) for made_of_it in ("_HOLD_AND_RECORD = _in_one(intending=False)\n",)),
)


@pytest.mark.real
def test_a_fence_by_exists_is_caught_where_two_transactions_meet(
    postgresql_journal: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite, where writers take turns, it would do."""
    with monkeypatch.context() as patch:
        for says, instead in FENCE_BY_EXISTS:
            plant(patch, holding, says, instead)
        assert "Advanced" in caught_by(
            test_fence.test_a_write_that_waits_for_a_take_over_lands_nowhere, postgresql_journal
        )


def test_what_is_planted_goes_when_the_test_ends(sqlite_journal: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other test meets it."""
    with monkeypatch.context() as patch:
        plant(patch, claiming, "    epoch = row.instance_epoch + 1\n", "    epoch = row.instance_epoch + 7\n")
        desk = Desk(sqlite_journal, enrolled(sqlite_journal))
        assert desk.begun("a").epoch == 7
    assert desk.claim("a", enrolled(sqlite_journal)).epoch == 8


def test_a_bug_that_cannot_be_planted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would rot as the source changes."""
    with pytest.raises(LookupError, match="says 0 times"):
        plant(monkeypatch, claiming, "no such words", "")


def test_a_test_that_passes_catches_nothing() -> None:
    """It is an error of the table's."""
    with pytest.raises(AssertionError, match="was not caught"):
        caught_by(lambda: None)
