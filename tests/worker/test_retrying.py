"""Patience: what is tried again, how often, and how long it is waited for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from models.states import ErrorClass
from tasks.host import HostError
from worker.retrying import PASSING, Patience, insist


@dataclass
class Clock:
    """Counts the seconds slept instead of sleeping them."""

    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        """Sleep no second."""
        self.slept.append(seconds)


@pytest.fixture
def clock() -> Clock:
    """A clock at which nothing was slept."""
    return Clock()


def failing(*errors: Exception) -> Callable[[], str]:
    """An action that raises these one after the other, then returns."""
    left: Iterator[Exception] = iter(errors)

    def act() -> str:
        for error in left:
            raise error
        return "done"

    return act


def error_of(error_class: ErrorClass) -> HostError:
    """An error of that class."""
    return HostError(error_class, "trouble")


@pytest.mark.parametrize("error_class", sorted(PASSING), ids=str)
def test_an_error_that_passes_is_tried_again(clock: Clock, error_class: ErrorClass) -> None:
    """The answer is what the last try returned, and there was a pause before each."""
    assert Patience(sleep=clock.sleep).try_step(failing(*[error_of(error_class)] * 4)) == "done"
    assert len(clock.slept) == 4


@pytest.mark.parametrize("error_class", sorted(set(ErrorClass) - PASSING), ids=str)
def test_an_error_that_does_not_pass_is_raised_at_once(clock: Clock, error_class: ErrorClass) -> None:
    """It is never tried again."""
    with pytest.raises(HostError):
        Patience(sleep=clock.sleep).try_step(failing(error_of(error_class)))
    assert clock.slept == []


def test_a_defect_is_raised_at_once(clock: Clock) -> None:
    """An exception that no room declared tells nothing of the host."""
    with pytest.raises(ZeroDivisionError):
        Patience(sleep=clock.sleep).try_step(failing(ZeroDivisionError()))
    assert clock.slept == []


def test_patience_ends_and_the_last_error_is_raised(clock: Clock) -> None:
    """As itself, not wrapped."""
    errors = [HostError(ErrorClass.TRANSIENT, str(number)) for number in range(9)]
    with pytest.raises(HostError, match=r"^2$"):
        Patience(attempts=3, sleep=clock.sleep).try_step(failing(*errors))
    assert len(clock.slept) == 2


def test_patience_ends_with_its_time(clock: Clock) -> None:
    """However many attempts are left."""
    with pytest.raises(HostError):
        Patience(in_all_s=0.0, sleep=clock.sleep).try_step(failing(error_of(ErrorClass.TRANSIENT)))


def test_pauses_grow_and_end_at_the_longest(clock: Clock) -> None:
    """They are spread a little, so that many jobs do not come back at once."""
    patience = Patience(attempts=8, first_pause_s=1.0, longest_pause_s=4.0, sleep=clock.sleep)
    patience.try_step(failing(*[error_of(ErrorClass.TRANSIENT)] * 7))
    for pause, least in zip(clock.slept, (1, 2, 4, 4, 4, 4, 4), strict=True):
        assert least <= pause <= min(least + 1, 4)


def test_waits_double_up_to_the_longest() -> None:
    """Each is spread by a tenth; a job that has waited for weeks is still looked at every minute."""
    patience = Patience(first_wait_s=2.0, longest_wait_s=60.0)
    for waits, expected in [(0, 2), (1, 4), (2, 8), (4, 32), (5, 60), (6, 60), (10**6, 60)]:
        seconds = patience.wait_after(waits).total_seconds()
        assert 0.9 * expected <= seconds <= 1.1 * expected


def test_insisting_tries_again_on_one_kind_of_error_alone() -> None:
    """Any other is raised at once, and so is that one when the time is over."""
    assert insist(failing(), on=KeyError, for_s=0.0) == "done"
    with pytest.raises(ValueError, match=r"^at once$"):
        insist(failing(ValueError("at once")), on=KeyError, for_s=30.0)
    with pytest.raises(KeyError):
        insist(failing(KeyError()), on=KeyError, for_s=0.0)
