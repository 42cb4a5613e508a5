"""Migration, on the host that the instance leaves: described, moved, cleared away."""

from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from models.records import NOTHING, Change, Device, DeviceChanged, InstanceMoved, Json, Progress
from models.states import DeviceKind, ErrorClass
from tasks.host import (
    Departure,
    DomainState,
    Half,
    Host,
    HostError,
    LocalDisk,
    MigrationPlan,
    MigrationProgress,
    OnTimeout,
    Peer,
    Wish,
)
from tasks.operation import Absent, InProgress, Partial, Sight, There, Work
from tasks.requests.migrate import MigrateRequest
from tasks.steps.devices import interfaces_of, volumes_of
from tasks.steps.identity import stranger

_GIB = 1024**3
#: Below this a guest's memory, or a disk, counts as that much: nova's floor for what scales with size, in GiB.
_LEAST_GIB = 2.0
#: The shortest pause between two steps of the downtime, in seconds per GiB: nova's floor.
_LEAST_DELAY_S = 3
#: How long an undo waits for a migration to be over that it aborted, in seconds.
ABORT_DEADLINE_S = 30.0


def other_host(work: Work[MigrateRequest]) -> Peer:
    """The other host of the migration."""
    if work.peer is None:
        raise HostError(ErrorClass.PERMANENT, "the job has no other host")
    return work.peer


def departure_of(work: Work[MigrateRequest]) -> Departure:
    """What the source described."""
    described: dict[str, Any] = dict(work.earlier["SourceDescribed"])
    disks = tuple(LocalDisk(**disk) for disk in described.pop("disks"))
    return Departure(**described | {"disks": disks, "files": tuple(described["files"])})


def size_gib(departure: Departure) -> float:
    """What a migration's times scale with."""
    disks = sum(max(disk.virtual_size_bytes / _GIB, _LEAST_GIB) for disk in departure.disks)
    return max(departure.memory_mib / 1024, _LEAST_GIB) + disks


class SourceDescribed:
    """It is written down what leaves: the guest, the CPU under it, its disks and files."""

    name = "SourceDescribed"

    def plan(self, work: Work[MigrateRequest], host: Host) -> Json:
        """All that the destination must know."""
        peer = other_host(work)
        if peer.name == work.host:
            raise HostError(ErrorClass.PERMANENT, f"instance {work.instance} is on host {peer.name} already")
        if not peer.libvirt_uri or not peer.address:
            message = (
                f"host {peer.name} has not said how other hosts reach it "
                "(HOSTLER_PEER_LIBVIRT_URI and HOSTLER_MIGRATION_ADDRESS of its worker)"
            )
            raise HostError(ErrorClass.PERMANENT, message)
        if host.migrations.there(work.instance, peer).domain is not None:
            raise HostError(ErrorClass.CONFLICT, f"host {peer.name} has a domain {work.instance} already")
        return asdict(host.migrations.describe(work.instance))

    def look(self, work: Work[MigrateRequest], host: Host) -> Sight:
        """Only what is ours is moved."""
        if work.intended:
            return There()
        domain = host.domains.find(work.instance)
        return (None if domain is None else stranger(work, domain)) or Absent()

    def do(self, work: Work[MigrateRequest], host: Host) -> None:
        """The intent says it all."""

    def undo(self, work: Work[MigrateRequest], host: Host) -> None:
        """Nothing was made."""

    def changes(self, work: Work[MigrateRequest]) -> tuple[Change, ...]:
        """The instance is where it was."""
        return ()


