"""One look at a domain: its state in the port's words, and whose it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

import libvirt

from tasks.host import Domain, DomainState, Identity
from worker.host.guest_xml import METADATA_NAMESPACE, identity_in

_STATES: Mapping[int, DomainState] = MappingProxyType(
    {
        libvirt.VIR_DOMAIN_RUNNING: DomainState.RUNNING,
        libvirt.VIR_DOMAIN_BLOCKED: DomainState.RUNNING,
        libvirt.VIR_DOMAIN_PAUSED: DomainState.PAUSED,
        libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.PAUSED,
        libvirt.VIR_DOMAIN_SHUTDOWN: DomainState.SHUTTING_DOWN,
        libvirt.VIR_DOMAIN_SHUTOFF: DomainState.SHUT_OFF,
        libvirt.VIR_DOMAIN_CRASHED: DomainState.CRASHED,
    }
)
_REASON_PREFIXES: Mapping[int, str] = MappingProxyType(
    {
        libvirt.VIR_DOMAIN_RUNNING: "VIR_DOMAIN_RUNNING_",
        libvirt.VIR_DOMAIN_PAUSED: "VIR_DOMAIN_PAUSED_",
        libvirt.VIR_DOMAIN_SHUTOFF: "VIR_DOMAIN_SHUTOFF_",
        libvirt.VIR_DOMAIN_CRASHED: "VIR_DOMAIN_CRASHED_",
    }
)
_REASONS: Mapping[tuple[int, int], str] = MappingProxyType(
    {
        (state, value): name.removeprefix(prefix).lower().replace("_", " ")
        for state, prefix in _REASON_PREFIXES.items()
        for name, value in vars(libvirt).items()
        if name.startswith(prefix)
    }
)


@dataclass(frozen=True)
class Sighting:
    """A domain as seen once. ``run`` is libvirt's number of the process, new with every start; None when inactive."""

    domain: Domain
    run: int | None


@dataclass(frozen=True)
class Presence:
    """A domain as a call on it needs it: libvirt's handle, whose it is, and its ``run``, as in a `Sighting`."""

    domain: libvirt.virDomain
    identity: Identity | None
    run: int | None

    @property
    def active(self) -> bool:
        """Whether it has a process."""
        return self.run is not None


def presence_of(connection: libvirt.virConnect, instance: UUID) -> Presence | None:
    """What the connection shows, in half the questions of a sighting; None when there is no such domain."""
    try:
        domain = connection.lookupByUUID(instance.bytes)
        metadata = _metadata(domain)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    run = domain.ID()  # as the look-up found it: -1 when inactive
    return Presence(domain, identity_in(metadata), run if run >= 0 else None)


def sighting_of(connection: libvirt.virConnect, instance: UUID) -> Sighting | None:
    """What the connection shows; None when it says, itself working, that there is no such domain."""
    try:
        domain = connection.lookupByUUID(instance.bytes)
        state, reason = domain.state()
        metadata = _metadata(domain)
        run = domain.ID()  # as the look-up found it: -1 when inactive
        persistent = run < 0 or bool(domain.isPersistent())  # what is neither defined nor running is not there
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    seen, why = _state(state, reason, active=run >= 0)
    number = run if run >= 0 else None
    return Sighting(Domain(seen, persistent, identity_in(metadata), why, number), number)


def _state(state: int, reason: int, *, active: bool) -> tuple[DomainState, str]:
    seen = _STATES.get(state, DomainState.SHUT_OFF)
    why = _REASONS.get((state, reason), "unknown")
    ended = seen in {DomainState.SHUT_OFF, DomainState.CRASHED}
    if active and ended:
        # A process that libvirt is still making shows as shut off; one kept after a crash shows as crashed.
        return (DomainState.PAUSED, "crashed") if seen is DomainState.CRASHED else (DomainState.STARTING, "starting up")
    if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_STARTING_UP:
        return DomainState.STARTING, why
    if not active and not ended:
        return DomainState.SHUT_OFF, "unknown"  # it ended between the two questions
    return seen, why


def _metadata(domain: libvirt.virDomain) -> str:
    try:
        element: str = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA_NAMESPACE)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return ""
        raise
    return element
