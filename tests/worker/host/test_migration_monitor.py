"""A migration watched to its end: what is asked of libvirt, when, and what leaves."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import uuid4

import pytest
from typing_extensions import override

from models.states import ErrorClass
from tasks.host import HostError, MigrationPlan, MigrationProgress, OnTimeout, Peer, Watch, Wish, ignore_progress
from worker.host.migrations import monitor
from worker.host.migrations.monitor import Monitor, PostCopy
from worker.host.migrations.pace import NO_JOB, JobFigures

PLAN = MigrationPlan(Peer("h2"), downtime_delay_s=1.0)
REFUSAL = HostError(ErrorClass.TRANSIENT, "refused", code="OPERATION_INVALID")
#: A migration of which nothing is known to be left goes on for so many ticks at most.
MANY = 200


@dataclass
class Scene:
    """A libvirt with one migration, which goes on for ``ticks``; every tick takes half a second of its time."""

    ticks: int = MANY
    ends_with: HostError | None = None
    obeys_abort: bool = True
    refuses: frozenset[str] = frozenset()
    post_copy: bool = False
    begins_after: int = 0
    disks_take: int = 0
    asked: list[str] = field(default_factory=list)
    passed: int = 0
    over: bool = False

    # --- the job

    def figures(self) -> JobFigures:
        """So far."""
        if self.passed <= self.begins_after:
            return NO_JOB
        return JobFigures(
            under_way=True,
            done_bytes=self.passed,
            remaining_bytes=MANY - self.passed,
            total_bytes=MANY,
            iteration=max(0, self.passed - self.disks_take),
            elapsed_s=self.passed / 2,
            post_copy=self.post_copy,
        )

    def permit_downtime(self, downtime_ms: int) -> None:
        """Noted."""
        self._asked(f"downtime {downtime_ms}")

    def start_post_copy(self) -> None:
        """Noted."""
        self._asked("post-copy")
        self.ticks = self.passed + 2

    def suspend(self) -> None:
        """Noted."""
        self._asked("suspend")
        self.ticks = self.passed + 2

    def abort(self) -> None:
        """Noted, and perhaps obeyed."""
        self._asked("abort")
        if self.obeys_abort and not self.over:
            self.over, self.ends_with = True, HostError(ErrorClass.PERMANENT, "aborted", code="OPERATION_ABORTED")

    def _asked(self, what: str) -> None:
        self.asked.append(what)
        if what.partition(" ")[0] in self.refuses:
            raise REFUSAL

    # --- its end

    def reached(self, _within_s: float) -> bool:
        """After its ticks."""
        self.passed += 1
        self.over = self.over or self.passed > self.ticks
        assert self.passed <= MANY, "it never ends"
        return self.over

    def conclude(self) -> None:
        """As it was told to."""
        if self.ends_with is not None:
            raise self.ends_with

    # --- the monitor

    def run(
        self, plan: MigrationPlan = PLAN, watch: Watch = ignore_progress, post_copy: PostCopy = PostCopy.IMPOSSIBLE
    ) -> None:
        """Watch it to its end."""
        Monitor(instance=uuid4(), job=self, ending=self, plan=plan, watch=watch, post_copy=post_copy).run()

    def steered(self) -> list[str]:
        """What was asked of libvirt, but for downtimes."""
        return [what for what in self.asked if not what.startswith("downtime")]


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """An abort that has no effect is not waited for."""
    monkeypatch.setattr(monitor, "ABORTED_WITHIN_S", 0.02)


def refused(call: Callable[[], object]) -> HostError:
    """The error that the call raises."""
    with pytest.raises(HostError) as caught:
        call()
    return caught.value


def wanting(wish: Wish, *, after: int = 3) -> tuple[Watch, list[MigrationProgress]]:
    """Somebody who wants that from the ``after``-th time on that he is told, and all that he was told."""
    seen: list[MigrationProgress] = []

    def watch(progress: MigrationProgress) -> Wish:
        seen.append(progress)
        return wish if len(seen) >= after else Wish.GO_ON

    return watch, seen


def test_progress_is_told_at_every_tick_until_the_end() -> None:
    """And nothing else is done."""
    watch, seen = wanting(Wish.GO_ON)
    scene = Scene(ticks=5)
    scene.run(watch=watch)
    assert [progress.done_bytes for progress in seen] == [1, 2, 3, 4, 5]
    assert scene.steered() == []


def test_what_the_call_raised_leaves() -> None:
    """Unchanged, while the guest has not left."""
    error = HostError(ErrorClass.UNKNOWN, "the daemon went")
    assert refused(lambda: Scene(ticks=2, ends_with=error).run()) is error


def test_a_migration_that_somebody_else_aborted_says_so_and_what_to_do() -> None:
    """As `virsh domjobabort` does; libvirt's class of it stays. Past the point of return nothing can be aborted."""
    aborted = HostError(ErrorClass.PERMANENT, "canceled by client", code="OPERATION_ABORTED", domain="QEMU")
    error = refused(lambda: Scene(ticks=2, ends_with=aborted).run())
    assert (error.error_class, error.record.code) == (ErrorClass.PERMANENT, "OPERATION_ABORTED")
    assert "was aborted past Hostler, as by `virsh domjobabort`" in error.record.message
    assert "retry the job" in error.record.message
    past = refused(lambda: Scene(ticks=2, ends_with=aborted, post_copy=True).run())
    assert past.error_class is ErrorClass.TRANSIENT


