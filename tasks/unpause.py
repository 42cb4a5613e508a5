"""Unpause: the guest's processors run on."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.power import UnpauseRequest
from tasks.steps.stillness import DomainUnpaused

unpause = Operation(
    "unpause",
    UnpauseRequest,
    steps=(DomainUnpaused(),),
    job_class=JobClass.POWER,
    no_return_after=DomainUnpaused.name,
    instance_wanted_as=InstanceState.RUNNING,
)
