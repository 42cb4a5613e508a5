"""TaskFlow: linear flows of four tasks that do nothing, persisted. Arguments: database URL, threads, flows.

Prints how many a second.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from taskflow import engines, task
from taskflow.patterns import linear_flow
from taskflow.persistence import backends

WARM_UP = 2


class Nothing(task.Task):
    """A task that does nothing."""

    def execute(self) -> None:
        """Do nothing."""


def main(url: str, threads: int, flows: int) -> None:
    """Measure."""
    backend = backends.fetch({"connection": url})
    with closing(backend.get_connection()) as connection:
        connection.upgrade()

    def run(_number: int) -> None:
        flow = linear_flow.Flow("four").add(*(Nothing(name) for name in ("first", "second", "third", "fourth")))
        engines.run(flow, backend=backend)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(WARM_UP)))
        began = time.perf_counter()
        list(pool.map(run, range(flows)))
        took = time.perf_counter() - began
    backend.close()
    print(flows / took)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