def test_downtime_rises_in_steps_and_is_told() -> None:
    """Each step is asked for once; a refusal is no reason to stop."""
    watch, seen = wanting(Wish.GO_ON)
    scene = Scene(ticks=30, refuses=frozenset({"downtime"}))
    scene.run(watch=watch)
    assert scene.asked == [f"downtime {value}" for value in range(50, 501, 45)]
    assert seen[-1].downtime_ms is None
    scene = Scene(ticks=30)
    scene.run(watch=watch)
    assert seen[-1].downtime_ms == 500


def test_a_cancelled_migration_is_aborted() -> None:
    """Whatever its call raised then."""
    watch, seen = wanting(Wish.CANCEL)
    scene = Scene()
    error = refused(lambda: scene.run(watch=watch))
    assert (error.error_class, "cancelled" in str(error)) == (ErrorClass.TRANSIENT, True)
    assert scene.steered() == ["abort"]
    assert len(seen) == 3


def test_a_cancel_that_comes_too_late_is_no_error() -> None:
    """The guest has left."""
    watch, _ = wanting(Wish.CANCEL)
    scene = Scene(ticks=4, obeys_abort=False)
    scene.run(watch=watch)
    assert scene.steered() == ["abort"] * 2


def test_a_migration_that_has_not_begun_is_aborted_once_it_has() -> None:
    """Libvirt has nothing to abort before."""

    class Slow(Scene):
        @override
        def abort(self) -> None:
            if self.passed < 5:
                self._asked("abort")
                raise REFUSAL
            super().abort()

    watch, _ = wanting(Wish.CANCEL, after=1)
    scene = Slow(begins_after=4)
    assert "cancelled" in str(refused(lambda: scene.run(watch=watch)))
    assert scene.passed == 6


def test_a_migration_that_cannot_be_aborted_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever, and nobody says that it is over."""
    watch, _ = wanting(Wish.CANCEL)
    monkeypatch.setattr(monitor, "ABORTED_WITHIN_S", 0.0)
    error = refused(lambda: Scene(obeys_abort=False).run(watch=watch))
    assert (error.error_class, "has not ended" in str(error)) == (ErrorClass.TRANSIENT, True)


def test_a_migration_that_takes_too_long_is_aborted_for_good() -> None:
    """By libvirt's clock."""
    scene = Scene()
    error = refused(lambda: scene.run(replace(PLAN, completion_timeout_s=3.0)))
    assert (error.error_class, "3 s" in str(error)) == (ErrorClass.PERMANENT, True)
    assert (scene.steered(), scene.passed) == (["abort"], 8)


@pytest.mark.parametrize("on_timeout", [False, True])
def test_a_migration_is_forced_by_suspending_its_guest(*, on_timeout: bool) -> None:
    """Once."""
    watch, seen = wanting(Wish.GO_ON if on_timeout else Wish.FORCE_COMPLETE)
    late = replace(PLAN, completion_timeout_s=1.0, on_timeout=OnTimeout.FORCE_COMPLETE)
    scene = Scene()
    scene.run(late if on_timeout else PLAN, watch)
    assert scene.steered() == ["suspend"]
    assert not any(progress.post_copy for progress in seen)


def test_nothing_is_forced_before_libvirt_has_begun() -> None:
    """A guest that is suspended before would arrive paused."""
    watch, _ = wanting(Wish.FORCE_COMPLETE, after=1)
    scene = Scene(begins_after=5)
    scene.run(watch=watch)
    assert scene.steered() == ["suspend"]
    assert scene.passed > 6


def test_post_copy_waits_for_the_memorys_turn() -> None:
    """QEMU refuses it while disks are copied; it is not told of before."""
    told: list[int] = []
    scene = Scene(disks_take=6)

    def watch(progress: MigrationProgress) -> Wish:
        if progress.post_copy and not told:
            told.append(scene.passed)
        return Wish.FORCE_COMPLETE

    scene.run(watch=watch, post_copy=PostCopy.POSSIBLE)
    assert (told, scene.steered()) == ([7], ["post-copy"])


def test_post_copy_begins_once_it_was_told_of() -> None:
    """There is no way back afterwards, whatever is wanted."""
    told: list[tuple[bool, list[str]]] = []
    scene = Scene()

    def watch(progress: MigrationProgress) -> Wish:
        told.append((progress.post_copy, scene.steered()))
        return Wish.CANCEL if "post-copy" in scene.asked else Wish.FORCE_COMPLETE

    scene.run(watch=watch, post_copy=PostCopy.POSSIBLE)
    assert told[:2] == [(False, []), (True, [])]
    assert all(past for past, steered in told if steered)
    assert scene.steered() == ["post-copy"]


