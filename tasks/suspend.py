"""Suspend: the guest's memory is kept on disk, and its process ends."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.power import SuspendRequest
from tasks.steps.stillness import DomainSaved

suspend = Operation(
    "suspend",
    SuspendRequest,
    steps=(DomainSaved(),),
    job_class=JobClass.POWER,
    no_return_after=DomainSaved.name,
    instance_wanted_as=InstanceState.SUSPENDED,
)
