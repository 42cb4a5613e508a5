"""Release: the instance is forgotten; its domain and its files stay as they are."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.adopt import ReleaseRequest
from tasks.steps.adoption import DomainReleased

release = Operation(
    "release",
    ReleaseRequest,
    steps=(DomainReleased(),),
    job_class=JobClass.POWER,
    point_of_no_return=DomainReleased.name,
    instance_wanted_as=InstanceState.DELETED,
)
