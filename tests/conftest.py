"""What every test may ask for, and how long Hypothesis looks for requests that do harm.

They are the same ones each time, so that a check says of one commit always the same.
``--hypothesis-profile=thorough`` looks at 10,000 of each kind, others each time.
"""

import pytest
from hypothesis import settings

pytest_plugins = ["tests.lab.fixtures"]

settings.register_profile("quick", max_examples=150, derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", max_examples=10_000, deadline=None, database=None)
settings.load_profile("quick")

#: Where tests take long, longest first: what is left for the end of a run on several processes is short.
_LONGEST = ("tests/crash/", "tests/end_to_end/", "tests/lab/", "tests/contract/", "tests/setup/", "tests/worker/")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rooms whose tests take long come first; within a room, chance decides."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    return next((rank for rank, room in enumerate(_LONGEST) if item.nodeid.startswith(room)), len(_LONGEST))