def test_post_copy_may_be_refused_by_whoever_is_told() -> None:
    """Then it is cancelled."""
    scene = Scene()

    def watch(progress: MigrationProgress) -> Wish:
        return Wish.CANCEL if progress.post_copy else Wish.FORCE_COMPLETE

    error = refused(lambda: scene.run(watch=watch, post_copy=PostCopy.POSSIBLE))
    assert error.error_class is ErrorClass.TRANSIENT
    assert scene.steered() == ["abort"]


def test_a_guest_that_cannot_be_switched_is_suspended() -> None:
    """The migration of another process may have been begun without."""
    watch, _ = wanting(Wish.FORCE_COMPLETE)
    scene = Scene(refuses=frozenset({"post-copy"}))
    scene.run(watch=watch, post_copy=PostCopy.POSSIBLE)
    assert scene.steered() == ["post-copy", "suspend"]


def test_what_could_not_be_forced_is_tried_again() -> None:
    """As long as there is something to force."""
    watch, _ = wanting(Wish.FORCE_COMPLETE)

    class Busy(Scene):
        @override
        def suspend(self) -> None:
            if len(self.steered()) < 2:
                self._asked("suspend")
                raise REFUSAL
            super().suspend()

    scene = Busy()
    scene.run(watch=watch)
    assert scene.steered() == ["suspend"] * 3


@pytest.mark.parametrize("error", [RuntimeError("a defect"), KeyboardInterrupt()])
def test_what_the_watcher_raises_leaves_after_an_abort(error: BaseException) -> None:
    """Nothing arrives unseen."""
    scene = Scene()

    def watch(_progress: MigrationProgress) -> Wish:
        raise error

    with pytest.raises(type(error)):
        scene.run(watch=watch)
    assert (scene.steered(), scene.over) == (["abort"], True)


def test_what_the_watcher_raises_before_post_copy_has_it_aborted_as_well() -> None:
    """It was told of, and has not begun."""
    scene = Scene()

    def watch(progress: MigrationProgress) -> Wish:
        if progress.post_copy:
            raise RuntimeError
        return Wish.FORCE_COMPLETE

    with pytest.raises(RuntimeError):
        scene.run(watch=watch, post_copy=PostCopy.POSSIBLE)
    assert scene.steered() == ["abort"]


def test_post_copy_is_not_aborted_whatever_the_watcher_raises() -> None:
    """It cannot be; it goes on."""
    scene = Scene(post_copy=True)

    def watch(_progress: MigrationProgress) -> Wish:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        scene.run(watch=watch)
    assert scene.steered() == []


def test_an_adopted_post_copy_is_watched_and_nothing_else() -> None:
    """Neither cancelled nor late nor forced."""
    watch, seen = wanting(Wish.CANCEL, after=1)
    scene = Scene(ticks=6, post_copy=True)
    scene.run(replace(PLAN, completion_timeout_s=1.0), watch)
    assert (scene.asked, len(seen)) == ([], 6)
    assert all(progress.post_copy for progress in seen)


@pytest.mark.parametrize("error_class", [ErrorClass.PERMANENT, ErrorClass.UNKNOWN])
def test_no_error_past_the_point_of_return_is_final(error_class: ErrorClass) -> None:
    """The guest lives over there; what broke is taken up again."""
    broke = HostError(error_class, "failed in post-copy phase", code="OPERATION_FAILED", domain="QEMU")
    error = refused(lambda: Scene(ticks=3, ends_with=broke, post_copy=True).run())
    assert (error.error_class, error.record.code) == (ErrorClass.TRANSIENT, "OPERATION_FAILED")
    again = refused(lambda: Scene(ticks=3, ends_with=broke).run(post_copy=PostCopy.BEGUN))
    assert again.error_class is ErrorClass.TRANSIENT


def test_silence_is_told_and_ended_by_nobody_but_the_watcher() -> None:
    """Statistics that cannot be had are silence."""

    class Deaf(Scene):
        @override
        def figures(self) -> JobFigures:
            raise REFUSAL

    watch, seen = wanting(Wish.CANCEL, after=5)
    scene = Deaf()
    assert refused(lambda: scene.run(watch=watch)).error_class is ErrorClass.TRANSIENT
    assert [progress.done_bytes for progress in seen] == [0] * 5
    assert seen[-1].silent_s > 0


def test_a_post_copy_that_stays_silent_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither aborted nor over; whoever performs it again watches it again."""
    monkeypatch.setattr(monitor, "SILENT_S", 0.0)
    scene = Scene(post_copy=True)
    error = refused(scene.run)
    assert (error.error_class, "silent" in str(error)) == (ErrorClass.TRANSIENT, True)
    assert scene.asked == []
