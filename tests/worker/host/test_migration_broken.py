"""Migrations of real guests that break: a daemon dies, the link is lost, a post-copy comes to a halt or is lost."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import libvirt
import pytest

from models.states import ErrorClass
from tasks.host import (
    DirectBoot,
    DomainState,
    Guest,
    Half,
    HostError,
    Identity,
    MigrationPlan,
    MigrationProgress,
    Peer,
    Wish,
)
from tests.contract.backdoor import Backdoor
from tests.lab.guest_console import heartbeats
from tests.lab.guest_image import MEMORY_MIB, GuestImage
from tests.lab.host_pair import HostPair
from tests.lab.hosts import LibvirtHost
from tests.lab.namespaces import configure, inside
from tests.lab.places import program, scratch_folder
from tests.lab.waiting import eventually
from worker.host.hypervisor import Hypervisor
from worker.host.images.room import ImageRules
from worker.host.migrations.calls import Questions
from worker.host.migrations.peers import Peers

pytestmark = pytest.mark.real

SOON_S = 20.0
MOVED_WITHIN_S = 90.0
BOOT_WITHIN_S = 60.0


class Scene:
    """A guest that has booted on the first of two hosts, and a plan by which it takes half a minute to the second.

    Only the guest's memory goes over the link, until the daemons are told to speak over it as well.
    """

    def __init__(self, pair: HostPair, image: GuestImage, folder: Path, stack: ExitStack) -> None:
        self.pair = pair
        self.instance: UUID = uuid4()
        self.here, self.there = (
            Hypervisor(
                uri=host.uri,
                state_folder=str(folder / name),
                image_rules=ImageRules(roots=(str(folder),)),
                virt_type="qemu",
            )
            for name, host in (("here", pair.first), ("there", pair.second))
        )
        for host in (self.here, self.there):
            stack.callback(host.close)
        boot = DirectBoot(str(image.kernel), str(image.initrd), image.cmdline)
        self.here.domains.define(Guest(Identity(self.instance, "job-1"), "guest", MEMORY_MIB, 1, boot=boot))
        stack.callback(self._clear)
        self.here.domains.start(self.instance)
        log = Path(self.here.migrations.console_log(self.instance))
        eventually(lambda: heartbeats(log.read_text(errors="replace")), "the guest is up", BOOT_WITHIN_S)
        self.there.migrations.receive(self.instance)
        peer = Peer(pair.second.name, pair.second.uri, pair.second.migration_uri.removeprefix("tcp:"))
        paths = {str(log): self.there.migrations.console_log(self.instance)}
        self.plan = MigrationPlan(peer, paths, bandwidth_mib_s=1)

    def speak_over_the_link(self) -> None:
        """From now on the daemons do so; this process is not in their network, and looks at the second all the same."""
        second = self.pair.second
        self.plan = replace(self.plan, peer=replace(self.plan.peer, libvirt_uri=second.tcp_uri))
        self.here.migrations._peers = Peers(Questions(), opening=lambda _uri: libvirt.open(second.uri))

    def halves(self) -> tuple[Half, Half]:
        """What both hosts say."""
        migrations = self.here.migrations
        return migrations.here(self.instance), migrations.there(self.instance, self.plan.peer)

    def lives_here(self) -> bool:
        """Whether the guest runs where it was, and nothing of it is over there."""
        here, there = self.halves()
        return (
            here.runs and here.domain is not None and here.domain.state is DomainState.RUNNING and there == Half(None)
        )

    def lives_there(self) -> bool:
        """Whether it has left."""
        here, there = self.halves()
        return there.runs and there.domain is not None and there.domain.persistent and here == Half(None)

    def reasons(self) -> list[str]:
        """Libvirt's words for the states of both."""
        return [half.domain.reason for half in self.halves() if half.domain is not None]

    def _clear(self) -> None:
        for host in (self.pair.first, self.pair.second):
            for pid in host.qemu_pids():  # libvirt may be unable to end a guest that is between two hosts
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not host.libvirtd.alive:
                host.start()
            connection = libvirt.open(host.uri)
            eventually(lambda: _cleared(connection), "the host is empty", MOVED_WITHIN_S)  # noqa: B023 - at once
            connection.close()


def _cleared(connection: libvirt.virConnect) -> bool:
    try:
        Backdoor(connection).clear()
    except libvirt.libvirtError:
        return False
    return True


