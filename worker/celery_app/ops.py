"""What operators ask through Celery: ``ops.job_<verb>``, ``ops.host_<verb>`` on ``ops``, which every worker serves.

Each runs what the command line runs, on whichever worker takes it, and returns what became of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from celery import Celery, Task
from typing_extensions import override

from models.journal.asking import Answer, Asked
from tasks.requests import BadRequestError

#: As the journal keeps it.
ACTOR_MAX_LENGTH = 255

#: ``(job or host, asked, **arguments)`` to the answer.
Verb = Callable[..., Answer]

_KINDS = {str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class Arguments:
    """What a verb takes beside what it is ``of``, and ``reason`` where that is not needed: names and kinds."""

    of: str = "job"
    needed: Mapping[str, type] = field(default_factory=dict)
    optional: Mapping[str, type] = field(default_factory=dict)


#: The verbs, by the names of their tasks after ``ops.``.
VERBS: Mapping[str, Arguments] = MappingProxyType(
    {
        "job_cancel": Arguments(),
        "job_force_complete": Arguments(),
        "job_retry": Arguments(optional={"force": bool}),
        "job_resume": Arguments(optional={"from_step": str}),
        "job_skip": Arguments(needed={"step": str, "reason": str}),
        "job_settle": Arguments(needed={"succeeded": bool, "reason": str}),
        "host_disable": Arguments(of="host", needed={"reason": str}),
        "host_drain": Arguments(of="host", needed={"reason": str}),
        "host_enable": Arguments(of="host"),
    }
)


def register(app: Celery, verbs: Mapping[str, Verb]) -> None:
    """Add a task for each of `VERBS`."""
    for name in VERBS:
        app.register_task(_task(name, verbs[name])())


def read_arguments(verb: str, arguments: Mapping[str, object]) -> dict[str, Any]:
    """The arguments, each of its kind; raises BadRequestError with a sentence that names the one that is not."""
    takes = VERBS[verb]
    needed = {takes.of: str, **takes.needed}
    known = {**needed, "reason": str, **takes.optional}
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise BadRequestError(f"{unknown[0]}: there is no such argument; {verb} has {', '.join(known)}.")
    for name, kind in known.items():
        if (name in arguments or name in needed) and not isinstance(arguments.get(name), kind):
            raise BadRequestError(f"{name}: {_KINDS[kind]} is needed.")
    return dict(arguments)


def _task(name: str, verb: Verb) -> type[Task[Any, dict[str, Any]]]:
    class OpsTask(Task[Any, dict[str, Any]]):
        """Asks it of the job or host; its result says whether that was taken, and a sentence."""

        throws = (BadRequestError,)
        ignore_result = False
        typing = False

        @override
        def run(self, /, **sent: object) -> dict[str, Any]:
            arguments = read_arguments(name, sent)
            actor = f"celery:{self.request.origin or 'unknown'}"[:ACTOR_MAX_LENGTH]
            of, reason = arguments.pop(VERBS[name].of), arguments.pop("reason", "")
            answer = verb(of, Asked(actor, reason), **arguments)
            return {"taken": answer.taken, "sentence": answer.sentence}

    return type(f"Ops{name.title()}", (OpsTask,), {"name": f"ops.{name}"})
