"""Domains through libvirt: every effect is looked at before and after, and none touches what is not ours."""

import time
from collections.abc import Callable
from operator import methodcaller
from typing import Final
from uuid import UUID

import libvirt

from models.states import ErrorClass
from tasks.host import Domain, DomainState, Guest, HostError, Volume
from worker.host.connections import ConnectionClass, Connections
from worker.host.device_xml import DiskSource
from worker.host.domain_document import refuse_anothers
from worker.host.errors import Call, is_look_first
from worker.host.event_loop import Wakeups
from worker.host.folders import Folders
from worker.host.guest_xml import GuestSurroundings, domain_xml
from worker.host.sightings import Sighting, sighting_of

#: Whoever starts a guest again while it is being killed wins after so many rounds, and the job waits.
KILL_ROUNDS: Final = 3
#: A killed process may still count as running for a moment; its end is told by an event.
END_OF_PROCESS_S: Final = 5.0
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

    ``surroundings`` gives what a definition takes from the host for a console log's path, ``describe`` where a volume
    is found.
    """

    def __init__(
        self,
        connections: Connections,
        folders: Folders,
        surroundings: Callable[[str], GuestSurroundings],
        describe: Callable[[Volume], DiskSource],
    ) -> None:
        self._connections = connections
        self._folders = folders
        self._surroundings = surroundings
        self._describe = describe

    def find(self, instance: UUID) -> Domain | None:
        """What libvirt shows now."""
        sighting = self._look(instance)
        return sighting.domain if sighting else None

    def define(self, guest: Guest) -> None:
        """Define the domain, unless its UUID is another's."""
        instance = guest.identity.instance
        document = domain_xml(guest, self._surroundings(self._folders.console_log(instance)), self._describe)
        self._ours(instance)
        self._folders.make_console_log(instance)
        with self._connections.calling(ConnectionClass.SPAWN, Call.DEFINE) as connection:
            connection.defineXML(document)

    def start(self, instance: UUID) -> None:
        """Start the domain; libvirt's refusal is no error if a look shows it active."""
        if _is_active(self._ours(instance)):
            return
        refusal = self._attempt(instance, ConnectionClass.SPAWN, Call.START, methodcaller("create"))
        if refusal and not _is_active(self._look(instance)):
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

    def kill(self, instance: UUID) -> None:
        """End the process, and see it ended. A guest that somebody starts again meanwhile is killed again."""
        refusal: HostError | None = None
        for _ in range(KILL_ROUNDS):
            alive = self._ours(instance)
            if alive is None or not alive.domain.active:
                return
            with self._connections.events.watching(instance) as wakeups:
                refusal = self._attempt(instance, ConnectionClass.DESTROY, Call.KILL, methodcaller("destroy"))
                if not _is_active(self._wait_ended(instance, alive, wakeups)):
                    return
        if _is_active(self._look(instance)):
            message = f"the domain {instance} is still active after {KILL_ROUNDS} kills; somebody may be starting it"
            raise HostError(ErrorClass.TRANSIENT, message) from refusal

    def undefine(self, instance: UUID) -> None:
        """Remove the definition of a domain that is not active: libvirt would leave an active one transient."""
        sighting = self._ours(instance)
        if sighting:
            _refuse_active(sighting, instance)
            refusal = self._undefine(instance)
            now = self._look(instance)
            if now:
                _refuse_active(now, instance)
                message = f"the domain {instance} is still defined after it was undefined"
                raise refusal or HostError(ErrorClass.TRANSIENT, message)
        self._folders.remove_console_log(instance)

    def _wait_ended(self, instance: UUID, alive: Sighting, wakeups: Wakeups) -> Sighting | None:
        """What is seen when that run of the domain has ended, or has had its time to."""
        end = time.monotonic() + END_OF_PROCESS_S
        while True:  # until the deadline, which each round compares
            now = self._look(instance)
            left = end - time.monotonic()
            if now is None or not alive.same_run(now) or left <= 0:
                return now
            wakeups.wait(min(left, LOOK_AGAIN_S))

    def _undefine(self, instance: UUID) -> HostError | None:
        """Undefine with the most flags that the driver knows; what it refused is for a look to judge."""
        for flags in _UNDEFINE_FLAGS:
            try:
                return self._attempt(
                    instance, ConnectionClass.DESTROY, Call.UNDEFINE, methodcaller("undefineFlags", flags)
                )
            except HostError as error:
                if flags == _UNDEFINE_FLAGS[-1] or not _refuses_flags(error.__cause__):
                    raise
        return None

    def _look(self, instance: UUID) -> Sighting | None:
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            return sighting_of(connection, instance)

    def _ours(self, instance: UUID) -> Sighting | None:
        """What is there, if it is ours or nothing. Raises HostError(CONFLICT) when it is another's."""
        sighting = self._look(instance)
        if sighting is None:
            return None
        refuse_anothers(instance, sighting.domain.identity)
        return sighting

    def _attempt(
        self,
        instance: UUID,
        connection_class: ConnectionClass,
        call: Call,
        effect: Callable[[libvirt.virDomain], object],
    ) -> HostError | None:
        """Have the effect on the domain. Returned is an error that may mean 'so already', which a look must tell."""
        try:
            with self._connections.calling(connection_class, call) as connection:
                effect(connection.lookupByUUID(instance.bytes))
        except HostError as error:
            if is_look_first(error, call):
                return error
            raise
        return None


def _is_active(sighting: Sighting | None) -> bool:
    return sighting is not None and sighting.domain.active


def _refuse_active(sighting: Sighting, instance: UUID) -> None:
    if sighting.domain.active:
        message = f"the domain {instance} is {sighting.domain.state}; its definition stays until it is killed"
        raise HostError(ErrorClass.TRANSIENT, message)


def _refuses_flags(error: BaseException | None) -> bool:
    return isinstance(error, libvirt.libvirtError) and error.get_error_code() in _FLAGS_REFUSED
