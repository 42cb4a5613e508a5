"""Reboot: the instance's guest begins anew, once, in a new process."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.power import RebootRequest
from tasks.steps.power import DomainRebooted

reboot = Operation(
    "reboot",
    RebootRequest,
    steps=(DomainRebooted(),),
    job_class=JobClass.POWER,
    point_of_no_return=DomainRebooted.name,
    instance_wanted_as=InstanceState.RUNNING,
)
