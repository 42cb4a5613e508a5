"""What operators ask of jobs through Celery: ``ops.job_<verb>`` on the queue ``ops``, which every worker takes from.

Each runs what the command line runs, on whichever worker takes it, and returns what became of it.
"""

from collections.abc import Callable
from typing import Any

from celery import Celery, Task
from typing_extensions import override

from models.journal.asking import Answer
from tasks.requests import BadRequestError

#: ``(job, actor, reason)`` to the answer.
Verb = Callable[[str, str, str], Answer]

#: As the journal keeps it.
ACTOR_MAX_LENGTH = 255


def register(app: Celery, verbs: dict[str, Verb]) -> None:
    """Add a task for each verb, by name: ``job_cancel`` becomes ``ops.job_cancel``."""
    for name, verb in verbs.items():
        app.register_task(_task(name, verb)())


def _task(name: str, verb: Verb) -> type[Task[Any, dict[str, Any]]]:
    class OpsTask(Task[Any, dict[str, Any]]):
        """Asks it of the job; its result says whether that was taken, and a sentence."""

        throws = (BadRequestError,)
        ignore_result = False
        typing = False

        @override
        def run(self, /, **arguments: object) -> dict[str, Any]:
            job, reason = arguments.pop("job", None), arguments.pop("reason", "")
            if arguments:
                raise BadRequestError(f"{min(arguments)}: there is no such argument; a verb has job and reason.")
            if not isinstance(job, str) or not isinstance(reason, str):
                raise BadRequestError(f"{'reason' if isinstance(job, str) else 'job'}: a text is needed.")
            actor = f"celery:{self.request.origin or 'unknown'}"[:ACTOR_MAX_LENGTH]
            answer = verb(job, actor, reason)
            return {"taken": answer.taken, "sentence": answer.sentence}

    return type(f"Ops{name.title()}", (OpsTask,), {"name": f"ops.{name}"})
