"""Migrations through libvirt, from daemon to daemon. A call's answer is not believed: looks tell who has the guest."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

import libvirt

from models.states import ErrorClass
from tasks.host import Departure, Domain, DomainState, Half, HostError, LocalDisk, MigrationPlan, Peer, Watch
from worker.host.connections import ConnectionClass, Connections
from worker.host.domain_document import refuse_anothers
from worker.host.errors import Call, is_look_first
from worker.host.facts import HostFacts
from worker.host.folders import Folders
from worker.host.migrations.calls import OwnCalls, Questions
from worker.host.migrations.endings import AdoptedEnding, OwnEnding
from worker.host.migrations.fitness import refuse_namesake, refuse_other_cpu, refuse_too_large
from worker.host.migrations.jobs import MigrationJob, half_of
from worker.host.migrations.monitor import Ending, Monitor, PostCopy
from worker.host.migrations.peers import Peers
from worker.host.migrations.request import TAKE_UP, flags_for, libvirt_uri, parameters_for
from worker.host.migrations.travelling import disks_to_copy, host_cpu, relocated, traveller
from worker.host.sightings import sighting_of
from worker.host.threaded_call import ThreadedCall

_log = logging.getLogger(__name__)

#: A look that QEMU's monitor holds up is given up.
LOOK_WITHIN_S: Final = 10.0
#: Between two looks for the end of a migration that was aborted.
LOOK_AGAIN_S: Final = 0.2

_MIGRATABLE: Final = libvirt.VIR_DOMAIN_XML_MIGRATABLE
#: With the secrets, which go from daemon to daemon and are written down nowhere.
_RUNNING_XML: Final = _MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
_DEFINITION: Final = _RUNNING_XML | libvirt.VIR_DOMAIN_XML_INACTIVE


class LibvirtMigrations:
    """The port's `Migrations`. ``require_file`` refuses a file that guests may not be made from."""

    def __init__(
        self,
        connections: Connections,
        folders: Folders,
        facts: Callable[[], HostFacts],
        require_file: Callable[[str], None],
    ) -> None:
        self._connections = connections
        self._folders = folders
        self._facts = facts
        self._require_file = require_file
        self._calls = OwnCalls()
        self._questions = Questions()
        self._peers = Peers(self._questions)
        self._pause = threading.Event()

    # --- before

    def describe(self, instance: UUID) -> Departure:
        """As its running guest is, which may differ from its definition."""
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            paused = _living(connection, instance) is DomainState.PAUSED
            domain = connection.lookupByUUID(instance.bytes)
            document = domain.XMLDesc(_MIGRATABLE)
            disks = tuple(
                LocalDisk(disk.target, disk.path, disk.format, domain.blockInfo(disk.target)[0])
                for disk in disks_to_copy(document, self._folders.path(instance))
            )
            cpu = host_cpu(connection.getCapabilities())
        guest = traveller(document)
        return Departure(
            domain_xml=document,
            host_cpu=cpu,
            virt_type=guest.virt_type,
            memory_mib=guest.memory_mib,
            paused=paused,
            console_log=guest.console_log,
            disks=disks,
            files=guest.files,
        )

    def check_arrival(self, departure: Departure) -> None:
        """By what libvirt says of this host, and by a look for a domain that is in the way."""
        guest, facts = traveller(departure.domain_xml), self._facts()
        if departure.virt_type not in facts.domain_types or guest.architecture != facts.architecture:
            message = f"this host has no {departure.virt_type} for guests of the architecture {guest.architecture}"
            raise HostError(ErrorClass.PERMANENT, message)
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            refuse_too_large(connection, departure.memory_mib)
            if departure.virt_type == "kvm":
                refuse_other_cpu(connection, departure.host_cpu)
            refuse_namesake(connection, guest)
        for path in departure.files:
            self._require_file(path)

    # --- who has it

    def here(self, instance: UUID) -> Half:
        """This host's libvirtd's word, and whether a call of this process has not returned."""
        own = self._calls.under_way(instance) is not None
        half = self._questions.ask(("here", instance), lambda: self._half(instance), LOOK_WITHIN_S)
        return Half(half.domain, half.under_way or own)

    def there(self, instance: UUID, peer: Peer) -> Half:
        """The other libvirtd's word."""
        return self._peers.half(instance, peer)

    # --- under way

    def perform(self, instance: UUID, plan: MigrationPlan, watch: Watch) -> None:
        """One call in a thread of its own, watched here; or one that an earlier caller, or process, began."""
        job = self._job(instance)
        post_copy = PostCopy.POSSIBLE if plan.post_copy else PostCopy.IMPOSSIBLE
        call, now = self._calls.under_way(instance), job.figures()
        ending: Ending
        if call is not None:
            ending = OwnEnding(call)
        elif now.under_way and not now.broken:
            _log.info("a migration under way is adopted: instance=%s", instance)
            ending = AdoptedEnding(instance, self.here)
        else:
            if now.broken:
                self._refuse_lost(instance, plan.peer)
            call, post_copy = self._begin(instance, plan, take_up=now.broken)
            ending = OwnEnding(call)
        Monitor(instance=instance, job=job, ending=ending, plan=plan, watch=watch, post_copy=post_copy).run()

    def abort(self, instance: UUID, deadline_s: float) -> None:
        """Asked for again until a look sees no migration."""
        end, job = time.monotonic() + deadline_s, self._job(instance)
        while self._leaves(instance, job):
            if time.monotonic() >= end:
                message = f"a migration of {instance} out of this host is still under way after {deadline_s:g} s"
                raise HostError(ErrorClass.TRANSIENT, message)
            try:
                job.abort()
            except HostError as error:
                if not is_look_first(error, Call.ABORT):
                    raise
            self._pause.wait(LOOK_AGAIN_S)

    # --- after

    def resume(self, instance: UUID) -> None:
        """Libvirt's refusal is no error if a look shows it running."""
        domain = self._stays(instance, "resumed")
        if domain.state is DomainState.RUNNING:
            return
        try:
            self._questions.ask((Call.RESUME, instance), lambda: self._resume(instance), LOOK_WITHIN_S)
        except HostError as error:
            if (
                not is_look_first(error, Call.RESUME)
                or self._stays(instance, "resumed").state is not DomainState.RUNNING
            ):
                raise

    def console_log(self, instance: UUID) -> str:
        """In the instance's folder."""
        return self._folders.console_log(instance)

    def receive(self, instance: UUID) -> None:
        """An empty file: QEMU makes no folder, and may not be allowed to make the file."""
        self._folders.make_console_log(instance)

    def persist(self, instance: UUID) -> None:
        """From its own XML, without what is only of this run."""
        if self._stays(instance, "defined").persistent:
            return
        with self._connections.calling(ConnectionClass.SPAWN, Call.DEFINE) as connection:
            domain = connection.lookupByUUID(instance.bytes)
            connection.defineXML(domain.XMLDesc(_DEFINITION))

    def close(self) -> None:
        """Let go of the other hosts."""
        self._peers.close()

    # --- how

    def _half(self, instance: UUID) -> Half:
        with self._connections.calling(ConnectionClass.MIGRATE, Call.LOOK) as connection:
            return half_of(connection, instance)

    def _job(self, instance: UUID) -> MigrationJob:
        return MigrationJob(self._connections, self._questions, instance)

    def _begin(self, instance: UUID, plan: MigrationPlan, *, take_up: bool) -> tuple[ThreadedCall[None], PostCopy]:
        """The call, begun: of a new migration, or to take a broken post-copy up again."""
        uri = libvirt_uri(plan.peer)
        with self._connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
            paused = _living(connection, instance) is DomainState.PAUSED
            domain = connection.lookupByUUID(instance.bytes)
            documents = [
                relocated(domain.XMLDesc(kind), plan.paths, plan.copied_disks, plan.disk_cachemode)
                for kind in (_RUNNING_XML, _DEFINITION)
            ]
        # a broken post-copy left it paused: nobody's wish, and it runs over there already
        flags = flags_for(plan, paused=paused and not take_up) | (TAKE_UP if take_up else 0)
        parameters = parameters_for(plan, *documents)

        def migrate() -> None:
            with self._connections.calling_alone(Call.MIGRATE) as connection:
                connection.lookupByUUID(instance.bytes).migrateToURI3(uri, parameters, flags)
            if flags & libvirt.VIR_MIGRATE_PAUSED and not paused:
                self._let_run_there(instance, plan.peer)

        _log.info("migrating: instance=%s to=%s flags=%#x", instance, plan.peer.name, flags)
        possible = PostCopy.POSSIBLE if flags & libvirt.VIR_MIGRATE_POSTCOPY else PostCopy.IMPOSSIBLE
        return self._calls.begin(instance, migrate), PostCopy.BEGUN if take_up else possible

    def _let_run_there(self, instance: UUID, peer: Peer) -> None:
        """Libvirt has said that no copy lives here any more. If this fails, whoever persists it there lets it run."""
        try:
            self._peers.resume(instance, peer)
        except HostError as error:
            _log.warning("the guest waits on its new host: instance=%s host=%s %s", instance, peer.name, error)

    def _refuse_lost(self, instance: UUID, peer: Peer) -> None:
        """A post-copy can be taken up only while both ends of it live."""
        there = self.there(instance, peer)
        if there.domain is None or not there.domain.active:
            message = f"the post-copy of {instance} broke, and host {peer.name} has no guest of it to go on with"
            raise HostError(ErrorClass.PERMANENT, message)

    def _leaves(self, instance: UUID, job: MigrationJob) -> bool:
        """Whether it is on its way out of here, as far as that is ours to know."""
        domain = self.here(instance).domain
        if domain is not None:
            refuse_anothers(instance, domain.identity)
        return self._calls.under_way(instance) is not None or job.figures().under_way

    def _stays(self, instance: UUID, to_be: str) -> Domain:
        """The guest that lives here and is ours; HostError when it does not, or not yet."""
        half = self.here(instance)
        if half.domain is None or not half.domain.active:
            raise HostError(ErrorClass.PERMANENT, f"no guest of {instance} is here to be {to_be}")
        refuse_anothers(instance, half.domain.identity)
        if half.under_way:
            raise HostError(ErrorClass.TRANSIENT, f"the guest of {instance} is on its way, and cannot be {to_be} yet")
        return half.domain

    def _resume(self, instance: UUID) -> None:
        with self._connections.calling(ConnectionClass.MIGRATE, Call.RESUME) as connection:
            connection.lookupByUUID(instance.bytes).resume()


def _living(connection: libvirt.virConnect, instance: UUID) -> DomainState:
    """Running or paused; anything else is HostError(PERMANENT), another's HostError(CONFLICT)."""
    sighting = sighting_of(connection, instance)
    if sighting is None:
        raise HostError(ErrorClass.PERMANENT, f"there is no domain {instance} to migrate")
    refuse_anothers(instance, sighting.domain.identity)
    state = sighting.domain.state
    if state not in {DomainState.RUNNING, DomainState.PAUSED}:
        raise HostError(ErrorClass.PERMANENT, f"the domain {instance} is {state}, and only a guest that lives can move")
    return state
