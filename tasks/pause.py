"""Pause: the guest's processors stand still, its memory kept."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.power import PauseRequest
from tasks.steps.stillness import DomainPaused

pause = Operation(
    "pause",
    PauseRequest,
    steps=(DomainPaused(),),
    job_class=JobClass.POWER,
    no_return_after=DomainPaused.name,
    instance_wanted_as=InstanceState.PAUSED,
)
