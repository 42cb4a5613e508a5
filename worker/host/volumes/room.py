"""The port's `Volumes`: each volume is handed to its kind, and none is let go while a domain shows it."""

from collections.abc import Iterator, Mapping

import libvirt

from models.states import ErrorClass
from tasks.host import HostError, Volume
from worker.host.connections import ConnectionClass, Connections
from worker.host.device_xml import DiskSource
from worker.host.domain_document import DomainDocument
from worker.host.errors import Call
from worker.host.volumes.kind import VolumeKind, refused


class HostVolumes:
    """Volumes of all kinds that this host knows, by the kinds' names."""

    def __init__(self, connections: Connections, kinds: Mapping[str, VolumeKind]) -> None:
        self._connections = connections
        self._kinds = kinds

    def connected(self, volume: Volume) -> bool:
        """As its kind sees it."""
        return self._kind(volume).connected(volume)

    def held(self, volume: Volume) -> bool:
        """As its kind sees it."""
        return self._kind(volume).held(volume)

    def connect(self, volume: Volume) -> None:
        """As its kind does it."""
        self._kind(volume).connect(volume)

    def disconnect(self, volume: Volume) -> None:
        """As its kind does it, once no guest and no definition has it."""
        kind = self._kind(volume)
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            for domain in connection.listAllDomains():
                if any(_shows(document, volume) for document in _documents(domain)):
                    message = f"the domain {domain.UUIDString()} still has the volume {volume.id}; nothing was done"
                    raise HostError(ErrorClass.TRANSIENT, message)
        kind.disconnect(volume)

    def source(self, volume: Volume) -> DiskSource:
        """Where a guest finds it, as its kind describes it."""
        return self._kind(volume).source(volume)

    def _kind(self, volume: Volume) -> VolumeKind:
        kind = self._kinds.get(volume.kind)
        if kind is None:
            raise refused(volume, f"this host knows no volumes of the kind {volume.kind!r}")
        return kind


def _documents(domain: libvirt.virDomain) -> Iterator[str]:
    """The domain as it runs and as it is defined, as far as it still is there."""
    try:
        yield domain.XMLDesc()
        if domain.ID() >= 0:  # as it was listed; of an inactive one the first document was the definition
            yield domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


def _shows(document: str, volume: Volume) -> bool:
    alias = f"ua-{volume.id}"
    # Most documents are told by this, unparsed: an alias has no character that XML writes in another way.
    return alias in document and any(
        shown.alias == alias and shown.serial == volume.id for shown in DomainDocument(document).devices
    )
