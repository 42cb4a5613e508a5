"""A job's error as a person is told of it: what failed, on which host, for which instance, and what to do."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from models.records import ErrorRecord, JobRecord
from models.states import ErrorClass, JobState

#: What to do about a job that failed, by the class of its error.
_ABOUT_A_FAILURE: Final[Mapping[ErrorClass, str]] = MappingProxyType(
    {
        ErrorClass.PERMANENT: "mend that or ask for something else, then: hostler jobs retry {job}",
        ErrorClass.CONFLICT: "what is there was left alone; once it is out of the way: hostler jobs retry {job}",
        ErrorClass.RESOURCE: "free some there, then: hostler jobs retry {job}, or send a job to another host",
        ErrorClass.INTERNAL: "that is a defect of Hostler: report it, with the worker's log",
    }
)
_ABOUT_A_WAIT: Final = "it is tried again by itself; hostler doctor, on {host}, tells what is wrong there"
_ABOUT_A_QUARANTINE: Final = "its instance stays locked until you say hostler jobs resume {job}, or skip, or settle"


def in_full(error: ErrorRecord, job: JobRecord, host: str, state: JobState, step: str = "") -> ErrorRecord:
    """The error with its sentence, for a job that comes to ``state`` by it on ``host``, at ``step`` if in one."""
    match state:
        case JobState.WAITING:
            came_to, advice = "waits", _ABOUT_A_WAIT
        case JobState.QUARANTINED:
            came_to, advice = "is quarantined", _ABOUT_A_QUARANTINE
        case _:
            came_to, advice = "failed", _ABOUT_A_FAILURE.get(error.error_class, "then: hostler jobs retry {job}")
    at = f" at {step}" if step else ""
    what = f"{job.operation} of instance {job.instance} on host {host} {came_to}{at}: {error.message.rstrip('.')}"
    return replace(error, sentence=f"{what}; {advice.format(job=job.id, host=host)}")
