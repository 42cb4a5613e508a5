"""What operators ask through Celery: each argument is of its kind, or one sentence names it."""

import pytest

from tasks.requests import BadRequestError
from worker.celery_app.ops import VERBS, read_arguments

GOOD = {
    "job_cancel": {"reason": "not needed"},
    "job_force_complete": {},
    "job_retry": {"force": True, "reason": "the storage is back"},
    "job_resume": {"from_step": "VolumeAttached"},
    "job_skip": {"step": "VolumeAttached", "reason": "done by hand"},
    "job_settle": {"succeeded": False, "reason": "its host burnt down"},
    "host_disable": {"reason": "new memory"},
    "host_drain": {"reason": "new memory"},
    "host_enable": {"reason": "it has it"},
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_verb_takes(verb: str) -> None:
    """It is handed on as it was sent."""
    sent = {VERBS[verb].of: "a", **GOOD[verb]}
    assert read_arguments(verb, sent) == sent


@pytest.mark.parametrize(
    ("verb", "arguments", "sentence"),
    [
        ("job_cancel", {}, "job: a text is needed."),
        ("job_cancel", {"job": 7}, "job: a text is needed."),
        ("job_cancel", {"job": "a", "reason": None}, "reason: a text is needed."),
        ("job_settle", {"job": "a", "succeeded": "yes", "reason": "x"}, "succeeded: true or false is needed."),
        ("job_settle", {"job": "a", "reason": "x"}, "succeeded: true or false is needed."),
        ("job_skip", {"job": "a", "step": "VolumeAttached"}, "reason: a text is needed."),
        ("job_retry", {"job": "a", "force": 1}, "force: true or false is needed."),
        ("host_drain", {"host": "h1"}, "reason: a text is needed."),
        ("host_drain", {"host": ["h1"], "reason": "x"}, "host: a text is needed."),
        ("host_enable", {"job": "a"}, "job: there is no such argument; host_enable has host, reason."),
        ("job_resume", {"from": "x"}, "from: there is no such argument; job_resume has job, reason, from_step."),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_the_name_of_the_argument(
    verb: str, arguments: dict[str, object], sentence: str
) -> None:
    """Nothing of it reaches the journal."""
    with pytest.raises(BadRequestError) as refused:
        read_arguments(verb, arguments)
    assert str(refused.value) == sentence
