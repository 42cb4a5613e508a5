"""Migrate: a running guest comes to run on another host, its memory with it. One job, with steps on both hosts."""

from models.states import JobClass
from tasks.operation import Operation
from tasks.requests.migrate import MigrateRequest
from tasks.steps.destination import (
    DestinationFilesMade,
    DestinationFits,
    DestinationInterfacesPlugged,
    DestinationOpen,
    DestinationVolumesConnected,
    DomainPersistent,
)
from tasks.steps.migration import DomainMigrated, SourceCleared, SourceDescribed

migrate = Operation(
    "migrate",
    MigrateRequest,
    steps=(
        SourceDescribed(),
        DestinationFits(),
        DestinationFilesMade(),
        DestinationVolumesConnected(),
        DestinationInterfacesPlugged(),
        DestinationOpen(),
        DomainMigrated(),
        SourceCleared(),
        DomainPersistent(),
    ),
    job_class=JobClass.MIGRATE,
    no_return_after=DomainMigrated.name,
    at_peer=frozenset(
        {
            DestinationFits.name,
            DestinationFilesMade.name,
            DestinationVolumesConnected.name,
            DestinationInterfacesPlugged.name,
            DestinationOpen.name,
            DomainPersistent.name,
        }
    ),
    peer_field="destination",
)
