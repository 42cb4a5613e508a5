"""The operations that this revision knows, by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tasks.adopt import adopt
from tasks.attach_interface import attach_interface
from tasks.attach_volume import attach_volume
from tasks.destroy import destroy
from tasks.detach_interface import detach_interface
from tasks.detach_volume import detach_volume
from tasks.migrate import migrate
from tasks.operation import Operation
from tasks.pause import pause
from tasks.reboot import reboot
from tasks.release import release
from tasks.resume import resume
from tasks.spawn import spawn
from tasks.start import start
from tasks.stop import stop
from tasks.suspend import suspend
from tasks.unpause import unpause

Catalogue = Mapping[str, Operation[Any]]

OPERATIONS: Catalogue = MappingProxyType(
    {
        operation.name: operation
        for operation in (
            spawn,
            destroy,
            attach_volume,
            detach_volume,
            attach_interface,
            detach_interface,
            migrate,
            start,
            stop,
            reboot,
            pause,
            unpause,
            suspend,
            resume,
            adopt,
            release,
        )
    }
)
