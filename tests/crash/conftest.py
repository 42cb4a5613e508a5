"""Which rows are run: a telling slice with all other tests, every row with `make crash`."""

import json
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.crash.promises import Kind
from tests.crash.scenes import Row, table
from tests.crash.tally import TALLY

_BEGAN = time.monotonic()
#: Whose tests count their rows themselves; in each other one something is broken once, and it is a row.
COUNTING = frozenset({"test_operations.py", "test_soak.py"})
#: In these nothing is.
NO_ROWS = frozenset({"test_checker.py"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much is run."""
    parser.addoption("--crash", choices=["slice", "all"], default="slice", help="a slice of the crash rows, or all")
    parser.addoption("--budget", type=float, default=0.0, help="minutes; rows, in the seed's order, while they last")
    parser.addoption("--row", default="", help="carry out this row alone; its name stands in the report of a failure")
    parser.addoption("--soak", action="store_true", help="random kills under a steady load, and nothing else")
    parser.addoption("--kills", type=int, default=1000, help="how many, with --soak")


def pytest_configure(config: pytest.Config) -> None:
    """The marks of what is not in the slice."""
    config.addinivalue_line("markers", "beyond_slice: a crash row that only `--crash=all` runs")
    config.addinivalue_line("markers", "soak: what only `--soak` runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for."""
    everything = config.getoption("--crash", default="slice") == "all"
    soak, row = config.getoption("--soak", default=False), config.getoption("--row", default="")

    def asked_for(item: pytest.Item) -> bool:
        if item.get_closest_marker("soak") or soak:
            return bool(item.get_closest_marker("soak")) and soak
        if row:
            return row in {each.name for each in _rows_of(item)}
        return everything or not item.get_closest_marker("beyond_slice")

    left_out = [item for item in items if not asked_for(item)]
    items[:] = [item for item in items if asked_for(item)]
    config.hook.pytest_deselected(items=left_out)


def _rows_of(item: pytest.Item) -> Sequence[Row]:
    """The rows of a batch; other tests have none."""
    callspec = getattr(item, "callspec", None)
    found: Sequence[Row] = () if callspec is None else callspec.params.get("rows", ())
    return found


@pytest.fixture(autouse=True)
def _within_budget(request: pytest.FixtureRequest) -> None:
    budget_s = 60 * request.config.getoption("--budget", default=0.0)
    if budget_s and time.monotonic() - _BEGAN > budget_s:
        pytest.skip("the budget is spent")


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    """Chance, the same for the same row and `--randomly-seed`."""
    seed = request.config.getoption("randomly_seed", default=0)
    return random.Random(f"{seed} {request.node.name}")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What was left out and why, what a run can be repeated with, and one line for machines."""
    if config.getoption("--crash", default="slice") != "all":
        return
    say = terminalreporter.write_line
    stats = {kind: terminalreporter.stats.get(kind, []) for kind in ("passed", "failed", "error", "skipped")}
    if not config.getoption("--soak", default=False):
        for why, names in sorted(table().left_out.items()):
            say(f"left out, {len(names)} rows: {why} (such as {names[0]})")
    ended = {kind: [report.nodeid for report in reports] for kind, reports in stats.items()}
    rows = [test for kind in ("passed", "failed") for test in ended[kind] if not _is(test, COUNTING | NO_ROWS)]
    broken = [test for test in ended["failed"] if not _is(test, COUNTING)] + ended["error"]
    seed = config.getoption("randomly_seed", default=None)
    for name in TALLY.names:
        again = "--soak" if name == "soak" else f"--row {name}"
        say(f"broken: {name}; again: make crash CRASH_ARGUMENTS='{again} --randomly-seed={seed}'")
    told = {
        "rows": TALLY.rows + len(rows),
        "violations": len(TALLY.names) + len(broken),
        "kills": TALLY.kills + len(rows),
        "lost": TALLY.broken[Kind.LOST],
        "doubled": TALLY.broken[Kind.DOUBLED],
        "left_over": TALLY.broken[Kind.LEFT_OVER],
        "skipped": len(stats["skipped"]),
        "seed": seed,
    }
    say(json.dumps(told))


def _is(nodeid: str, files: frozenset[str]) -> bool:
    return nodeid.partition("::")[0].rpartition("/")[2] in files
