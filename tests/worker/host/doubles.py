"""Stand-ins for what libvirt hands out, where a real one will not misbehave on demand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import libvirt

from worker.host.connections import ConnectionClass
from worker.host.errors import Call, translated
from worker.host.event_loop import DomainEvents


def libvirt_error(code: str, domain: str = "QEMU", number: int = 0, message: str = "why") -> libvirt.libvirtError:
    """An error as the bindings raise it, by the symbols' names without their prefix."""
    error = libvirt.libvirtError(message)
    code_number, domain_number = getattr(libvirt, f"VIR_ERR_{code}"), getattr(libvirt, f"VIR_FROM_{domain}")
    error.err = (code_number, domain_number, message, libvirt.VIR_ERR_ERROR, None, None, None, number, -1)
    return error


class DomainDouble:
    """One of our domains, as libvirt's bindings show it; what its verbs do is a test's to say."""

    def __init__(self, instance: UUID, *, run: int = -1) -> None:
        self.instance = instance
        self.run = run
        self.shown_state: int | None = None
        self.defined = True
        self.control = libvirt.VIR_DOMAIN_CONTROL_OK
        self.verbs: dict[str, Callable[[], None]] = {}
        self.called: list[str] = []

    def state(self) -> tuple[int, int]:
        """As shown, or as is."""
        shown = libvirt.VIR_DOMAIN_RUNNING if self.run >= 0 else libvirt.VIR_DOMAIN_SHUTOFF
        return (shown if self.shown_state is None else self.shown_state), 1

    def isActive(self) -> int:  # noqa: N802 - libvirt's name
        """Whether it has a process."""
        return int(self.run >= 0)

    def isPersistent(self) -> int:  # noqa: N802 - libvirt's name
        """Whether it is defined."""
        return int(self.defined)

    def controlInfo(self) -> list[int]:  # noqa: N802 - libvirt's name
        """Idle, unless the verb says otherwise."""
        self._verb("controlInfo")
        return [self.control, 0, 0]

    def ID(self) -> int:  # noqa: N802 - libvirt's name
        """The number of its run."""
        return self.run

    def metadata(self, _kind: int, _namespace: str) -> str:
        """Ours."""
        return f"<domain instance='{self.instance}' job='job-1'/>"

    def createWithFlags(self, _flags: int) -> None:  # noqa: N802 - libvirt's name
        """Start."""
        self._verb("create")

    def destroy(self) -> None:
        """Kill."""
        self._verb("destroy")

    def shutdown(self) -> None:
        """Ask the guest."""
        self._verb("shutdown")

    def undefineFlags(self, flags: int) -> None:  # noqa: N802 - libvirt's name
        """Undefine."""
        self._verb(f"undefine {flags}" if f"undefine {flags}" in self.verbs else "undefine")

    def _verb(self, name: str) -> None:
        self.called.append(name)
        self.verbs.get(name, lambda: None)()


class DeviceDomainDouble(DomainDouble):
    """One of our domains with devices: elements in the running guest, and in the definition."""

    def __init__(self, instance: UUID, *, run: int = -1) -> None:
        super().__init__(instance, run=run)
        self.live: list[str] = []
        self.persistent: list[str] = []
        self.job = "job-1"
        self.flags: list[int] = []

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802 - libvirt's name
        """The document of one side."""
        self._verb("XMLDesc")
        live = self.run >= 0 and not flags & libvirt.VIR_DOMAIN_XML_INACTIVE
        number = f" id='{self.run}'" if live else ""
        owner = f"<h:domain xmlns:h='urn:hostler:domain:1' instance='{self.instance}' job='{self.job}'/>"
        devices = "".join(self.live if live else self.persistent)
        return f"<domain{number}><metadata>{owner}</metadata><devices>{devices}</devices></domain>"

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        """The instance's."""
        return str(self.instance)

    def attachDeviceFlags(self, document: str, flags: int) -> None:  # noqa: N802 - libvirt's name
        """What the verb does happens first; an error of it leaves both sides as they were."""
        self.flags.append(flags)
        self._verb("attach")
        if flags & libvirt.VIR_DOMAIN_AFFECT_LIVE:
            self.live.append(document)
        if flags & libvirt.VIR_DOMAIN_AFFECT_CONFIG:
            self.persistent.append(document)

    def detachDeviceFlags(self, document: str, flags: int) -> None:  # noqa: N802 - libvirt's name
        """Out of the definition."""
        self.flags.append(flags)
        self._verb("detach")
        self.persistent.remove(document)

    def detachDeviceAlias(self, alias: str, flags: int) -> None:  # noqa: N802 - libvirt's name
        """The guest is asked; what comes of it is the verb's to say."""
        self.flags.append(flags)
        self._verb(f"ask {alias}")


class ConnectionsDouble:
    """Connections to a libvirt that has one domain, or none."""

    def __init__(self, domain: DomainDouble) -> None:
        self.events = DomainEvents()
        self.domain: DomainDouble | None = domain
        self.listed: list[DomainDouble] = [domain]
        self.broken: libvirt.libvirtError | None = None
        self.refusing: libvirt.libvirtError | None = None  #: a definition

    @contextmanager
    def calling(self, _class: ConnectionClass, call: Call) -> Iterator["ConnectionsDouble"]:
        """This, with libvirt's errors translated."""
        try:
            if self.broken:
                raise self.broken
            yield self
        except libvirt.libvirtError as error:
            raise translated(error, call) from error

    def lookupByUUID(self, _uuid: bytes) -> DomainDouble:  # noqa: N802 - libvirt's name
        """The one domain."""
        if self.domain is None:
            raise libvirt_error("NO_DOMAIN")
        return self.domain

    def defineXML(self, _document: str) -> None:  # noqa: N802 - libvirt's name
        """Refused, if at all."""
        if self.refusing:
            raise self.refusing

    def listAllDomains(self) -> list[DomainDouble]:  # noqa: N802 - libvirt's name
        """Those that a list once had."""
        return self.listed
