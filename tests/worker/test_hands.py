"""What a process has in hand: one thread per job, no more jobs of a class than it has slots."""

import threading
from contextlib import ExitStack
from uuid import UUID

import pytest

from models.states import ErrorClass, JobClass
from tasks.host import HostError
from worker.hands import Hands

ONE, OTHER = UUID(int=1), UUID(int=2)
WITHIN_S = 30.0


@pytest.fixture
def hands() -> Hands:
    """Hands for two spawns and one destroy."""
    return Hands({JobClass.SPAWN: 2, JobClass.DESTROY: 1})


def test_a_job_is_grasped_once(hands: Hands) -> None:
    """While one thread has it no other gets it; afterwards anyone does."""
    with hands.grasp("a", ONE, JobClass.SPAWN) as first, hands.grasp("a", ONE, JobClass.SPAWN) as second:
        assert (first, second) == (True, False)
        assert hands.held() == {"a"}
    assert hands.held() == frozenset()
    with hands.grasp("a", ONE, JobClass.SPAWN) as again:
        assert again


def test_a_refused_grasp_lets_nothing_go(hands: Hands) -> None:
    """Whoever was refused does not take the job out of the other thread's hand."""
    with hands.grasp("a", ONE, JobClass.SPAWN):
        with hands.grasp("a", ONE, JobClass.SPAWN):
            pass
        assert hands.held() == {"a"}


def test_a_class_has_its_own_slots(hands: Hands) -> None:
    """All spawns there may be do not stand in a destroy's way."""
    with ExitStack() as stack:
        grasped = [stack.enter_context(hands.grasp(job, ONE, JobClass.SPAWN)) for job in "abc"]
        assert grasped == [True, True, False]
        assert stack.enter_context(hands.grasp("d", ONE, JobClass.DESTROY))
        assert hands.free_classes() == {}
    assert hands.free_classes() == {JobClass.SPAWN: 2, JobClass.DESTROY: 1}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt], ids=["error", "interrupt"])
def test_a_thread_that_fails_lets_its_job_go(hands: Hands, error: type[BaseException]) -> None:
    """Whatever ends the block frees the slot."""
    with pytest.raises(error), hands.grasp("a", ONE, JobClass.SPAWN):
        raise error
    assert hands.held() == frozenset()


def test_a_stopping_worker_grasps_nothing_new(hands: Hands) -> None:
    """Jobs in hand go on to their end."""
    with hands.grasp("a", ONE, JobClass.SPAWN):
        hands.close()
        with hands.grasp("b", OTHER, JobClass.SPAWN) as grasped:
            assert not grasped
        assert hands.free_classes() == {}
        assert hands.held() == {"a"}
        assert not hands.wait_empty(0.0)
    assert hands.wait_empty(0.0)


def test_earlier_work_is_that_of_other_jobs_of_the_instance(hands: Hands) -> None:
    """Neither the job's own hand nor other instances count."""
    with hands.grasp("a", ONE, JobClass.SPAWN), hands.grasp("b", OTHER, JobClass.SPAWN):
        assert hands.going_on(ONE, "d") == ("a",)
        assert hands.going_on(ONE, "a") == ()
        hands.wait_ended(ONE, "a", 0.0)


def test_earlier_work_that_does_not_end_is_an_error_that_passes(hands: Hands) -> None:
    """It names the job that is still at work; the destroy waits and looks again."""
    with (
        hands.grasp("a", ONE, JobClass.SPAWN),
        pytest.raises(HostError, match=r"a call of job a has not returned within 0 s") as error,
    ):
        hands.wait_ended(ONE, "d", 0.0)
    assert error.value.error_class is ErrorClass.TRANSIENT


def test_waiting_for_earlier_work_ends_with_it(hands: Hands) -> None:
    """Whoever waits is woken as the job is let go."""
    ended = threading.Event()

    def wait() -> None:
        hands.wait_ended(ONE, "d", WITHIN_S)
        ended.set()

    waiter = threading.Thread(target=wait)
    with hands.grasp("a", ONE, JobClass.SPAWN):
        waiter.start()
        assert not ended.is_set()
    waiter.join(WITHIN_S)
    assert ended.is_set()


def test_a_job_that_was_written_off_is_taken_again_and_waited_for(hands: Hands) -> None:
    """The thread that hangs lets go of its own hold, not of the next one's; a destroy waits for both."""
    with hands.grasp("a", ONE, JobClass.SPAWN) as hanging:
        hands.entrust("a", lambda _why: None)
        assert hanging
        assert hands.write_off(threading.get_ident(), "it hangs")
        with hands.grasp("a", ONE, JobClass.SPAWN) as again:
            assert again
            assert hands.held() == {"a"}
            assert hands.going_on(ONE, "destroy") == ("a", "a")
            assert (hands.written_off(ONE), hands.written_off(OTHER)) == (("a",), ())
        assert hands.going_on(ONE, "destroy") == ("a",)
        with pytest.raises(HostError, match="job a has not returned"):
            hands.wait_ended(ONE, "destroy", 0.01)
    hands.wait_ended(ONE, "destroy", WITHIN_S)


def test_only_a_claimed_job_is_written_off(hands: Hands) -> None:
    """There is nothing to give up before; nor in a thread that has none."""
    with hands.grasp("a", ONE, JobClass.SPAWN):
        assert not hands.has_job(threading.get_ident())
        assert not hands.write_off(threading.get_ident(), "it hangs")
        assert hands.held() == {"a"}
