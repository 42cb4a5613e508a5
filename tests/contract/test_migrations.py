"""The port's `Migrations`: the same promises between two hosts of one kind."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from models.states import ErrorClass
from tasks.host import (
    DomainState,
    GuestVolume,
    Half,
    HostError,
    Identity,
    MigrationPlan,
    MigrationProgress,
    OnTimeout,
    Peer,
    Volume,
    Wish,
    ignore_progress,
)
from tests.contract.migration_bench import (
    DISK_BYTES,
    SOON_S,
    UNREACHABLE,
    FakePair,
    MigrationBench,
    RealPair,
    guest_with_disk,
    idle_guest,
)
from tests.lab.guest_image import GuestImage
from tests.lab.hosts import LibvirtHost
from tests.lab.places import scratch_folder
from tests.lab.waiting import eventually

#: How long a whole migration may take, on a machine with much else to do.
MOVED_WITHIN_S = 60.0


@pytest.fixture
def fake_pair() -> FakePair:
    """Two new fake hosts."""
    return FakePair()


@pytest.fixture(scope="module")
def real_pair(guest_image: GuestImage) -> Iterator[RealPair]:
    """Two libvirtds on the loopback interface."""
    with (
        scratch_folder("pair") as folder,
        LibvirtHost("pair-a", listen_address="127.0.0.1") as here,
        LibvirtHost("pair-b", listen_address="127.0.0.1") as there,
    ):
        pair = RealPair(here, there, folder, guest_image)
        yield pair
        pair.close()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def bench(request: pytest.FixtureRequest) -> Iterator[MigrationBench]:
    """Two hosts under test; the next test meets none of this one's domains."""
    bench: MigrationBench = request.getfixturevalue(f"{request.param}_pair")
    yield bench
    if isinstance(bench, RealPair):
        bench.clear()


@pytest.fixture
def instance() -> UUID:
    """An instance that no other test knows."""
    return uuid4()


def started(bench: MigrationBench, instance: UUID) -> None:
    """An idle guest runs."""
    bench.here.domains.define(idle_guest(instance))
    bench.here.domains.start(instance)
    bench.here.domains.wait_running(instance, SOON_S)


def busy(bench: MigrationBench, instance: UUID) -> MigrationPlan:
    """A guest runs whose migration by the plan takes long."""
    bench.here.domains.define(bench.busy_guest(instance))
    bench.here.domains.start(instance)
    bench.keep_busy(instance)
    return bench.slow(ready(bench, instance))


def ready(bench: MigrationBench, instance: UUID) -> MigrationPlan:
    """The destination is ready for the guest; the plan by which it comes."""
    departure = bench.here.migrations.describe(instance)
    paths = {departure.console_log: bench.there.migrations.console_log(instance)}
    for disk in departure.disks:
        paths[disk.path] = bench.there.disks.path_for(instance, "root", disk.format)
        size = disk.virtual_size_bytes
        bench.there.disks.create(instance, paths[disk.path], size_bytes=size, backing=None, epoch=1)
    bench.there.migrations.receive(instance)
    return MigrationPlan(bench.peer, paths, copied_disks=tuple(disk.target for disk in departure.disks))


def refused(call: Callable[[], object]) -> ErrorClass:
    """The class of the error that the call raises."""
    with pytest.raises(HostError) as caught:
        call()
    return caught.value.error_class


def is_whole_here(bench: MigrationBench, instance: UUID) -> bool:
    """Whether the guest runs where it was, and the destination has nothing of it."""
    half = bench.here.migrations.here(instance)
    running = half.domain is not None and half.domain.state is DomainState.RUNNING and half.domain.persistent
    return running and half.runs and bench.there.migrations.here(instance) == Half(None)


def is_whole_there(bench: MigrationBench, instance: UUID, state: DomainState = DomainState.RUNNING) -> bool:
    """Whether the guest is on the destination, with its definition, and gone from where it was."""
    half = bench.there.migrations.here(instance)
    there = half.domain is not None and half.domain.state is state and half.domain.persistent
    return there and half.runs and bench.here.migrations.here(instance) == Half(None)


