"""Stand-ins for what libvirt hands out, where a real one will not misbehave on demand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import libvirt

from worker.host.connections import ConnectionClass
from worker.host.errors import Call, translated
from worker.host.event_loop import LifecycleEvents


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

    def ID(self) -> int:  # noqa: N802 - libvirt's name
        """The number of its run."""
        return self.run

    def metadata(self, _kind: int, _namespace: str) -> str:
        """Ours."""
        return f"<domain instance='{self.instance}' job='job-1'/>"

    def create(self) -> None:
        """Start."""
        self._verb("create")

    def destroy(self) -> None:
        """Kill."""
        self._verb("destroy")

    def undefineFlags(self, flags: int) -> None:  # noqa: N802 - libvirt's name
        """Undefine."""
        self._verb(f"undefine {flags}" if f"undefine {flags}" in self.verbs else "undefine")

    def _verb(self, name: str) -> None:
        self.called.append(name)
        self.verbs.get(name, lambda: None)()


class ConnectionsDouble:
    """Connections to a libvirt that has one domain, or none."""

    def __init__(self, domain: DomainDouble) -> None:
        self.events = LifecycleEvents()
        self.domain: DomainDouble | None = domain
        self.broken: libvirt.libvirtError | None = None

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
