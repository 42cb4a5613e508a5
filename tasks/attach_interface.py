"""Attach an interface: the instance, running or not, has it from now on."""

from models.states import JobClass
from tasks.operation import Operation
from tasks.requests.devices import AttachInterfaceRequest
from tasks.steps.interface import InterfaceAttached, InterfacesPlugged

attach_interface = Operation(
    "attach_interface",
    AttachInterfaceRequest,
    steps=(
        InterfacesPlugged(),
        InterfaceAttached(),
    ),
    job_class=JobClass.ATTACH,
    no_return_after=InterfaceAttached.name,
)
