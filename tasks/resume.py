"""Resume: the guest goes on from where it was suspended."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.power import ResumeRequest
from tasks.steps.stillness import DomainResumed

resume = Operation(
    "resume",
    ResumeRequest,
    steps=(DomainResumed(),),
    job_class=JobClass.POWER,
    no_return_after=DomainResumed.name,
    instance_wanted_as=InstanceState.RUNNING,
)
