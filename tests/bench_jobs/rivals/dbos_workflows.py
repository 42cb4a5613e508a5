"""DBOS: workflows of four durable steps that do nothing. Arguments: database URL, threads, workflows.

Prints how many a second.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS

WARM_UP = 10


@DBOS.step()
def first() -> None:
    """Do nothing."""


@DBOS.step()
def second() -> None:
    """Do nothing."""


@DBOS.step()
def third() -> None:
    """Do nothing."""


@DBOS.step()
def fourth() -> None:
    """Do nothing."""


@DBOS.workflow()
def four_steps(_number: int) -> None:
    """The four, one after another."""
    first()
    second()
    third()
    fourth()


def main(url: str, threads: int, workflows: int) -> None:
    """Measure."""
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "WARNING", "run_admin_server": False})
    DBOS.launch()
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(four_steps, range(WARM_UP)))
            began = time.perf_counter()
            list(pool.map(four_steps, range(workflows)))
            took = time.perf_counter() - began
    finally:
        DBOS.destroy()
    print(workflows / took)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
