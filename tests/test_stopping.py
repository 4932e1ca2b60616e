"""Work is asked to end, ends where nothing is half done, and is not waited for for ever."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextvars import ContextVar

import pytest

from histoflow import stopping
from histoflow.errors import Stopped


class Terminated(BaseException):
    """What a handler of SIGTERM raises, as Prefect's does."""


@pytest.fixture(autouse=True)
def handler() -> Iterator[object]:
    def handle(*_: object) -> None:
        raise Terminated

    former = signal.signal(signal.SIGTERM, handle)
    yield handle
    signal.signal(signal.SIGTERM, former)


def steps(done: list[str], number: signal.Signals | None = None) -> Generator[int, None, None]:
    """Three items; in the second a signal arrives in the middle of a step."""
    try:
        for item in range(3):
            if item == 1 and number is not None:
                signal.raise_signal(number)
                while not stopping.asked():
                    time.sleep(0.01)
            done.append(f"step {item}")
            if stopping.asked():
                done.append("saved")
                stopping.give_way()
            yield item
    finally:
        done.append("closed")


@pytest.mark.parametrize(
    ("number", "ends_in"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
def test_an_interruption_comes_through_once_the_work_has_saved(
    number: signal.Signals, ends_in: type[BaseException]
) -> None:
    done: list[str] = []
    with pytest.raises(ends_in):
        list(stopping.politely(steps(done, number)))
    assert done == ["step 0", "step 1", "saved", "closed"]


def test_undisturbed_work_yields_what_it_would_have_yielded() -> None:
    done: list[str] = []
    assert list(stopping.politely(steps(done))) == [0, 1, 2]
    assert done[-1] == "closed"


def test_the_handlers_of_others_stand_while_work_is_done(handler: object) -> None:
    def look() -> Generator[object, None, None]:
        yield signal.getsignal(signal.SIGTERM)

    assert list(stopping.politely(look())) == [handler]


def test_who_asks_for_no_more_items_closes_the_work() -> None:
    done: list[str] = []
    items = stopping.politely(steps(done))
    next(items)
    items.close()
    assert done == ["step 0", "closed"]


def test_work_that_takes_too_long_is_left_behind() -> None:
    never = threading.Event()

    def hang() -> Generator[int, None, None]:
        signal.raise_signal(signal.SIGTERM)
        never.wait()
        yield 0

    with pytest.raises(Terminated):
        list(stopping.politely(hang(), patience=0.1))
    never.set()


def test_what_was_left_behind_stays_asked_when_other_work_begins() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def hang() -> Generator[int, None, None]:
        signal.raise_signal(signal.SIGTERM)
        go_on.wait()
        if stopping.asked():
            ended.set()
        yield 0

    with pytest.raises(Terminated):
        list(stopping.politely(hang(), patience=0.1))
    assert list(stopping.politely(steps([]))) == [0, 1, 2]
    go_on.set()
    assert ended.wait(10)


def test_all_items_are_made_in_one_thread_which_ends_with_the_work() -> None:
    makers = []

    def look() -> Generator[int, None, None]:
        try:
            for item in range(3):
                makers.append(threading.current_thread())
                yield item
        finally:
            makers.append(threading.current_thread())

    items = stopping.politely(look())
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert len(makers) == 3
    assert len(set(makers)) == 1
    makers[0].join(timeout=10)
    assert not makers[0].is_alive()


def test_each_item_is_made_in_the_context_of_who_asks_for_it() -> None:
    seen: ContextVar[str] = ContextVar("seen")

    def look() -> Generator[str, None, None]:
        while True:
            yield seen.get()

    items = stopping.politely(look())
    for word in ("one", "two"):
        seen.set(word)
        assert next(items) == word
    items.close()


def test_an_error_of_the_work_is_its_own() -> None:
    def fail() -> Generator[int, None, None]:
        yield 1
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        list(stopping.politely(fail()))
    assert not stopping.asked()


def test_the_work_sees_the_context_of_who_asks_for_it() -> None:
    listener: ContextVar[str] = ContextVar("listener")
    listener.set("mine")

    def look() -> Generator[str, None, None]:
        yield listener.get()

    assert list(stopping.politely(look())) == ["mine"]


def test_the_word_is_forgotten_when_the_next_work_begins() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(stopping.politely(steps([], signal.SIGINT)))
    assert list(stopping.politely(steps([]))) == [0, 1, 2]


def test_an_interruption_of_the_main_thread_ends_the_work_of_others() -> None:
    ended: list[BaseException] = []

    def work() -> None:
        try:
            for _ in stopping.politely(step_for_ever()):
                pass
        except Stopped as error:
            ended.append(error)

    def step_for_ever() -> Generator[int, None, None]:
        while not stopping.asked():
            time.sleep(0.01)
            yield 0
        stopping.give_way()

    thread = threading.Thread(target=work)
    with pytest.raises(Terminated), stopping.announced():
        thread.start()
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it was not interrupted")
    thread.join(timeout=10)
    assert "can go on" in str(ended[0])