class Watcher:
    """Wants to go on until it is told what else to want."""

    def __init__(self, wish: Wish = Wish.GO_ON) -> None:
        self.wish = wish
        self.seen: list[MigrationProgress] = []
        self.told = threading.Event()

    def __call__(self, progress: MigrationProgress) -> Wish:
        """Noted, and answered."""
        self.seen.append(progress)
        self.told.set()
        return self.wish


@contextmanager
def performing(bench: MigrationBench, instance: UUID, plan: MigrationPlan, watch: Watcher) -> Iterator["Future[None]"]:
    """The migration is performed, and under way."""
    with ThreadPoolExecutor(1) as pool:
        performed = pool.submit(bench.here.migrations.perform, instance, plan, watch)
        try:
            assert watch.told.wait(SOON_S), performed.exception(SOON_S)
            yield performed
        finally:
            if not performed.done():
                watch.wish = Wish.CANCEL


# --- before


def test_a_guest_is_described_as_its_destination_must_know_it(bench: MigrationBench, instance: UUID) -> None:
    """With what must be copied, and what must be there."""
    boot = bench.boot_files()
    bench.here.domains.define(guest_with_disk(bench, replace(idle_guest(instance), boot=boot)))
    bench.here.domains.start(instance)
    departure = bench.here.migrations.describe(instance)
    (disk,) = departure.disks
    path = bench.here.disks.path_for(instance, "root", "qcow2")
    assert (disk.target, disk.path, disk.format, disk.virtual_size_bytes) == ("vda", path, "qcow2", DISK_BYTES)
    assert (departure.virt_type, departure.memory_mib, departure.paused) == ("qemu", 32, False)
    assert departure.console_log == bench.here.migrations.console_log(instance)
    assert departure.files == (boot.kernel, boot.initrd)
    assert str(instance) in departure.domain_xml
    assert "<arch>" in departure.host_cpu
    bench.there.migrations.check_arrival(departure)


def test_a_paused_guest_is_described_as_paused(bench: MigrationBench, instance: UUID) -> None:
    """It is to arrive so."""
    started(bench, instance)
    bench.pause(instance)
    assert bench.here.migrations.describe(instance).paused


def test_only_a_guest_that_lives_can_leave(bench: MigrationBench, instance: UUID) -> None:
    """Neither a definition, nor nothing."""
    assert refused(lambda: bench.here.migrations.describe(instance)) is ErrorClass.PERMANENT
    bench.here.domains.define(idle_guest(instance))
    assert refused(lambda: bench.here.migrations.describe(instance)) is ErrorClass.PERMANENT


@pytest.mark.parametrize(
    "unfit",
    [{"virt_type": "xen"}, {"memory_mib": 1024**3}, {"files": ("/nonexistent/vmlinuz",)}],
    ids=["type", "memory", "files"],
)
def test_a_guest_that_cannot_live_there_is_refused(
    bench: MigrationBench, instance: UUID, unfit: dict[str, object]
) -> None:
    """For good, before anything is made for it."""
    started(bench, instance)
    departure = replace(bench.here.migrations.describe(instance), **unfit)  # type: ignore[arg-type]
    assert refused(lambda: bench.there.migrations.check_arrival(departure)) is ErrorClass.PERMANENT


def test_a_strangers_domain_is_in_the_way(bench: MigrationBench, instance: UUID) -> None:
    """Told beforehand, and when it was not asked beforehand; it is not touched, and the guest stays."""
    started(bench, instance)
    plan, departure = ready(bench, instance), bench.here.migrations.describe(instance)
    bench.stranger(instance)
    assert refused(lambda: bench.there.migrations.check_arrival(departure)) is ErrorClass.CONFLICT
    assert refused(lambda: bench.here.migrations.perform(instance, plan, ignore_progress)) is ErrorClass.CONFLICT
    assert bench.here.migrations.here(instance).runs
    there = bench.there.domains.find(instance)
    assert there is not None
    assert (there.identity, there.state) == (None, DomainState.RUNNING)


