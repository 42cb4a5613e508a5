"""Volumes of the fake host, as a test put them: files, block devices and NBD servers."""

from uuid import UUID

from models.states import ErrorClass
from tasks.host import HostError, Volume
from tests.contract.fake_domains import FakeDomains
from tests.contract.faults import Room, Script, port

VOLUME_ROOT = "/fake/volumes"
#: The ledger's word for what is no instance's.
NO_INSTANCE = UUID(int=0)


class FakeVolumes(Room):
    """The port's `Volumes`.

    ``files`` are paths below the volume root with their formats, ``block`` for a device; ``servers`` are the permitted
    NBD servers, ``host:port``, with whether they answer. A volume whose id is in ``sessions`` is within reach only
    while it is connected, and is held until then.
    """

    def __init__(self, script: Script, domains: FakeDomains) -> None:
        super().__init__(script)
        self._domains = domains
        self.files: dict[str, str] = {}
        self.servers: dict[str, bool] = {}
        self.sessions: dict[str, bool] = {}

    @port("volumes.connected")
    def connected(self, volume: Volume) -> bool:
        """Whether it is where it says, and what it says."""
        with self.script.changed:
            return self._there(volume) and self.sessions.get(volume.id, True)

    @port("volumes.held")
    def held(self, volume: Volume) -> bool:
        """Whether there is a session."""
        with self.script.changed:
            return self.sessions.get(volume.id, False)

    @port("volumes.connect")
    def connect(self, volume: Volume) -> None:
        """Begin its session, if it needs one."""
        with self.script.changed:
            self.require(volume)
            if self.sessions.get(volume.id) is False:
                self.sessions[volume.id] = True
                self.script.did("volumes.connect", NO_INSTANCE)

    @port("volumes.disconnect")
    def disconnect(self, volume: Volume) -> None:
        """End its session, if no domain has it."""
        with self.script.changed:
            self._kind(volume)
            everything = (*self._domains.live.values(), *self._domains.defined.values())
            if any(
                shown.alias == f"ua-{volume.id}" and shown.serial == volume.id for each in everything for shown in each
            ):
                raise HostError(ErrorClass.TRANSIENT, f"a domain still has the volume {volume.id}; nothing was done")
            if self.sessions.get(volume.id):
                self.sessions[volume.id] = False
                self.script.did("volumes.disconnect", NO_INSTANCE)

    def put(self, name: str, volume_format: str = "raw") -> str:
        """Put a file, or a ``block`` device, below the volume root; its path."""
        with self.script.changed:
            self.files[path := f"{VOLUME_ROOT}/{name}"] = volume_format
            return path

    def require(self, volume: Volume) -> None:
        """Raise HostError(PERMANENT) unless it is there."""
        if not self._there(volume):
            raise _refused(volume, f"{volume.where.get('path')} cannot be found")

    def _there(self, volume: Volume) -> bool:
        if self._kind(volume) == "nbd":
            server = f"{volume.where.get('host')}:{volume.where.get('port')}"
            if server not in self.servers:
                raise _refused(volume, f"{server} is not a permitted server")
            if not self.servers[server]:
                raise HostError(ErrorClass.TRANSIENT, f"the NBD server {server} cannot be reached")
            return True
        path = volume.where.get("path")
        if not isinstance(path, str) or not path.startswith(f"{VOLUME_ROOT}/"):
            raise _refused(volume, f"{path} does not lie below a volume root")
        wanted = "block" if volume.kind == "block" else volume.where.get("format")
        if path in self.files and self.files[path] != wanted:
            raise _refused(volume, f"it is declared {wanted}, but it is {self.files[path]}")
        return path in self.files

    def _kind(self, volume: Volume) -> str:
        if volume.kind not in {"file", "block", "nbd"}:
            raise _refused(volume, f"this host knows no volumes of the kind {volume.kind!r}")
        return volume.kind


def _refused(volume: Volume, why: str) -> HostError:
    return HostError(ErrorClass.PERMANENT, f"the volume {volume.id} cannot be used: {why}")
