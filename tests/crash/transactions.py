"""The moments of a job's transactions on PostgreSQL, seen by the process that makes them, in its driver.

A job's thread is known by the step that it looked at last; a transaction, by the tables that it adds rows to.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from sqlalchemy import Connection, Engine, Pool, event
from typing_extensions import override

from tests.crash.moments import JOB, Moment

#: What every statement has that tells of a step.
STEPS_WRITTEN = "UPDATE steps"
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
        event.listen(Pool, "connect", self._connected)
        event.listen(Engine, "commit", self._committing)
        event.listen(Engine, "rollback", self._rolling_back)
        event.listen(Pool, "checkin", self._committed)

    def looked(self, job: str, step: str) -> None:
        """The thread has looked at the step."""
        self._thread.job, self._thread.step = job, step

    def made(self, job: str, step: str) -> None:
        """The thread has made the step; its next commit says so, or that it came to nothing."""
        self._thread.job, self._thread.made = job, step

    def _connected(self, driver: object, _record: object) -> None:
        if isinstance(driver, psycopg.Connection):
            driver.cursor_factory = self._telling_cursor()

    def _telling_cursor(self) -> type[psycopg.Cursor[Any]]:
        tell, committing = self._statement, self._committing

        class TellingCursor(psycopg.Cursor[Any]):
            """Tells of each statement before it is sent."""

            @override
            def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
                statement = str(query)
                tell(statement, params)
                if self.connection.autocommit and STEPS_WRITTEN in statement:
                    committing()  # the statement is a transaction by itself
                return super().execute(query, params, **options)

        return TellingCursor

    def _statement(self, statement: str, values: object) -> None:
        thread = self._thread
        if not thread.job or not isinstance(values, Mapping):
            return
        if "INSERT INTO step_attempts" in statement:
            thread.meets = (thread.step, Moment.INTENDING)
        elif "INSERT INTO job_events" in statement:
            given = {str(value) for value in values.values()}
            if given & FINAL_EVENTS and thread.job in given:
                thread.meets = (JOB, Moment.SETTLE)

    def _committing(self, _connection: Connection | None = None) -> None:
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