def test_a_strangers_guest_does_not_leave(bench: MigrationBench, instance: UUID) -> None:
    """It is not ours to move, to resume, to abort or to define."""
    bench.stranger(instance)
    plan = MigrationPlan(bench.peer)
    migrations = bench.there.migrations
    for call in (
        lambda: migrations.describe(instance),
        lambda: migrations.perform(instance, plan, ignore_progress),
        lambda: migrations.abort(instance, SOON_S),
        lambda: migrations.resume(instance),
        lambda: migrations.persist(instance),
    ):
        assert refused(call) is ErrorClass.CONFLICT


# --- the way


def test_a_guest_moves_with_its_disk_and_its_definition(bench: MigrationBench, instance: UUID) -> None:
    """Its files are where the destination keeps them, and its identity comes with it."""
    bench.here.domains.define(guest_with_disk(bench, idle_guest(instance)))
    bench.here.domains.start(instance)
    plan = ready(bench, instance)
    bench.here.migrations.perform(instance, plan, ignore_progress)
    assert is_whole_there(bench, instance)
    assert bench.here.migrations.there(instance, bench.peer) == bench.there.migrations.here(instance)
    domain, devices = bench.there.domains.find(instance), bench.there.devices.shown(instance)
    assert domain is not None
    assert domain.identity == Identity(instance, "job-1")
    assert devices is not None
    path = bench.there.disks.path_for(instance, "root", "qcow2")
    for side in (devices.live, devices.persistent):
        assert side is not None
        assert [device.source for device in side] == [path]
    moved = bench.there.migrations.describe(instance)
    assert moved.console_log == bench.there.migrations.console_log(instance)
    assert [disk.path for disk in moved.disks] == [path]


def test_a_guest_moves_there_and_back_again(bench: MigrationBench, instance: UUID) -> None:
    """Nothing that is left behind is in its way."""
    started(bench, instance)
    bench.here.migrations.perform(instance, ready(bench, instance), ignore_progress)
    assert is_whole_there(bench, instance)
    bench.there.migrations.persist(instance)
    bench.there.migrations.resume(instance)
    assert is_whole_there(bench, instance)
    bench.there.domains.kill(instance)
    bench.there.domains.undefine(instance)


def test_a_paused_guest_arrives_paused(bench: MigrationBench, instance: UUID) -> None:
    """Even where post-copy is permitted, which would let it run."""
    started(bench, instance)
    bench.pause(instance)
    bench.here.migrations.perform(instance, replace(ready(bench, instance), post_copy=True), ignore_progress)
    assert is_whole_there(bench, instance, DomainState.PAUSED)
    bench.there.migrations.resume(instance)
    assert is_whole_there(bench, instance)


def test_both_hosts_tell_that_a_guest_is_on_its_way(bench: MigrationBench, instance: UUID) -> None:
    """It lives on neither until it has arrived; whoever watches is told how far it is."""
    plan, watch = busy(bench, instance), Watcher()
    with performing(bench, instance, plan, watch) as performed:
        here, there = bench.here.migrations.here(instance), bench.here.migrations.there(instance, bench.peer)
        assert (here.under_way, here.runs) == (True, False)
        assert (there.under_way, there.runs) == (True, False)
        assert there == bench.there.migrations.here(instance)
        eventually(lambda: watch.seen[-1].done_bytes > 0, "something has come through", SOON_S)
        bench.hurry(instance)
        performed.result(MOVED_WITHIN_S)
    assert is_whole_there(bench, instance)
    last = watch.seen[-1]
    assert last.done_bytes > 0
    assert last.total_bytes > last.remaining_bytes
    assert last.elapsed_s > 0
    assert not last.post_copy


