"""Stop: the instance's guest is off, asked first and ended then; its disks and definition stay."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.power import StopRequest
from tasks.steps.power import DomainShutOff

stop = Operation(
    "stop",
    StopRequest,
    steps=(DomainShutOff(),),
    job_class=JobClass.POWER,
    point_of_no_return=DomainShutOff.name,
    instance_wanted_as=InstanceState.STOPPED,
)
