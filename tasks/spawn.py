"""Spawn: an instance comes to run on this host."""

from models.states import InstanceState, JobClass
from tasks.operation import Operation
from tasks.requests.spawn import SpawnRequest
from tasks.steps.config_drive import ConfigDriveWritten
from tasks.steps.disk import EphemeralDisksCreated, RootDiskCreated
from tasks.steps.domain import DomainDefined, DomainRunning
from tasks.steps.image import ImagesCached
from tasks.steps.interface import InterfacesPlugged
from tasks.steps.volume import VolumesConnected

spawn = Operation(
    "spawn",
    SpawnRequest,
    steps=(
        ImagesCached(),
        RootDiskCreated(),
        EphemeralDisksCreated(),
        ConfigDriveWritten(),
        VolumesConnected(),
        InterfacesPlugged(),
        DomainDefined(),
        DomainRunning(),
    ),
    job_class=JobClass.SPAWN,
    instance_begins_as=InstanceState.BUILDING,
    instance_undone_as=InstanceState.ABSENT,
    instance_wanted_as=InstanceState.RUNNING,
)
