"""A journal and a fake host with one instance in it: what tests of the spine do there, and see."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from models.engine import Database
from models.journal.accepting import accept
from models.journal.claiming import NotNow
from models.reading import JobDetails, job_details
from models.reading import instance as instance_record
from models.records import InstanceRecord, Json
from models.states import Direction, ErrorClass, JobState, StepState
from tasks.catalogue import OPERATIONS
from tasks.host import HostError
from tasks.operation import Operation
from tests.builders import HOST, SPAWN_REQUEST, enrolled, runner, submission, time_passes
from tests.fake_host import FakeHost, Killed
from worker.run import Runner

#: What each operation of the catalogue is asked for here.
REQUESTS: dict[str, Json] = {
    "spawn": SPAWN_REQUEST,
    "destroy": {},
    "attach_volume": {"volume": {"id": "v1", "kind": "nbd", "host": "storage", "port": 10809}},
    "detach_volume": {"volume_id": "v1", "attempts": 1, "timeout_s": 0.1},
    "attach_interface": {"interface": {"id": "i1", "bridge": "br-guests"}},
    "detach_interface": {"interface_id": "i1", "attempts": 1, "timeout_s": 0.1},
    "migrate": {"destination": "h2"},
    "start": {},
    "stop": {"timeout_s": 1},
    "reboot": {"timeout_s": 1},
    "pause": {},
    "unpause": {},
    "suspend": {},
    "resume": {},
    "adopt": {},
    "release": {},
}


def transient(message: str = "the line is down") -> HostError:
    """An error that passes."""
    return HostError(ErrorClass.TRANSIENT, message, code="SYSTEM_ERROR", domain="RPC")


def permanent(message: str = "it will never work") -> HostError:
    """An error that does not."""
    return HostError(ErrorClass.PERMANENT, message)


@dataclass
class World:
    """A journal, a host, and one instance in it."""

    database: Database
    fake: FakeHost
    instance: UUID = field(default_factory=uuid4)
    host: str = HOST

    def worker(self, *operations: Operation[Any], **options: Any) -> Runner:  # handed on
        """A worker that has just started; it knows the catalogue's operations, or those given in their place."""
        known = dict(OPERATIONS) | {operation.name: operation for operation in operations}
        claimant = enrolled(self.database, self.host)
        return runner(self.database, self.fake, *known.values(), claimant=claimant, **options)

    def submit(self, job_id: str, operation: str = "spawn", request: Json | None = None) -> None:
        """Accept a job of the instance."""
        wanted = REQUESTS.get(operation, {}) if request is None else request
        asked = submission(job_id, operation, instance=self.instance, host=self.host, request=wanted)
        accept(self.database, asked, outbox=False)

    def take(self, job_id: str, worker: Runner | None = None) -> NotNow | None:
        """Have a worker take the job; a new one by default."""
        return (worker or self.worker()).take(self.details(job_id).job)

    def run(self, job_id: str, operation: str = "spawn", worker: Runner | None = None) -> JobDetails:
        """Accept a job and have it taken; what it came to."""
        self.submit(job_id, operation)
        assert self.take(job_id, worker) is None
        return self.details(job_id)

    def details(self, job_id: str) -> JobDetails:
        """The job with its steps and events."""
        found = job_details(self.database, job_id)
        assert found is not None
        return found

    def take_until_settled(self, job_id: str, *operations: Operation[Any]) -> JobDetails:
        """Have new workers take the job, each after its wait, until it is settled or set aside."""
        for _ in range(20):
            state = self.details(job_id).job.state
            if state not in {JobState.QUEUED, JobState.RUNNING, JobState.WAITING}:
                break
            if state is JobState.WAITING:
                time_passes(self.database, job_id)
            self.take(job_id, self.worker(*operations))
        return self.details(job_id)

    @property
    def known(self) -> InstanceRecord:
        """What the inventory says of the instance."""
        found = instance_record(self.database, self.instance)
        assert found is not None
        return found

    @property
    def effects(self) -> list[str]:
        """What was really done on the host, in order."""
        return [method for method, _ in self.fake.effects]

    @property
    def leftovers(self) -> tuple[str, ...]:
        """What the host has of the instance."""
        return self.fake.leftovers(self.instance)


def states(details: JobDetails, direction: Direction = Direction.DO) -> dict[str, StepState]:
    """The states of a run's steps by name, in one direction."""
    return {step.name: step.state for step in details.steps if step.direction is direction}


def error_class(details: JobDetails) -> ErrorClass | None:
    """The class of the job's error."""
    return None if details.job.error is None else details.job.error.error_class


@dataclass
class Listener:
    """Hears every moment of every step, and may do something at one of them, once."""

    at: tuple[str, str] | None = None
    then: Callable[[], object] | None = None
    heard: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, moment: str, step: str) -> None:
        """A step tells of a moment."""
        self.heard.append((moment, step))
        if (moment, step) == self.at and self.then is not None:
            then, self.then = self.then, None
            then()

    def steps(self, moment: str) -> list[str]:
        """The steps that told of the moment, in order."""
        return [step for heard, step in self.heard if heard == moment]


def die() -> None:
    """The worker is killed here."""
    raise Killed
