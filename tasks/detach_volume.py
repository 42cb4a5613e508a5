"""Detach a volume: the guest lets it go, then the host."""

from models.states import JobClass
from tasks.operation import Operation
from tasks.requests.devices import DetachVolumeRequest
from tasks.steps.volume import VolumeDisconnected, VolumeLeftDefinition, VolumeReleased

detach_volume = Operation(
    "detach_volume",
    DetachVolumeRequest,
    steps=(
        VolumeLeftDefinition(),
        VolumeReleased(),
        VolumeDisconnected(),
    ),
    job_class=JobClass.ATTACH,
    no_return_after=VolumeReleased.name,
)
