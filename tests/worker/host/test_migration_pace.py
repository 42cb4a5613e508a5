"""How a migration gets on, reckoned: nova's downtime steps, the time that is left, silence."""

import pytest

from tasks.host import MigrationPlan, Peer
from worker.host.migrations.pace import NO_JOB, Gauge, JobFigures, downtime_at, downtime_steps

MIB = 1024**2


def plan(downtime_ms: int, steps: int, delay_s: float) -> MigrationPlan:
    """A plan with that pace."""
    return MigrationPlan(Peer("h2"), downtime_ms=downtime_ms, downtime_steps=steps, downtime_delay_s=delay_s)


def figures(done_mib: int, remaining_mib: int, elapsed_s: float = 0.0, iteration: int = 1) -> JobFigures:
    """What libvirt counts."""
    total = (done_mib + remaining_mib) * MIB
    return JobFigures(
        under_way=True,
        done_bytes=done_mib * MIB,
        remaining_bytes=remaining_mib * MIB,
        total_bytes=total,
        elapsed_s=elapsed_s,
        iteration=iteration,
    )


def test_the_steps_are_those_that_nova_publishes() -> None:
    """400 ms in 10 steps, every 30 s for each of 3 GiB."""
    steps = downtime_steps(plan(400, 10, 30 * 3))
    assert [step.downtime_ms for step in steps] == [40, 76, 112, 148, 184, 220, 256, 292, 328, 364, 400]
    assert [step.after_s for step in steps] == [90 * index for index in range(11)]


def test_the_defaults_are_novas_for_a_guest_of_two_gib() -> None:
    """The last step comes before the time is up: 2 times 800 s."""
    steps = downtime_steps(plan(500, 10, 75 * 2))
    assert [step.downtime_ms for step in steps][:3] == [50, 95, 140]
    assert (steps[-1].after_s, steps[-1].downtime_ms) == (1500, 500)


@pytest.mark.parametrize(("downtime_ms", "steps"), [(100, 3), (100, 7), (500, 10), (2000, 4)])
def test_the_steps_rise_to_the_whole_downtime(downtime_ms: int, steps: int) -> None:
    """Whatever the numbers, within a millisecond."""
    values = [step.downtime_ms for step in downtime_steps(plan(downtime_ms, steps, 1))]
    assert len(values) == steps + 1
    assert values == sorted(values)
    assert downtime_ms - 1 <= values[-1] <= downtime_ms


@pytest.mark.parametrize(
    ("elapsed_s", "expected"), [(0.0, None), (0.1, 40), (90.0, 40), (90.5, 76), (899.9, 364), (10_000.0, 400)]
)
def test_a_step_is_taken_after_its_time(elapsed_s: float, expected: int | None) -> None:
    """Strictly: not at it."""
    assert downtime_at(downtime_steps(plan(400, 10, 90)), elapsed_s) == expected


def test_the_time_that_is_left_follows_the_measured_rate() -> None:
    """2 MiB a second, and 80 are left."""
    gauge = Gauge(100.0)
    assert gauge.read(figures(0, 100), 100.0).eta_s is None
    assert gauge.read(figures(1, 99), 100.5).eta_s is None
    progress = gauge.read(figures(20, 80), 110.0)
    assert progress.eta_s == pytest.approx(40.0)
    assert (progress.done_bytes, progress.remaining_bytes, progress.total_bytes) == (20 * MIB, 80 * MIB, 100 * MIB)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """What was fast a minute ago is slow now."""
    gauge = Gauge(0.0)
    gauge.read(figures(0, 1000), 0.0)
    gauge.read(figures(500, 500), 5.0)
    for second in range(6, 60):
        gauge.read(figures(500 + second, 100), float(second))
    assert gauge.read(figures(560, 100), 60.0).eta_s == pytest.approx(100.0)


def test_nothing_is_said_of_the_time_left_while_nothing_comes_through() -> None:
    """Nor a time that is long past."""
    gauge = Gauge(0.0)
    gauge.read(figures(5, 95), 0.0)
    assert gauge.read(figures(5, 95), 8.0).eta_s is None


def test_silence_is_counted_from_the_last_byte() -> None:
    """Whether libvirt says so, says nothing, or shows zeros, as it does when packets are lost."""
    gauge = Gauge(0.0)
    gauge.read(figures(5, 95), 1.0)
    assert gauge.read(figures(6, 94), 2.0).silent_s == 0.0
    assert gauge.read(figures(6, 94), 4.0).silent_s == 2.0
    assert gauge.read(JobFigures(under_way=True), 5.0).silent_s == 3.0
    progress = gauge.read(None, 9.0)
    assert (progress.silent_s, progress.done_bytes, progress.remaining_bytes) == (7.0, 6 * MIB, 94 * MIB)
    assert gauge.read(figures(7, 93), 10.0).silent_s == 0.0


def test_silence_before_the_first_byte_counts_as_well() -> None:
    """A destination that does not answer is silent from the start."""
    assert Gauge(0.0).read(NO_JOB, 3.0).silent_s == 3.0


def test_the_time_of_an_adopted_migration_is_libvirts() -> None:
    """It began before it was watched."""
    gauge = Gauge(0.0)
    assert gauge.read(figures(5, 95, elapsed_s=700.0), 0.5).elapsed_s == 700.0
    assert gauge.read(None, 1.0).elapsed_s == 700.0


def test_there_is_no_way_back_once_it_was_passed() -> None:
    """Whoever adopts a migration in post-copy learns that from libvirt."""
    gauge = Gauge(0.0)
    gauge.permit(95)
    before = gauge.past_return
    gauge.pass_return()
    assert (before, gauge.past_return) == (False, True)
    progress = gauge.read(figures(5, 95), 1.0)
    assert (progress.post_copy, progress.downtime_ms) == (True, 95)
    adopted = JobFigures(under_way=True, done_bytes=1, total_bytes=2, post_copy=True)
    assert Gauge(0.0).read(adopted, 0.5).post_copy
