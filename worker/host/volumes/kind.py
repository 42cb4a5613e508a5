"""What each kind of volume knows how to do."""

from typing import Any, Protocol

from models.states import ErrorClass
from tasks.host import HostError, Volume
from worker.host.device_xml import DiskSource


class VolumeKind(Protocol):
    """One kind of volume on this host. Every method may refuse the volume with HostError(PERMANENT)."""

    def connected(self, volume: Volume) -> bool:
        """Whether the volume is within reach now."""
        ...

    def held(self, volume: Volume) -> bool:
        """Whether this host keeps something for it that only disconnecting ends."""
        ...

    def connect(self, volume: Volume) -> None:
        """Bring it within reach; there already is no error."""
        ...

    def disconnect(self, volume: Volume) -> None:
        """Take away what connecting made, once no domain shows the volume; nothing there is no error."""
        ...

    def source(self, volume: Volume) -> DiskSource:
        """Where a guest finds it once it is connected; nothing that can be slow is asked."""
        ...


def text_of(volume: Volume, key: str) -> str:
    """What the volume's ``where`` says there. Raises HostError(PERMANENT) when it says no text."""
    value: Any = volume.where.get(key)
    if not isinstance(value, str) or not value:
        raise refused(volume, f"its {key} is {value!r}")
    return value


def refused(volume: Volume, why: str) -> HostError:
    """The refusal of a volume for good, in one sentence that names it."""
    return HostError(ErrorClass.PERMANENT, f"the volume {volume.id} cannot be used: {why}")
