"""Whatever can break on one host breaks at each moment of each step of each operation, and the promises hold."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.crash.batch import Batch, batches
from tests.crash.moments import Moment
from tests.crash.scenes import Row, table
from tests.crash.stage import Stage
from tests.crash.striking import Fault
from tests.lab.postgres import PostgresServer

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

#: With all other tests, which kill workers in files of their own: the answer to a COMMIT is lost.
IN_SLICE = {("spawn", Fault.COMMIT_UNANSWERED): {Moment.INTENDING, Moment.SETTLE}}
LOG_TAIL = 6000
BATCHES = batches(table().rows, lambda row: (row.operation, row.fault))


class Lasting:
    """A stage for one batch after another; one that a batch has hurt is not used again."""

    def __init__(self, postgres: PostgresServer) -> None:
        self._postgres = postgres
        self._made = ExitStack()
        self._stage: Stage | None = None

    @contextmanager
    def lent(self) -> Iterator[Stage]:
        """For a batch, which raises if it goes wrong."""
        if self._stage is None:
            self._stage = self._made.enter_context(Stage(self._postgres))
        try:
            yield self._stage
        except BaseException:
            worker = self._stage.site.worker
            print(f"--- the worker, which {'lives' if worker.alive else f'ended with {worker.returncode}'}, said:")
            print(self._stage.site.log[-LOG_TAIL:])
            self.close()
            raise

    def close(self) -> None:
        """End it."""
        self._stage = None
        self._made.close()


@pytest.fixture(scope="module")
def lasting(postgres_server: PostgresServer) -> Iterator[Lasting]:
    """A host of this module's own."""
    made = Lasting(postgres_server)
    yield made
    made.close()


@pytest.fixture
def asked_for(request: pytest.FixtureRequest) -> Callable[[Row], bool]:
    """Whether a row of a batch is to be carried out: the one that is replayed, or all, or those of the slice."""
    name = request.config.getoption("--row", default="")
    everything = request.config.getoption("--crash", default="slice") == "all"
    return lambda row: row.name == name if name else everything or row.moment in IN_SLICE[row.operation, row.fault]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(rows, id="-".join(of), marks=() if of in IN_SLICE else pytest.mark.beyond_slice)
        for of, rows in BATCHES.items()
    ],
)
def test_every_promise_is_kept(
    lasting: Lasting, draw: random.Random, asked_for: Callable[[Row], bool], rows: list[Row]
) -> None:
    """Of each row: its job ends as it should, and journal and host agree."""
    with lasting.lent() as stage:
        broken = Batch(stage, [row for row in rows if asked_for(row)], draw).carry_out()
        assert broken == {}, "\n".join(
            f"{name}: {each.kind}: {each.what}" for name, violations in broken.items() for each in violations
        )
