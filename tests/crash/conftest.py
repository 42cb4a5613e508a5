"""Which rows are run: a telling slice with all other tests, every row with `make crash`."""

import json
import random
import time
from typing import Any

import pytest

_BEGAN = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much is run."""
    parser.addoption("--crash", choices=["slice", "all"], default="slice", help="a slice of the crash rows, or all")
    parser.addoption("--budget", type=float, default=0.0, help="minutes; rows, in the seed's order, while they last")


def pytest_configure(config: pytest.Config) -> None:
    """The mark of what is not in the slice."""
    config.addinivalue_line("markers", "beyond_slice: a crash row that only `--crash=all` runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for."""
    if config.getoption("--crash", default="slice") == "all":
        return
    left_out = [item for item in items if item.get_closest_marker("beyond_slice")]
    items[:] = [item for item in items if not item.get_closest_marker("beyond_slice")]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def _within_budget(request: pytest.FixtureRequest) -> None:
    budget_s = 60 * request.config.getoption("--budget", default=0.0)
    if budget_s and time.monotonic() - _BEGAN > budget_s:
        pytest.skip("the budget is spent")


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    """Chance, the same for the same row and `-p randomly -p "randomly_seed=…"`."""
    seed = request.config.getoption("randomly_seed", default=0)
    return random.Random(f"{seed} {request.node.name}")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line for machines."""
    if config.getoption("--crash", default="slice") == "all":
        counted = {kind: len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed", "error", "skipped")}
        seed = config.getoption("randomly_seed", default=None)
        rows = counted["passed"] + counted["failed"] + counted["error"]
        told = {"rows": rows, "violations": counted["failed"] + counted["error"], "skipped": counted["skipped"]}
        terminalreporter.write_line(json.dumps({**told, "seed": seed}))