def test_a_cancelled_migration_leaves_the_guest_where_it_was(bench: MigrationBench, instance: UUID) -> None:
    """And it may be tried again at once."""
    plan = busy(bench, instance)
    watch = Watcher(Wish.CANCEL)
    assert refused(lambda: bench.here.migrations.perform(instance, plan, watch)) is ErrorClass.TRANSIENT
    assert is_whole_here(bench, instance)
    watch = Watcher()
    with performing(bench, instance, plan, watch) as performed:
        bench.hurry(instance)
        performed.result(MOVED_WITHIN_S)
    assert is_whole_there(bench, instance)


def test_a_migration_that_takes_too_long_is_aborted(bench: MigrationBench, instance: UUID) -> None:
    """That is final."""
    plan = replace(busy(bench, instance), completion_timeout_s=1.0)
    assert refused(lambda: bench.here.migrations.perform(instance, plan, ignore_progress)) is ErrorClass.PERMANENT
    assert is_whole_here(bench, instance)


def test_what_the_watcher_raises_leaves_once_the_migration_is_over(bench: MigrationBench, instance: UUID) -> None:
    """Whoever cannot journal does not migrate."""
    plan = busy(bench, instance)

    class DefectError(Exception):
        """What no host raises."""

    def watch(_progress: MigrationProgress) -> Wish:
        raise DefectError

    with pytest.raises(DefectError):
        bench.here.migrations.perform(instance, plan, watch)
    assert is_whole_here(bench, instance)


@pytest.mark.parametrize("on_timeout", [False, True])
def test_a_guest_is_made_to_stand_still_so_that_it_arrives(
    bench: MigrationBench, instance: UUID, *, on_timeout: bool
) -> None:
    """Where post-copy is not permitted; it runs on over there."""
    plan, watch = busy(bench, instance), Watcher()
    if on_timeout:
        plan = replace(plan, completion_timeout_s=1.0, on_timeout=OnTimeout.FORCE_COMPLETE)
    with performing(bench, instance, plan, watch) as performed:
        watch.wish = Wish.GO_ON if on_timeout else Wish.FORCE_COMPLETE
        eventually(lambda: _stands_still(bench, instance), "the guest stands still, or has arrived", SOON_S)
        bench.hurry(instance)
        performed.result(MOVED_WITHIN_S)
    assert is_whole_there(bench, instance)
    assert not any(progress.post_copy for progress in watch.seen)


def _stands_still(bench: MigrationBench, instance: UUID) -> bool:
    domain = bench.here.domains.find(instance)
    return domain is None or domain.state is DomainState.PAUSED


def test_post_copy_is_told_of_before_it_begins(bench: MigrationBench, instance: UUID) -> None:
    """From then on there is only forward."""
    plan, watch = replace(busy(bench, instance), post_copy=True), Watcher()
    states: list[DomainState] = []

    def watching(progress: MigrationProgress) -> Wish:
        domain = bench.here.domains.find(instance)
        if progress.post_copy and domain is not None:
            states.append(domain.state)
        return watch(progress)

    with ThreadPoolExecutor(1) as pool:
        performed = pool.submit(bench.here.migrations.perform, instance, plan, watching)
        assert watch.told.wait(SOON_S)
        watch.wish = Wish.FORCE_COMPLETE
        performed.result(MOVED_WITHIN_S)
    assert states[0] is DomainState.RUNNING
    assert is_whole_there(bench, instance)


def test_post_copy_may_still_be_refused(bench: MigrationBench, instance: UUID) -> None:
    """By whoever is told of it."""
    plan = replace(busy(bench, instance), post_copy=True)

    def watch(progress: MigrationProgress) -> Wish:
        return Wish.CANCEL if progress.post_copy else Wish.FORCE_COMPLETE

    assert refused(lambda: bench.here.migrations.perform(instance, plan, watch)) is ErrorClass.TRANSIENT
    assert is_whole_here(bench, instance)


# --- other people's migrations, and none


