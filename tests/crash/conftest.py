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
    alone = [report for kind in ("passed", "failed") for report in stats[kind] if not _in_tally(report.nodeid)]
    broken_alone = [report for report in (*stats["failed"], *stats["error"]) if not _in_tally(report.nodeid)]
    for name in TALLY.names:
        say(f"broken: {name}; again: make crash CRASH_ARGUMENTS='--row {name}'")
    told = {
        "rows": TALLY.rows + len(alone),
        "violations": len(TALLY.names)
        + len(broken_alone)
        + len([each for each in stats["error"] if _in_tally(each.nodeid)]),
        "kills": TALLY.kills + len(alone),
        "lost": TALLY.broken[Kind.LOST],
        "doubled": TALLY.broken[Kind.DOUBLED],
        "left_over": TALLY.broken[Kind.LEFT_OVER],
        "skipped": len(stats["skipped"]),
        "seed": config.getoption("randomly_seed", default=None),
    }
    say(json.dumps(told))


def _in_tally(nodeid: str) -> bool:
    """Whether the test counts its rows itself; in each other one something is killed, and it is a row."""
    return "test_operations.py" in nodeid or "test_soak.py" in nodeid