class DomainMigrated:
    """The destination has the instance, and its guest does not run on the source."""

    name = "DomainMigrated"

    def plan(self, work: Work[MigrateRequest], host: Host) -> Json:
        """The domain's identity goes with it."""
        return {"destination": other_host(work).name}

    def look(self, work: Work[MigrateRequest], host: Host) -> Sight:
        """Who has the guest is told by looks at both hosts, and by nothing else."""
        here = host.migrations.here(work.instance)
        if here.under_way:
            why = f"a migration of {work.instance} is under way"
            return Partial(f"{why}: it is watched to its end") if work.intended else InProgress(why)
        if here.domain is not None:
            other = stranger(work, here.domain)
            if other is not None:
                return other
            if here.domain.state is DomainState.RUNNING:
                return self._may_try(work, host)
        there = host.migrations.there(work.instance, other_host(work))
        match who_has(here, there):
            case Holder.DESTINATION:
                return There()
            case Holder.SOURCE:
                broken = here.domain is not None and here.domain.active and not departure_of(work).paused
                return Partial("a broken migration left the guest paused here") if broken else Absent()
            case Holder.UNDECIDED:
                return InProgress(f"host {other_host(work).name} has not said yet whether the guest has arrived")

    def do(self, work: Work[MigrateRequest], host: Host) -> None:
        """Moves it, or watches a migration that is under way; the call's own error is never the truth."""
        if self._has_arrived(work, host):
            return
        self._let_run(work, host)
        try:
            host.migrations.perform(work.instance, _plan(work), _Watch(work))
        except HostError as error:
            if not self._has_arrived(work, host):
                raise _not_strange(error) from error

    def undo(self, work: Work[MigrateRequest], host: Host) -> None:
        """Ends what is under way, and lets the guest run on here. A guest that has left cannot be undone."""
        host.migrations.abort(work.instance, ABORT_DEADLINE_S)
        if self._has_arrived(work, host):
            raise HostError(ErrorClass.PERMANENT, f"the guest runs on {other_host(work).name} already")
        self._let_run(work, host)

    def changes(self, work: Work[MigrateRequest]) -> tuple[Change, ...]:
        """The instance lives on the other host, its copied disks with it."""
        paths = work.earlier.get("DestinationFilesMade", {}).get("paths", {})
        moved = [
            DeviceChanged(Device(each.kind, each.key, {**each.details, "path": paths[path]}, each.exclusive))
            for each in work.devices
            if each.kind is DeviceKind.DISK and (path := each.details.get("path")) in paths
        ]
        return (InstanceMoved(other_host(work).name), *moved)

    def _may_try(self, work: Work[MigrateRequest], host: Host) -> Sight:
        """A guest that runs here can be moved, once the destination has given up what came of an earlier attempt."""
        if work.intended and host.migrations.there(work.instance, other_host(work)).under_way:
            return InProgress(f"host {other_host(work).name} still has what came of the last attempt")
        return Absent()

    def _has_arrived(self, work: Work[MigrateRequest], host: Host) -> bool:
        """Whether the destination has it; HostError(TRANSIENT) when that cannot be told."""
        here = host.migrations.here(work.instance)
        if here.under_way or (here.domain is not None and here.domain.state is DomainState.RUNNING):
            return False
        peer = other_host(work)
        holder = who_has(here, host.migrations.there(work.instance, peer))
        if holder is Holder.UNDECIDED:
            raise HostError(ErrorClass.TRANSIENT, f"host {peer.name} has not said yet whether the guest has arrived")
        return holder is Holder.DESTINATION

    def _let_run(self, work: Work[MigrateRequest], host: Host) -> None:
        """A guest that a broken migration left paused runs on; one that its user paused stays so."""
        half = host.migrations.here(work.instance)
        paused = half.domain is not None and half.domain.state is DomainState.PAUSED
        if paused and not half.under_way and not departure_of(work).paused:
            host.migrations.resume(work.instance)


def _not_strange(error: HostError) -> HostError:
    """The migration's own error: nothing of a stranger's stood in its way, so what it did is this job's to undo."""
    record = error.record
    if record.error_class is not ErrorClass.CONFLICT:
        return error
    return HostError(ErrorClass.PERMANENT, record.message, code=record.code, domain=record.domain, errno=record.errno)


class Holder(StrEnum):
    """Which host has an instance whose guest does not run on the source."""

    SOURCE = "source"
    DESTINATION = "destination"
    UNDECIDED = "undecided"  #: the destination is still about to take it, or to give it up