def test_a_migration_whose_caller_died_is_watched_to_its_end(bench: MigrationBench, instance: UUID) -> None:
    """No second one is begun."""
    plan, watch = replace(busy(bench, instance), paths={}), Watcher()
    bench.begun_by_another(instance, plan)
    with performing(bench, instance, plan, watch) as performed:
        assert not performed.done()
        bench.hurry(instance)
        performed.result(MOVED_WITHIN_S)
    bench.there.migrations.resume(instance)
    assert is_whole_there(bench, instance)


def test_a_migration_whose_caller_died_can_be_cancelled(bench: MigrationBench, instance: UUID) -> None:
    """By whoever watches it now."""
    plan = replace(busy(bench, instance), paths={})
    bench.begun_by_another(instance, plan)
    watch = Watcher(Wish.CANCEL)
    assert refused(lambda: bench.here.migrations.perform(instance, plan, watch)) is ErrorClass.TRANSIENT
    assert is_whole_here(bench, instance)


def test_a_migration_is_aborted_from_outside(bench: MigrationBench, instance: UUID) -> None:
    """Whoever performs it learns of that; none is no error, and nothing happens to the guest."""
    plan = replace(busy(bench, instance), paths={})
    bench.here.migrations.abort(instance, SOON_S)
    bench.begun_by_another(instance, plan)
    bench.here.migrations.abort(instance, SOON_S)
    assert is_whole_here(bench, instance)
    bench.here.migrations.abort(uuid4(), SOON_S)


def test_a_host_that_cannot_be_reached_is_no_answer(bench: MigrationBench, instance: UUID) -> None:
    """The guest stays; what is over there is not known."""
    started(bench, instance)
    plan = replace(ready(bench, instance), peer=UNREACHABLE)
    assert refused(lambda: bench.here.migrations.there(instance, UNREACHABLE)) is ErrorClass.TRANSIENT
    assert refused(lambda: bench.here.migrations.perform(instance, plan, ignore_progress)) is ErrorClass.TRANSIENT
    assert is_whole_here(bench, instance)


def test_a_host_that_has_not_said_how_it_is_reached_is_never_reached(bench: MigrationBench, instance: UUID) -> None:
    """Nobody waits for it."""
    started(bench, instance)
    plan, silent = ready(bench, instance), Peer("h3")
    assert refused(lambda: bench.here.migrations.there(instance, silent)) is ErrorClass.PERMANENT
    perform = bench.here.migrations.perform
    assert refused(lambda: perform(instance, replace(plan, peer=silent), ignore_progress)) is ErrorClass.PERMANENT
    assert is_whole_here(bench, instance)


# --- after


def test_a_guest_without_a_definition_is_given_one(bench: MigrationBench, instance: UUID) -> None:
    """As it runs."""
    started(bench, instance)
    bench.here.migrations.perform(instance, ready(bench, instance), ignore_progress)
    bench.transient(instance)
    bench.there.migrations.persist(instance)
    assert is_whole_there(bench, instance)


def test_an_absent_guest_is_neither_resumed_nor_defined(bench: MigrationBench, instance: UUID) -> None:
    """There is nothing to do it to."""
    for call in (bench.here.migrations.resume, bench.here.migrations.persist):
        assert refused(lambda call=call: call(instance)) is ErrorClass.PERMANENT  # type: ignore[misc]
    assert bench.here.migrations.here(instance) == Half(None)


def test_a_guest_with_a_volume_that_only_its_host_sees_does_not_leave(bench: MigrationBench, instance: UUID) -> None:
    """Whatever is in the instance's own folder is copied, and nothing else."""
    path = bench.volume("here-only.raw")
    volume = GuestVolume(Volume("v1", "file", {"path": path, "format": "raw"}), "vdb", "ua-v1", "v1")
    bench.here.domains.define(replace(idle_guest(instance), volumes=(volume,)))
    bench.here.domains.start(instance)
    with pytest.raises(HostError, match="here-only") as caught:
        bench.here.migrations.describe(instance)
    assert caught.value.error_class is ErrorClass.PERMANENT
