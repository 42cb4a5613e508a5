"""Domains through libvirt: every effect is looked at before and after, and none touches what is not ours."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final
from uuid import UUID

import libvirt

from models.states import ErrorClass
from tasks.host import Domain, DomainState, Guest, HostError, Identity, Platform, Volume
from worker.host.connections import ConnectionClass, Connections
from worker.host.device_xml import DiskSource
from worker.host.domain_calls import DomainCalls
from worker.host.errors import Call
from worker.host.event_loop import Wakeups
from worker.host.folders import Folders
from worker.host.guest_xml import GuestSurroundings, domain_xml
from worker.host.marking import owners_of, refuse_other, write_mark
from worker.host.sightings import Presence, presence_of, sighting_of

#: Whoever starts a guest again while it is being killed wins after so many rounds, and the job waits.
KILL_ROUNDS: Final = 3
#: A killed process may still count as running for a moment; its end is told by an event.
END_OF_PROCESS_S: Final = 5.0
#: How often libvirt is asked whether it is still busy with a domain, in seconds.
BUSY_AGAIN_S: Final = 0.2
#: What libvirt answers of a domain that has ended.
_ENDED: Final = frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID})
_BUSY: Final[Mapping[int, str]] = MappingProxyType(
    {
        libvirt.VIR_DOMAIN_CONTROL_JOB: "with a call of somebody's",
        libvirt.VIR_DOMAIN_CONTROL_OCCUPIED: "whose QEMU does not answer",
    }
)
#: An event lost with a connection must not cost the whole deadline.
LOOK_AGAIN_S: Final = 2.0

_UNDEFINE_ALL = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
)
#: From everything to what the smallest driver knows; a driver refuses a flag that it does not know.
_UNDEFINE_FLAGS: Final = (
    _UNDEFINE_ALL | libvirt.VIR_DOMAIN_UNDEFINE_TPM,
    _UNDEFINE_ALL,
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA,
    0,
)
_FLAGS_REFUSED = frozenset({libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT})


class LibvirtDomains:
    """The port's `Domains`.

    ``platform`` gives what a machine's guest runs on, ``surroundings`` what a definition takes from the host for a
    console log's path, ``describe`` where a volume is found.
    """

    def __init__(
        self,
        connections: Connections,
        folders: Folders,
        platform: Callable[[str], Platform],
        surroundings: Callable[[str], GuestSurroundings],
        describe: Callable[[Volume], DiskSource],
    ) -> None:
        self._connections = connections
        self._calls = DomainCalls(connections)
        self._folders = folders
        self._platform = platform
        self._surroundings = surroundings
        self._describe = describe

    def find(self, instance: UUID) -> Domain | None:
        """What libvirt shows now."""
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            sighting = sighting_of(connection, instance)
        return sighting.domain if sighting else None

    def known(self) -> Mapping[UUID, Domain]:
        """One list of them, then a look at each; one that goes meanwhile is not among them."""
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            uuids = [UUID(bytes=domain.UUID()) for domain in connection.listAllDomains()]
            sightings = {uuid: sighting_of(connection, uuid) for uuid in uuids}
        return {uuid: sighting.domain for uuid, sighting in sightings.items() if sighting is not None}

    def owners(self, instance: UUID) -> tuple[Identity | None, ...]:
        """What libvirt shows on both sides."""
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            return owners_of(connection, instance)

    def mark(self, identity: Identity) -> None:
        """Through libvirt's own call for metadata, which writes both sides."""
        owners = self.owners(identity.instance)
        if not owners:
            message = f"there is no domain {identity.instance} to mark"
            raise HostError(ErrorClass.PERMANENT, message, code="NO_DOMAIN", domain="QEMU")
        refuse_other(identity.instance, owners)
        with self._connections.calling(ConnectionClass.POWER, Call.MARK) as connection:
            write_mark(connection, identity.instance, identity)

    def unmark(self, instance: UUID) -> None:
        """By the same call."""
        owners = self.owners(instance)
        refuse_other(instance, owners)
        if any(owners):
            with self._connections.calling(ConnectionClass.POWER, Call.MARK) as connection:
                write_mark(connection, instance, None)

    def platform(self, machine_type: str) -> Platform:
        """As the host offers it now."""
        return self._platform(machine_type)

    def define(self, guest: Guest) -> None:
        """Define the domain, unless its UUID is another's."""
        instance = guest.identity.instance
        if guest.platform is None:
            guest = replace(guest, platform=self.platform(guest.hardware.machine_type))
        document = domain_xml(guest, self._surroundings(self._folders.console_log(instance)), self._describe)
        present = self._calls.ours(ConnectionClass.SPAWN, instance)
        self._folders.make_console_log(instance)
        try:
            with self._connections.calling(ConnectionClass.SPAWN, Call.DEFINE) as connection:
                connection.defineXML(document)
        except HostError as error:
            if present is None and error.error_class is not ErrorClass.UNKNOWN:
                self._folders.remove_console_log(instance)  # a conflict is not undone, for nothing was made
            raise

    def start(self, instance: UUID, *, paused: bool = False) -> None:
        """Start the domain; libvirt's refusal is no error if a look shows it active."""
        present = self._calls.ours(ConnectionClass.SPAWN, instance)
        if present is None:
            message = f"there is no domain {instance} to start"
            raise HostError(ErrorClass.PERMANENT, message, code="NO_DOMAIN", domain="QEMU")
        if present.active:
            return
        flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
        refusal = self._calls.attempt(ConnectionClass.SPAWN, Call.START, partial(present.domain.createWithFlags, flags))
        if refusal and not _is_active(self._calls.present(ConnectionClass.SPAWN, instance)):
            raise refusal

    def wait_running(self, instance: UUID, deadline_s: float) -> None:
        """Wait for the event that makes a look see it running, or stopped."""
        end = time.monotonic() + deadline_s
        with self._connections.events.watching(instance) as wakeups:
            while True:  # until the deadline, which each round compares
                domain = self.find(instance)
                if domain is None or not domain.active:
                    how = "is gone" if domain is None else f"stopped ({domain.reason})"
                    raise HostError(ErrorClass.PERMANENT, f"the domain {instance} {how} instead of running")
                if domain.state is DomainState.RUNNING:
                    return
                left = end - time.monotonic()
                if left <= 0:
                    message = f"the domain {instance} is {domain.state} ({domain.reason}) after {deadline_s:g} s"
                    raise HostError(ErrorClass.TRANSIENT, message)
                wakeups.wait(min(left, LOOK_AGAIN_S))

    def wait_idle(self, instance: UUID, deadline_s: float) -> None:
        """Ask libvirt what it does with the domain, which it tells at once, whatever the guest does."""
        end = time.monotonic() + deadline_s
        with self._connections.events.watching(instance) as wakeups:
            while (busy := self._busy(instance)) is not None:  # until the deadline, which each round compares
                left = end - time.monotonic()
                if left <= 0:
                    message = f"libvirt is still busy with the domain {instance}, {busy}, after {deadline_s:g} s"
                    raise HostError(ErrorClass.TRANSIENT, message)
                wakeups.wait(min(left, BUSY_AGAIN_S))

    def _busy(self, instance: UUID) -> str | None:
        """What libvirt does with the running domain; None if nothing, or nothing runs."""
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            present = presence_of(connection, instance)
            if present is None or not present.active:
                return None
            try:
                state, *_ = present.domain.controlInfo()
            except libvirt.libvirtError as error:
                if error.get_error_code() in _ENDED:
                    return None
                raise
        return _BUSY.get(state)

    def kill(self, instance: UUID) -> None:
        """End the process, and see it ended. A guest that somebody starts again meanwhile is killed again."""
        refusal: HostError | None = None
        for _ in range(KILL_ROUNDS):
            alive = self._calls.ours(ConnectionClass.DESTROY, instance)
            if alive is None or not alive.active:
                return
            with self._connections.events.watching(instance) as wakeups:
                refusal = self._calls.attempt(ConnectionClass.DESTROY, Call.KILL, alive.domain.destroy)
                if not _is_active(self._wait_ended(instance, alive, wakeups)):
                    return
        if _is_active(self._calls.present(ConnectionClass.DESTROY, instance)):
            message = f"the domain {instance} is still active after {KILL_ROUNDS} kills; somebody may be starting it"
            raise HostError(ErrorClass.TRANSIENT, message) from refusal

    def undefine(self, instance: UUID) -> None:
        """Remove the definition of a domain that is not active: libvirt would leave an active one transient."""
        present = self._calls.ours(ConnectionClass.DESTROY, instance)
        if present:
            _refuse_active(present, instance)
            refusal = self._undefine(present.domain)
            now = self._calls.present(ConnectionClass.DESTROY, instance)
            if now:
                _refuse_active(now, instance)
                message = f"the domain {instance} is still defined after it was undefined"
                raise refusal or HostError(ErrorClass.TRANSIENT, message)
        self._folders.remove_console_log(instance)

    def _wait_ended(self, instance: UUID, alive: Presence, wakeups: Wakeups) -> Presence | None:
        """What is there when that run of the domain has ended, or has had its time to."""
        end = time.monotonic() + END_OF_PROCESS_S
        while True:  # until the deadline, which each round compares
            now = self._calls.present(ConnectionClass.DESTROY, instance)
            left = end - time.monotonic()
            if now is None or now.run != alive.run or left <= 0:
                return now
            wakeups.wait(min(left, LOOK_AGAIN_S))

    def _undefine(self, domain: libvirt.virDomain) -> HostError | None:
        """Undefine with the most flags that the driver knows; what it refused is for a look to judge."""
        for flags in _UNDEFINE_FLAGS:
            try:
                return self._calls.attempt(ConnectionClass.DESTROY, Call.UNDEFINE, partial(domain.undefineFlags, flags))
            except HostError as error:
                if flags == _UNDEFINE_FLAGS[-1] or not _refuses_flags(error.__cause__):
                    raise
        return None


def _is_active(present: Presence | None) -> bool:
    return present is not None and present.active


def _refuse_active(present: Presence, instance: UUID) -> None:
    if present.active:
        message = f"the domain {instance} is active; its definition stays until it is killed"
        raise HostError(ErrorClass.TRANSIENT, message)


def _refuses_flags(error: BaseException | None) -> bool:
    return isinstance(error, libvirt.libvirtError) and error.get_error_code() in _FLAGS_REFUSED
