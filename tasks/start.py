"""Start: the instance's guest runs."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.power import StartRequest
from tasks.steps.power import DomainStarted

start = Operation(
    "start",
    StartRequest,
    steps=(DomainStarted(),),
    job_class=JobClass.POWER,
    no_return_after=DomainStarted.name,
    instance_wanted_as=InstanceState.RUNNING,
)
