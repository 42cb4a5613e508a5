"""Migrations between fake hosts of one world: at once, unless a test holds one in flight or breaks it."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from models.states import ErrorClass
from tasks.host import (
    Departure,
    Domain,
    DomainState,
    Half,
    HostError,
    LocalDisk,
    MigrationPlan,
    MigrationProgress,
    OnTimeout,
    Peer,
    ShownDevice,
    Watch,
    Wish,
)
from tasks.host.devices import Paths
from tests.contract.fake_domains import FakeDomains
from tests.contract.fake_files import STATE, FakeDisks, FakeImages
from tests.contract.faults import Killed, Room, Script, port

MIB = 1024**2
#: How long a tick takes in a migration's own time, and in a test's.
TICK_S, TICK_TAKES_S = 0.5, 0.005


class Broken(StrEnum):
    """What the half of a migration is that a crash leaves."""

    IN_FLIGHT = "in_flight"  #: libvirt goes on with it; whoever performs it again watches it to its end
    ARRIVED = "arrived"  #: the destination has the guest, the source a paused rest
    LOST = "lost"  #: the destination has nothing, the source the guest, paused


@dataclass
class Move:
    """A migration under way."""

    source: "FakeMigrations"
    target: "FakeMigrations"
    plan: MigrationPlan
    paused: bool
    ticks: int = 0
    silent_ticks: int = 0
    post_copy: bool = False

    def progress(self) -> MigrationProgress:
        """How far it is: nothing comes through while one of its hosts is cut off."""
        done = min(self.ticks - self.silent_ticks, 99)
        return MigrationProgress(
            done_bytes=done * MIB,
            remaining_bytes=(100 - done) * MIB,
            total_bytes=100 * MIB,
            elapsed_s=self.ticks * TICK_S,
            eta_s=(100 - done) * TICK_S if done else None,
            iteration=1,
            downtime_ms=self.plan.downtime_ms,
            post_copy=self.post_copy,
            silent_s=self.silent_ticks * TICK_S,
        )


class FakeWorld:
    """The hosts that may reach each other; all of them hold ``changed`` while they read or change anything."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.hosts: dict[str, FakeMigrations] = {}
        self.moves: dict[UUID, Move] = {}
        self.held: set[UUID] = set()
        self.cut_off: set[str] = set()

    @staticmethod
    def peer(name: str) -> Peer:
        """The host of that name, as another one is told of it."""
        return Peer(name, f"fake://{name}", f"{name}.example")

    def hold(self, instance: UUID) -> None:
        """From now on a migration of the instance stays in flight, until it is let go, cancelled or forced."""
        with self.changed:
            self.held.add(instance)

    def let_go(self, instance: UUID) -> None:
        """Let it come to its end, watched or not."""
        with self.changed:
            self.held.discard(instance)
            self.changed.notify_all()

    def finish(self, instance: UUID) -> None:
        """It comes to its end, and nobody watches it."""
        with self.changed:
            self.held.discard(instance)
            self.moves[instance].source.arrive(instance)

    def wait_under_way(self, instance: UUID, within_s: float = 10.0) -> None:
        """Return once a migration of the instance is in flight."""
        with self.changed:
            assert self.changed.wait_for(lambda: instance in self.moves, within_s), f"{instance} does not move"

    def cut(self, *names: str) -> None:
        """Nobody reaches these hosts any more, nor they anybody."""
        with self.changed:
            self.cut_off.update(names)

    def heal(self) -> None:
        """Everybody reaches everybody."""
        with self.changed:
            self.cut_off.clear()

    def reached(self, peer: Peer, whence: str) -> "FakeMigrations":
        """The peer's host; HostError when it cannot be seen."""
        if not peer.libvirt_uri:
            raise HostError(ErrorClass.PERMANENT, f"host {peer.name} has not said how its libvirtd is reached")
        name = peer.libvirt_uri.removeprefix("fake://")
        if name not in self.hosts or {name, whence} & self.cut_off:
            raise HostError(ErrorClass.TRANSIENT, f"host {peer.name} cannot be seen", code="SYSTEM_ERROR", domain="RPC")
        if name != peer.name:
            raise HostError(ErrorClass.PERMANENT, f"another libvirtd answers where host {peer.name} should")
        return self.hosts[name]


