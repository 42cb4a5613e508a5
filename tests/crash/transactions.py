"""The moments of a job's transactions, seen by the process that makes them: it asks SQLAlchemy, not the product.

A job's thread is known by the step that it looked at last.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Pool, event

from tests.crash.moments import JOB, Moment

FINAL_EVENTS = {"succeeded", "failed", "cancelled"}


@dataclass
class _Thread(threading.local):
    """What the thread is about."""

    job: str = ""
    step: str = ""
    made: str = ""  #: the step that it made and has not journaled
    meets: tuple[str, Moment] | None = None  #: what the transaction that is open comes to before its commit
    has_done: str = ""  #: the step that was journaled as done by the transaction that has just been committed


class Transactions:
    """Calls ``meet`` with step, moment and job: before an intent's commit, before a settle's, after a done's."""

    def __init__(self, meet: Callable[[str, Moment, str], None]) -> None:
        self._meet = meet
        self._thread = _Thread()

    def watch(self) -> None:
        """From now on, every engine of this process."""
        event.listen(Engine, "before_cursor_execute", self._statement)
        event.listen(Engine, "commit", self._committing)
        event.listen(Engine, "rollback", self._rolling_back)
        event.listen(Pool, "checkin", self._committed)

    def looked(self, job: str, step: str) -> None:
        """The thread has looked at the step."""
        self._thread.job, self._thread.step = job, step

    def made(self, job: str, step: str) -> None:
        """The thread has made the step; its next commit says so, or that it came to nothing."""
        self._thread.job, self._thread.made = job, step

    def _statement(  # as SQLAlchemy calls it
        self, _connection: Connection, _cursor: object, statement: str, _given: object, context: Any, _many: object
    ) -> None:
        thread = self._thread
        if not thread.job:
            return
        if statement.startswith("INSERT INTO step_attempts"):
            thread.meets = (thread.step, Moment.INTENDING)
        elif statement.startswith("INSERT INTO job_events"):
            of_event = {str(value) for given in context.compiled_parameters for value in given.values()}
            if of_event & FINAL_EVENTS and thread.job in of_event:
                thread.meets = (JOB, Moment.SETTLE)

    def _committing(self, _connection: Connection) -> None:
        thread = self._thread
        if thread.meets is not None:
            (step, moment), thread.meets = thread.meets, None
            self._meet(step, moment, thread.job)
        thread.has_done, thread.made = thread.made, ""

    def _rolling_back(self, _connection: Connection) -> None:
        self._thread.meets = None

    def _committed(self, _driver: object, _record: object) -> None:
        thread = self._thread
        if thread.has_done:
            step, thread.has_done = thread.has_done, ""
            self._meet(step, Moment.DONE, thread.job)
