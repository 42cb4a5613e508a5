"""Adopt: a domain that is there already becomes an instance; its guest notices nothing."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.adopt import AdoptRequest
from tasks.steps.adoption import DomainAdopted

adopt = Operation(
    "adopt",
    AdoptRequest,
    steps=(DomainAdopted(),),
    job_class=JobClass.POWER,
    instance_begins_as=InstanceState.BUILDING,
    instance_undone_as=InstanceState.ABSENT,
)
