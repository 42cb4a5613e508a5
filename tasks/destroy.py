"""Destroy: nothing of an instance is left on this host. It supersedes whatever else is asked of the instance."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.destroy import DestroyRequest
from tasks.steps.destination import OtherHalfRemoved
from tasks.steps.disk import FilesRemoved
from tasks.steps.domain import DomainStopped, DomainUndefined, EarlierWorkEnded
from tasks.steps.interface import InterfacesUnplugged
from tasks.steps.volume import VolumesDisconnected

destroy = Operation(
    "destroy",
    DestroyRequest,
    steps=(
        DomainStopped(),
        EarlierWorkEnded(),
        DomainUndefined(),
        VolumesDisconnected(),
        InterfacesUnplugged(),
        OtherHalfRemoved(),
        FilesRemoved(),
    ),
    job_class=JobClass.DESTROY,
    point_of_no_return=DomainStopped.name,
    supersedes=True,
    at_peer=frozenset({OtherHalfRemoved.name}),
    instance_wanted_as=InstanceState.DELETED,
)