class FakeMigrations(Room):
    """The port's `Migrations`.

    ``broken`` is what a fault half-way through ``perform`` leaves. A watcher that raises `Killed` was killed: nobody
    aborts anything.
    """

    def __init__(  # the rooms of one host
        self, script: Script, world: FakeWorld, name: str, domains: FakeDomains, disks: FakeDisks, images: FakeImages
    ) -> None:
        super().__init__(script)
        self.name = name
        self.domains = domains
        self.disks = disks
        self.world = world
        self.broken = Broken.ARRIVED
        self.virt_types = {"qemu"}
        self.cpu = "<cpu><arch>x86_64</arch></cpu>"
        self.memory_mib = 16384
        self._images = images
        world.hosts[name] = self

    @port("migrations.describe")
    def describe(self, instance: UUID) -> Departure:
        """As its guest is now."""
        with self.script.changed:
            domain = self._ours(instance)
            if domain is None or domain.state not in {DomainState.RUNNING, DomainState.PAUSED}:
                raise HostError(ErrorClass.PERMANENT, f"the domain {instance} does not run")
            guest = self.domains.guests[instance]
            boot = (guest.boot.kernel, guest.boot.initrd) if guest.boot else ()
            return Departure(
                domain_xml=f"<domain type='qemu'><uuid>{instance}</uuid></domain>",
                host_cpu=self.cpu,
                virt_type="qemu",
                memory_mib=guest.memory_mib,
                paused=domain.state is DomainState.PAUSED and domain.reason != "migration",
                console_log=f"{STATE}/{instance}/console.log",
                disks=tuple(self._local_disks(instance)),
                files=tuple(file for file in boot if file),
            )

    @port("migrations.check_arrival")
    def check_arrival(self, departure: Departure) -> None:
        """By what a test gave this host."""
        with self.script.changed:
            if departure.virt_type not in self.virt_types:
                raise HostError(ErrorClass.PERMANENT, f"this host has no {departure.virt_type}")
            if departure.host_cpu != self.cpu:
                raise HostError(ErrorClass.PERMANENT, "this host's CPU lacks something that the source host's has")
            if departure.memory_mib > self.memory_mib:
                message = f"the guest has {departure.memory_mib} MiB, and this host only {self.memory_mib}"
                raise HostError(ErrorClass.PERMANENT, message)
            self._ours(UUID(departure.domain_xml.partition("<uuid>")[2].partition("</uuid>")[0]))
        for path in departure.files:
            self._images.require_file(path)

    @port("migrations.here")
    def here(self, instance: UUID) -> Half:
        """What there is now."""
        with self.script.changed:
            return self.half(instance)

    @port("migrations.there")
    def there(self, instance: UUID, peer: Peer) -> Half:
        """What there is over there now, unless one of the two is cut off."""
        with self.script.changed:
            return self.world.reached(peer, self.name).half(instance)

    @port("migrations.perform")
    def perform(self, instance: UUID, plan: MigrationPlan, watch: Watch) -> None:
        """Tell of it once, or for as long as it is held; then it has arrived."""
        with self.script.changed:
            move = self.world.moves.get(instance) or self.begin(instance, plan)
        while self._in_flight(move, instance):
            wish = self._told(move, instance, watch)
            late = 0 < plan.completion_timeout_s < move.ticks * TICK_S
            if move.post_copy:
                continue
            if wish is Wish.CANCEL:
                raise self._cancel(
                    instance, HostError(ErrorClass.TRANSIENT, f"the migration of {instance} was cancelled")
                )
            if late and plan.on_timeout is OnTimeout.ABORT:
                message = f"the migration of {instance} was not done within {plan.completion_timeout_s:g} s"
                raise self._cancel(instance, HostError(ErrorClass.PERMANENT, message))
            if late or wish is Wish.FORCE_COMPLETE:
                self._force(move, instance, watch)
        with self.script.changed:
            if instance in self.world.moves:
                self.arrive(instance)
            self.script.did("migrations.perform", instance)

    @port("migrations.abort")
    def abort(self, instance: UUID, deadline_s: float) -> None:
        """At once, unless it is too late for that."""
        with self.script.changed:
            self._ours(instance)
            move = self.world.moves.get(instance)
            if move is None or move.source is not self:
                return
            if move.post_copy:
                raise HostError(ErrorClass.TRANSIENT, f"a migration of {instance} is still under way")
            self.fall_back(instance)
            self.script.did("migrations.abort", instance)

    @port("migrations.resume")
    def resume(self, instance: UUID) -> None:
        """It runs."""
        with self.script.changed:
            if self._staying(instance).state is not DomainState.RUNNING:
                self.domains.is_now(instance, DomainState.RUNNING, "unpaused")
                self.script.did("migrations.resume", instance)

    @port("migrations.console_log")
    def console_log(self, instance: UUID) -> str:
        """A path that is never opened."""
        return f"{STATE}/{instance}/console.log"

    @port("migrations.receive")
    def receive(self, instance: UUID) -> None:
        """Note it."""
        with self.script.changed:
            files = self.disks.make_folder(instance)
            if not files.console_log:
                files.console_log = True
                self.script.did("migrations.receive", instance)

    @port("migrations.persist")
    def persist(self, instance: UUID) -> None:
        """Define it as it is."""
        with self.script.changed:
            domain = self._staying(instance)
            if not domain.persistent:
                self.domains.there[instance] = replace(domain, persistent=True)
                self.domains.defined[instance] = self.domains.live.get(instance, ())
                self.script.did("migrations.persist", instance)

    # --- what happens behind Hostler's back

    def begin(self, instance: UUID, plan: MigrationPlan) -> Move:
        """A migration is under way from now on, whoever watches it."""
        with self.script.changed:
            return self._begun(instance, plan)

    def half(self, instance: UUID) -> Half:
        """This host's half."""
        move = self.world.moves.get(instance)
        under_way = move is not None and self in {move.source, move.target}
        return Half(self.domains.there.get(instance), under_way)

    def arrive(self, instance: UUID) -> None:
        """The guest lives on the target, and the source has nothing of it but its files."""
        move = self.world.moves.pop(instance)
        self._hand_over(move, instance, DomainState.PAUSED if move.paused else DomainState.RUNNING, "migrated")
        for of_domain in (self.domains.there, self.domains.guests, self.domains.live, self.domains.defined):
            of_domain.pop(instance, None)
        self.script.changed.notify_all()

    def fall_back(self, instance: UUID) -> None:
        """The guest lives on here, and the target has nothing of it but its files."""
        move = self.world.moves.pop(instance)
        move.target.forget(instance)
        if instance in self.domains.there and not move.paused:
            self.domains.is_now(instance, DomainState.RUNNING, "migration canceled")

    def forget(self, instance: UUID) -> None:
        """What was coming does not come."""
        self.domains.there.pop(instance, None)
        self.domains.live.pop(instance, None)
        self.script.changed.notify_all()

    # --- how

    def _begun(self, instance: UUID, plan: MigrationPlan) -> Move:
        domain = self._ours(instance)
        if domain is None or not domain.active:
            raise HostError(ErrorClass.PERMANENT, f"there is no guest {instance} to migrate")
        target = self.world.reached(plan.peer, self.name)
        if target.domains.there.get(instance):
            message = f"a domain {instance} is on host {target.name} already"
            raise HostError(ErrorClass.CONFLICT, message, code="OPERATION_INVALID", domain="DOMAIN")
        files = target.disks.folders.get(instance)
        copied = [disk for disk in self._local_disks(instance) if disk.target in plan.copied_disks]
        missing = [disk for disk in copied if files is None or plan.paths.get(disk.path, disk.path) not in files.disks]
        if missing:
            message = f"libvirt could not migrate the guest: {missing[0].path} is not there"
            raise HostError(ErrorClass.PERMANENT, message, code="SYSTEM_ERROR", errno=2)
        move = Move(self, target, plan, paused=domain.state is DomainState.PAUSED)
        self.world.moves[instance] = move
        coming = replace(domain, state=DomainState.PAUSED, reason="migration", persistent=False)
        target.domains.there[instance] = coming
        self.script.changed.notify_all()
        return move

    def _in_flight(self, move: Move, instance: UUID) -> bool:
        """Whether it goes on; one half that is gone ends it. It is told of once, however fast it is."""
        with self.script.changed:
            if instance not in self.world.moves:
                return False
            if not all(_alive(half.domains.there.get(instance)) for half in (move.source, move.target)):
                self.fall_back(instance)
                message = f"libvirt could not migrate the guest: {instance} ended"
                raise HostError(ErrorClass.PERMANENT, message, code="OPERATION_FAILED", domain="QEMU")
            if move.ticks and instance in self.world.held:
                self.script.changed.wait(TICK_TAKES_S)
            return not move.ticks or instance in self.world.held

    def _told(self, move: Move, instance: UUID, watch: Watch) -> Wish:
        with self.script.changed:
            move.ticks += 1
            cut = {move.source.name, move.target.name} & self.world.cut_off
            move.silent_ticks = move.silent_ticks + 1 if cut else 0
            progress = move.progress()
            self._trip_halfway(instance)
        try:
            return watch(progress)
        except Killed:
            raise
        except BaseException:
            with self.script.changed:
                if instance in self.world.moves and not move.post_copy:
                    self.fall_back(instance)
            raise

    def _trip_halfway(self, instance: UUID) -> None:
        try:
            self.script.trip("migrations.perform", after=False, halfway=True)
        except BaseException:
            match self.broken:
                case Broken.ARRIVED:
                    move = self.world.moves.pop(instance)
                    self._hand_over(move, instance, DomainState.RUNNING, "migrated")
                    self.domains.is_now(instance, DomainState.PAUSED, "migration")
                case Broken.LOST:
                    self.world.moves.pop(instance).target.forget(instance)
                    self.domains.is_now(instance, DomainState.PAUSED, "migration")
                case Broken.IN_FLIGHT:
                    pass
            raise

    def _cancel(self, instance: UUID, why: HostError) -> HostError:
        with self.script.changed:
            if instance in self.world.moves:
                self.fall_back(instance)
        return why

    def _force(self, move: Move, instance: UUID, watch: Watch) -> None:
        """Post-copy is told of before it begins, and once while it lasts."""
        if move.plan.post_copy and not move.paused:
            if self._told_of_post_copy(move, instance, watch) is Wish.CANCEL:
                raise self._cancel(
                    instance, HostError(ErrorClass.TRANSIENT, f"the migration of {instance} was cancelled")
                )
            with self.script.changed:
                move.post_copy = True
                self._hand_over(move, instance, DomainState.RUNNING, "postcopy")
                self.domains.is_now(instance, DomainState.PAUSED, "postcopy")
            self._told(move, instance, watch)
        with self.script.changed:
            self.world.held.discard(instance)

    def _told_of_post_copy(self, move: Move, instance: UUID, watch: Watch) -> Wish:
        return self._told(move, instance, lambda progress: watch(replace(progress, post_copy=True)))

    def _hand_over(self, move: Move, instance: UUID, state: DomainState, reason: str) -> None:
        """The guest is on the target, persistent, with its devices, whose files are where the plan says."""
        paths, there = move.plan.paths, move.target.domains
        there.there[instance] = replace(self.domains.there[instance], state=state, reason=reason, persistent=True)
        there.live[instance] = _relocated(self.domains.live.get(instance, ()), paths)
        there.defined[instance] = _relocated(self.domains.defined.get(instance, ()), paths)
        guest = self.domains.guests[instance]
        disks = tuple(
            replace(disk, path=paths.get(disk.path, disk.path), cache=move.plan.disk_cachemode or disk.cache)
            for disk in guest.disks
        )
        there.guests[instance] = replace(guest, disks=disks)

    def _local_disks(self, instance: UUID) -> Iterable[LocalDisk]:
        files = self.disks.folders.get(instance)
        for shown in self.domains.live.get(instance, ()):
            disk = files.disks.get(shown.source) if files else None
            if disk is not None:
                yield LocalDisk(shown.target, disk.path, disk.format, disk.virtual_size_bytes)
            elif shown.source.startswith("/"):
                message = f"the guest's disk {shown.target} is {shown.source}, which no other host sees"
                raise HostError(ErrorClass.PERMANENT, message)

    def _staying(self, instance: UUID) -> Domain:
        domain = self._ours(instance)
        if domain is None or not domain.active:
            raise HostError(ErrorClass.PERMANENT, f"no guest of {instance} is here")
        if self.half(instance).under_way:
            raise HostError(ErrorClass.TRANSIENT, f"the guest of {instance} is on its way")
        return domain

    def _ours(self, instance: UUID) -> Domain | None:
        return self.domains.ours(instance)


def _alive(domain: Domain | None) -> bool:
    return domain is not None and domain.active


def _relocated(devices: tuple[ShownDevice, ...], paths: Paths) -> tuple[ShownDevice, ...]:
    return tuple(replace(device, source=paths.get(device.source, device.source)) for device in devices)