@pytest.fixture
def scene(host_pair: HostPair, guest_image: GuestImage) -> Iterator[Scene]:
    """A guest about to move."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("broken"))
        yield Scene(host_pair, guest_image, folder, stack)


class Watcher:
    """Does something once as much has come through; then wants what it is told to want."""

    def __init__(self, then: Callable[[], None] = lambda: None, wish: Wish = Wish.GO_ON) -> None:
        self._then = then
        self._wish = wish
        self._done = False
        self.seen: list[MigrationProgress] = []

    def __call__(self, progress: MigrationProgress) -> Wish:
        """Told every half second."""
        self.seen.append(progress)
        if progress.done_bytes > 0 and not self._done:
            self._done = True
            self._then()
        return self._wish if self._done else Wish.GO_ON


def refused(call: Callable[[], object]) -> HostError:
    """The error that the call raises."""
    with pytest.raises(HostError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("end", ["first", "second"])
def test_a_killed_daemon_leaves_the_guest_where_it_was(scene: Scene, end: str) -> None:
    """The outcome is unknown until both are asked; then it can be tried again."""
    victim: LibvirtHost = getattr(scene.pair, end)
    error = refused(lambda: scene.here.migrations.perform(scene.instance, scene.plan, Watcher(victim.kill)))
    assert error.error_class is ErrorClass.UNKNOWN
    assert refused(scene.halves).error_class is ErrorClass.TRANSIENT
    victim.start()
    eventually(scene.lives_here, "the guest lives here alone", SOON_S)
    quick = replace(scene.plan, bandwidth_mib_s=None)
    scene.here.migrations.perform(scene.instance, quick, Watcher())
    assert scene.lives_there()


def test_a_lost_link_is_silence_until_the_migration_is_cancelled(scene: Scene) -> None:
    """The guest runs on, and nothing is left over there."""
    seen: list[MigrationProgress] = []

    def watch(progress: MigrationProgress) -> Wish:
        seen.append(progress)
        if len(seen) == 3:
            scene.pair.network.drop(scene.pair.second.name)
        return Wish.CANCEL if progress.silent_s >= 2 else Wish.GO_ON

    error = refused(lambda: scene.here.migrations.perform(scene.instance, scene.plan, watch))
    assert error.error_class is ErrorClass.TRANSIENT
    assert seen[-1].silent_s >= 2
    scene.pair.heal()
    eventually(scene.lives_here, "the guest lives here alone", SOON_S)


def test_a_lost_link_between_the_daemons_ends_the_migration(scene: Scene) -> None:
    """Neither has an answer of the other, and the guest runs on here."""
    scene.speak_over_the_link()
    network, second = scene.pair.network, scene.pair.second.name
    watch = Watcher(lambda: network.drop(second))
    error = refused(lambda: scene.here.migrations.perform(scene.instance, scene.plan, watch))
    assert error.error_class is ErrorClass.UNKNOWN
    scene.pair.heal()
    eventually(scene.lives_here, "the guest lives here alone", SOON_S)


def test_a_post_copy_that_comes_to_a_halt_is_not_over(scene: Scene) -> None:
    """The guest lives over there, and lacks what has not come: nobody may say that it failed, nor let it run here."""
    scene.speak_over_the_link()
    plan = replace(scene.plan, post_copy=True)
    with ThreadPoolExecutor(1) as pool, _narrow(scene.pair):
        performed = pool.submit(scene.here.migrations.perform, scene.instance, plan, _force)
        eventually(lambda: scene.reasons() == ["postcopy", "postcopy"], "the guest runs over there", SOON_S)
        _reset_connections(scene.pair)
        with pytest.raises(HostError) as caught:
            performed.result(MOVED_WITHIN_S)
    assert caught.value.error_class is ErrorClass.TRANSIENT
    assert [half.under_way for half in scene.halves()] == [True, True]
    assert scene.reasons()[0] == "postcopy failed"
    assert refused(lambda: scene.here.migrations.resume(scene.instance)).error_class is ErrorClass.TRANSIENT


def test_a_post_copy_whose_guest_is_lost_is_not_taken_up(scene: Scene) -> None:
    """The link broke when the source had let go of it and the destination had not begun: an operator decides."""
    plan = replace(scene.plan, post_copy=True)
    with ThreadPoolExecutor(1) as pool, _narrow(scene.pair):
        performed = pool.submit(scene.here.migrations.perform, scene.instance, plan, _force)
        eventually(lambda: scene.reasons() == ["postcopy", "migration"], "the guest is on its way", SOON_S)
        _reset_connections(scene.pair)
        with pytest.raises(HostError) as caught:
            performed.result(MOVED_WITHIN_S)
    assert caught.value.error_class is ErrorClass.TRANSIENT
    error = refused(lambda: scene.here.migrations.perform(scene.instance, plan, Watcher()))
    assert (error.error_class, "has no guest" in str(error)) == (ErrorClass.PERMANENT, True)


def _force(progress: MigrationProgress) -> Wish:
    return Wish.FORCE_COMPLETE if progress.done_bytes > 0 else Wish.GO_ON


@contextmanager
def _narrow(pair: HostPair) -> Iterator[None]:
    """The link out of the first host takes 1 MB a second."""
    namespace = pair.network.namespace(pair.first.name)
    configure(namespace, "qdisc add dev uplink root tbf rate 8mbit burst 64kb latency 100ms", tool="tc")
    try:
        yield
    finally:
        configure(namespace, "qdisc del dev uplink root", tool="tc")


def _reset_connections(pair: HostPair) -> None:
    """Have the first host end every TCP connection to the second, as one that has lost its state does."""
    kill = [program("ss"), "--tcp", "--kill", "dst", pair.network.address(pair.second.name)]
    subprocess.run(inside(pair.network.namespace(pair.first.name), kill), check=True, capture_output=True, timeout=10)
