"""Detach an interface: the guest lets it go, then the host."""

from models.states import JobClass
from tasks.operation import Operation
from tasks.requests.devices import DetachInterfaceRequest
from tasks.steps.interface import InterfaceLeftDefinition, InterfaceReleased, InterfaceUnplugged

detach_interface = Operation(
    "detach_interface",
    DetachInterfaceRequest,
    steps=(
        InterfaceLeftDefinition(),
        InterfaceReleased(),
        InterfaceUnplugged(),
    ),
    job_class=JobClass.ATTACH,
    no_return_after=InterfaceReleased.name,
)
