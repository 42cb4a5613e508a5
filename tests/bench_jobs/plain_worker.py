"""Bare Celery: a task that does nothing, in the pool that Hostler's worker has, with a result backend.

Arguments: the broker's URL, which is the result backend's too, the queue, and how many threads.
"""

import sys

from celery import Celery

TASK = "plain.nothing"


def application(url: str) -> Celery:
    """The application, as its defaults are."""
    return Celery("plain", broker=url, backend=url, set_as_current=False)


def main(url: str, queue: str, threads: int) -> None:
    """Serve."""
    app = application(url)
    app.conf.broker_connection_retry_on_startup = True

    @app.task(name=TASK)
    def nothing() -> None:
        """Do nothing."""

    worker = app.Worker(
        hostname=f"{queue}@localhost",
        pool_cls="threads",
        concurrency=threads,
        queues=[queue],
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
