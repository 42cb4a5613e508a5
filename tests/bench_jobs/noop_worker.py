"""A worker of the product's own, whose catalogue has nothing but the no-op operation."""

import logging
import os
import sys
from pathlib import Path

from tests.bench_jobs.noop import MARKS, Marks, catalogue_of, noop
from worker.settings import load
from worker.wiring import run_worker


def main() -> int:
    """Serve; log as `hostler worker` does."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    folder = os.environ.get(MARKS)
    return run_worker(load(), catalogue=catalogue_of(noop(None if folder is None else Marks(Path(folder)))))


if __name__ == "__main__":
    sys.exit(main())