def who_has(here: Half, there: Half) -> Holder:
    """What the looks at both hosts mean, for a guest that does not run on the source.

    The destination had no domain of it before, and is given a definition at the switch alone: a domain that is there
    and is not arriving has arrived, whatever became of its guest since.

    Raises HostError(PERMANENT) when neither has as much as a definition of it.
    """
    if there.has_it:
        return Holder.DESTINATION
    if there.under_way:
        return Holder.UNDECIDED
    if here.domain is None:
        raise HostError(ErrorClass.PERMANENT, "neither of the migration's two hosts has the guest")
    return Holder.SOURCE


def _plan(work: Work[MigrateRequest]) -> MigrationPlan:
    request, departure = work.request, departure_of(work)
    files = work.earlier.get("DestinationFilesMade", {})
    gib = size_gib(departure)
    return MigrationPlan(
        peer=other_host(work),
        paths=files.get("paths", {}),
        copied_disks=tuple(disk.target for disk in departure.disks),
        disk_cachemode=files.get("disk_cachemode"),
        bandwidth_mib_s=request.bandwidth_mib_s,
        post_copy=request.post_copy,
        auto_converge=request.auto_converge,
        completion_timeout_s=request.completion_timeout_s_per_gib * gib,
        on_timeout=OnTimeout(request.on_timeout),
        downtime_ms=request.downtime_ms,
        downtime_steps=request.downtime_steps,
        downtime_delay_s=max(request.downtime_delay_s_per_gib, _LEAST_DELAY_S) * gib,
    )


class _Watch:
    """Tells the journal of the migration's progress, and the migration of what is wanted."""

    def __init__(self, work: Work[MigrateRequest]) -> None:
        self._work = work

    def __call__(self, progress: MigrationProgress) -> Wish:
        return self._work.report(
            Progress(
                what="migrating",
                done_bytes=progress.done_bytes,
                total_bytes=progress.total_bytes,
                eta_s=progress.eta_s,
                silent_s=progress.silent_s,
                details={
                    "remaining_bytes": progress.remaining_bytes,
                    "elapsed_s": round(progress.elapsed_s, 1),
                    "iteration": progress.iteration,
                    "downtime_ms": progress.downtime_ms,
                    "post_copy": progress.post_copy,
                },
            ),
            passes_return=progress.post_copy,
        )


class SourceCleared:
    """Nothing of the instance is left on the host that it left."""

    name = "SourceCleared"

    def plan(self, work: Work[MigrateRequest], host: Host) -> Json:
        """The inventory names it."""
        return NOTHING

    def look(self, work: Work[MigrateRequest], host: Host) -> Sight:
        """A guest that runs here again is not cleared away; the halted rest of one that left is."""
        domain = host.domains.find(work.instance)
        if domain is not None:
            if domain.state is DomainState.RUNNING:
                raise HostError(ErrorClass.CONFLICT, f"instance {work.instance} left, and its guest runs here again")
            return stranger(work, domain) or Absent()
        return There() if nothing_is_held(work, host) and not host.disks.folder_exists(work.instance) else Absent()

    def do(self, work: Work[MigrateRequest], host: Host) -> None:
        """Ends the halted rest, lets go of volumes and interfaces, and removes the files whose copies are elsewhere."""
        host.domains.kill(work.instance)
        host.domains.undefine(work.instance)
        let_go(work, host)
        host.disks.remove_folder(work.instance)

    def undo(self, work: Work[MigrateRequest], host: Host) -> None:
        """Never asked for: past the switch there is only forward."""

    def changes(self, work: Work[MigrateRequest]) -> tuple[Change, ...]:
        """The inventory knows that the instance has left."""
        return ()


def nothing_is_held(work: Work[Any], host: Host) -> bool:
    """Whether this host keeps nothing of the instance's volumes and interfaces."""
    volumes: Iterable[bool] = (host.volumes.held(each.volume) for each in volumes_of(work.devices))
    interfaces: Iterable[bool] = (host.interfaces.left(each) for each in interfaces_of(work.devices))
    return not any(volumes) and not any(interfaces)


def let_go(work: Work[Any], host: Host) -> None:
    """Let go of the instance's volumes and interfaces on this host."""
    for volume in volumes_of(work.devices):
        host.volumes.disconnect(volume.volume)
    for interface in interfaces_of(work.devices):
        host.interfaces.unplug(interface)
