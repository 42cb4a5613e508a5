"""Attach a volume: the instance, running or not, has it from now on."""

from models.states import JobClass
from tasks.operation import Operation
from tasks.requests.devices import AttachVolumeRequest
from tasks.steps.volume import VolumeAttached, VolumesConnected

attach_volume = Operation(
    "attach_volume",
    AttachVolumeRequest,
    steps=(
        VolumesConnected(),
        VolumeAttached(),
    ),
    job_class=JobClass.ATTACH,
    no_return_after=VolumeAttached.name,
)
