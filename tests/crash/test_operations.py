"""Whatever can break on one host breaks at each moment of each step of each operation, and the promises hold."""

import random
from collections.abc import Callable, Iterator

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
BATCHES = batches(table().rows, lambda row: (row.operation, row.fault))


@pytest.fixture(scope="module")
def stage(postgres_server: PostgresServer) -> Iterator[Stage]:
    """A host of this module's own."""
    with Stage(postgres_server) as made:
        yield made


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
    stage: Stage, draw: random.Random, asked_for: Callable[[Row], bool], rows: list[Row]
) -> None:
    """Of each row: its job ends as it should, and journal and host agree."""
    broken = Batch(stage, [row for row in rows if asked_for(row)], draw).carry_out()
    assert broken == {}, "\n".join(
        f"{name}: {violation.kind}: {violation.what}" for name, violations in broken.items() for violation in violations
    )
