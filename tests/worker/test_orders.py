"""Jobs sent, delivered, doubled, killed, overtaken, cancelled, retried and waited for in any order."""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event
from typing_extensions import override

from models.engine import Database
from models.states import ErrorClass
from tests.builders import _not_durable
from tests.planted.planting import plant
from tests.planted.test_planted import BUGS
from tests.worker.orders import INSTANCES, OPERATIONS_SENT, BrokenPromiseError, Orders

pytest_plugins = ["tests.builders"]

#: A few orders in each run of the suite, others each time.
FEW = settings(
    max_examples=12,
    stateful_step_count=18,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
#: The same ones each time, until one breaks a promise.
SAME = settings(FEW, max_examples=300, phases=[Phase.generate], derandomize=True)
CALLS = ("disks.create", "domains.define", "domains.start", "domains.kill", "domains.undefine", "devices.attach")
CLASSES = (ErrorClass.TRANSIENT, ErrorClass.UNKNOWN, ErrorClass.PERMANENT)
MISHAPS = ("none", "none", "kill", "sleep", "cancel", "cancel another")
#: A method of the port, what its next calls meet, how many of them, and whether after their effect.
Breakage = tuple[str, ErrorClass, int, bool]
moments = st.integers(0, 14)
breakages = st.tuples(st.sampled_from(CALLS), st.sampled_from(CLASSES), st.sampled_from((1, 2, 6, 12)), st.booleans())
sendings = st.tuples(st.sampled_from(OPERATIONS_SENT), st.sampled_from(INSTANCES))


class AnyOrder(RuleBasedStateMachine):
    """What may happen to one host and two instances."""

    jobs = Bundle("jobs")

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.orders = Orders(database)

    @initialize(
        target=jobs,
        first=st.sampled_from(INSTANCES),
        more=st.lists(sendings, min_size=2, max_size=5),
        broken=st.lists(breakages, max_size=3),
    )
    def begin(self, first: UUID, more: list[tuple[str, UUID]], broken: list[Breakage]) -> MultipleResults[str]:
        """Guests are asked for, and something else of them before anything was done; some calls will fail."""
        for breakage in broken:
            self.orders.break_call(*breakage)
        ids = [self.orders.send(operation, instance) for operation, instance in [("spawn", first), *more]]
        return multiple(*ids)

    @rule(target=jobs, sending=sendings)
    def send(self, sending: tuple[str, UUID]) -> str:
        """A new job; its ring may be lost."""
        return self.orders.send(*sending)

    @rule(job=jobs)
    def send_again(self, job: str) -> None:
        """By a sender who got no answer, or to be told that the id is taken."""
        self.orders.send_again(job)

    @rule(job=jobs, other=jobs, mishap=st.sampled_from(MISHAPS), after=moments)
    def deliver(self, job: str, other: str, mishap: str, after: int) -> None:
        """A ring, whenever it comes; on the way the worker is killed, or overtaken, or a job is cancelled."""
        happens = {
            "none": None,
            "kill": self.orders.kill,
            "sleep": self.orders.take_over(job),
            "cancel": lambda: self.orders.cancel(job),
            "cancel another": lambda: self.orders.cancel(other),
        }
        self.orders.deliver(job, happens[mishap], after)

    @rule(breakage=breakages)
    def break_call(self, breakage: Breakage) -> None:
        """For a moment, or for longer than a step is patient."""
        self.orders.break_call(*breakage)

    @rule(job=jobs, decision=st.sampled_from(("cancel", "retry", "resume", "time_passes")))
    def decide(self, job: str, decision: str) -> None:
        """Somebody wants it no more, or again, or now; or its time has come."""
        {
            "cancel": self.orders.cancel,
            "retry": self.orders.retry,
            "resume": self.orders.resume,
            "time_passes": self.orders.time_passes,
        }[decision](job)

    @rule()
    def sweep(self) -> None:
        """Whatever was rung or not."""
        self.orders.sweep()

    @rule()
    def prune(self) -> None:
        """What is over is reduced to tombstones."""
        self.orders.prune()

    @rule()
    def mend(self) -> None:
        """Nothing is broken any more."""
        self.orders.mend()

    @invariant()
    def promises_hold(self) -> None:
        """At every moment."""
        self.orders.check()

    @override
    def teardown(self) -> None:
        """In the end everything is over, and host and journal agree."""
        try:
            self.orders.check_all_ends()
        finally:
            self.database.close()


@pytest.fixture
def machine(migrated_file: Path, tmp_path: Path) -> Callable[[], AnyOrder]:
    """A new world at each call."""
    numbers = count()

    def make() -> AnyOrder:
        path = tmp_path / f"{next(numbers)}.db"
        shutil.copy(migrated_file, path)
        database = Database(f"sqlite:///{path}")
        event.listen(database.engine, "connect", _not_durable)
        return AnyOrder(database)

    return make


def test_promises_hold_in_any_order(machine: Callable[[], AnyOrder]) -> None:
    """Whatever is lost, doubled, killed or late: each promise at each moment, and everything ends."""
    run_state_machine_as_test(machine, settings=FEW)


def test_a_bug_is_found_in_some_order(machine: Callable[[], AnyOrder], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else these orders would be no test: a worker that does not look before it acts breaks a promise."""
    bug = BUGS["no look"]
    with monkeypatch.context() as patch:
        plant(patch, bug.where, bug.says, bug.instead)
        with pytest.raises(BrokenPromiseError):
            run_state_machine_as_test(machine, settings=SAME)
