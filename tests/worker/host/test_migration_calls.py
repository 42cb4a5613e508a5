"""Calls in threads of their own: waited for with a deadline, and never forgotten."""

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest

from models.states import ErrorClass
from tasks.host import HostError
from tests.lab.waiting import eventually
from worker.host.migrations.calls import OwnCalls, Questions, ThreadedCall

SOON_S = 10.0
NOT_LONG_S = 0.05


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a call waits for; in the end it is opened."""
    event = threading.Event()
    yield event
    event.set()


def test_a_call_gives_its_result_once_it_has_returned(gate: threading.Event) -> None:
    """Until then it can be waited for again and again."""

    def answer() -> str:
        gate.wait(SOON_S)
        return "answer"

    call = ThreadedCall(answer, "test")
    assert not call.returned(NOT_LONG_S)
    gate.set()
    assert call.returned(SOON_S)
    assert (call.result(), call.result()) == ("answer", "answer")


def test_a_call_raises_what_it_raised() -> None:
    """In the thread of whoever asks."""

    def fail() -> None:
        raise LookupError("nothing there")

    call = ThreadedCall(fail, "test")
    assert call.returned(SOON_S)
    with pytest.raises(LookupError, match="nothing there"):
        call.result()


def test_a_call_of_an_instance_is_under_way_until_it_returns(gate: threading.Event) -> None:
    """A second one is refused until then."""
    calls, instance = OwnCalls(), uuid4()
    assert calls.under_way(instance) is None
    call = calls.begin(instance, lambda: assert_opened(gate))
    assert calls.under_way(instance) is call
    assert calls.under_way(uuid4()) is None
    with pytest.raises(HostError) as caught:
        calls.begin(instance, lambda: None)
    assert caught.value.error_class is ErrorClass.TRANSIENT
    gate.set()
    assert call.returned(SOON_S)
    assert calls.under_way(instance) is None
    calls.begin(instance, lambda: None)


def test_a_question_is_answered_in_time_or_not_at_all(gate: threading.Event) -> None:
    """What hangs is transient."""
    questions = Questions()
    assert questions.ask("x", lambda: 7, SOON_S) == 7
    with pytest.raises(HostError) as caught:
        questions.ask("x", lambda: assert_opened(gate), NOT_LONG_S)
    assert caught.value.error_class is ErrorClass.TRANSIENT
    assert questions.ask("y", lambda: 8, SOON_S) == 8


def test_what_an_answer_raises_is_raised() -> None:
    """It is an answer."""

    def refuse() -> None:
        raise HostError(ErrorClass.PERMANENT, "no")

    with pytest.raises(HostError, match="no"):
        Questions().ask("x", refuse, SOON_S)


def test_one_question_at_a_time_is_left_hanging(gate: threading.Event) -> None:
    """However often it is asked; and its late answer is nobody's."""
    questions, begun = Questions(), []

    def answer(number: int) -> int:
        begun.append(number)
        gate.wait(SOON_S)
        return number

    for number in (1, 2, 3):
        with pytest.raises(HostError):
            questions.ask("x", lambda number=number: answer(number), NOT_LONG_S)  # type: ignore[misc]
    assert begun == [1]
    gate.set()
    assert questions.ask("x", lambda: answer(4), SOON_S) == 4
    assert begun == [1, 4]


def assert_opened(gate: threading.Event) -> None:
    """Return once it is open."""
    eventually(gate.is_set, "the gate is open", SOON_S)
