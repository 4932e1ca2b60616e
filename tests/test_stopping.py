"""Signals wait for a place where nothing is half done, but not for ever."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from histoflow import stopping
from histoflow.errors import Stopped


class Terminated(BaseException):
    """What a handler of SIGTERM that stood before raises, as Prefect's does."""


@pytest.fixture(autouse=True)
def handler() -> Iterator[object]:
    def handle(*_: object) -> None:
        raise Terminated

    former = signal.signal(signal.SIGTERM, handle)
    yield handle
    signal.signal(signal.SIGTERM, former)


@pytest.mark.parametrize(
    ("number", "ends_in"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_waits_until_the_work_gives_way(
    number: signal.Signals, ends_in: type[BaseException]
) -> None:
    steps = []
    with pytest.raises(ends_in), stopping.deferred():
        assert not stopping.asked()
        signal.raise_signal(number)
        steps.append("the step is finished")
        assert stopping.asked()
        stopping.give_way()
    assert steps == ["the step is finished"]


def test_a_signal_that_nobody_gave_way_to_passes_when_the_work_is_done() -> None:
    done = []
    with pytest.raises(Terminated), stopping.deferred():
        signal.raise_signal(signal.SIGTERM)
        done.append(True)
    assert done


def test_a_second_signal_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt), stopping.deferred():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it waited")


def test_work_that_takes_too_long_is_interrupted_where_it_is() -> None:
    with pytest.raises(Terminated), stopping.deferred(patience=0.1):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)
        pytest.fail("it waited")


def test_the_handlers_that_stood_before_stand_again(handler: object) -> None:
    with stopping.deferred(), stopping.deferred():
        pass
    assert signal.getsignal(signal.SIGTERM) is handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_gets_the_signal_may_set_handlers_of_its_own() -> None:
    def handle(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, handle)
    with pytest.raises(Terminated), stopping.deferred():
        signal.raise_signal(signal.SIGTERM)
        stopping.give_way()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_the_word_is_forgotten_when_the_next_work_begins() -> None:
    with pytest.raises(KeyboardInterrupt), stopping.deferred():
        signal.raise_signal(signal.SIGINT)
        stopping.give_way()
    with stopping.deferred():
        assert not stopping.asked()


def test_an_announced_signal_passes_at_once_and_ends_the_work_of_threads() -> None:
    ended: list[BaseException] = []

    def work() -> None:
        while not stopping.asked():
            time.sleep(0.01)
        try:
            with stopping.deferred():  # in a thread it holds nothing
                stopping.give_way()
        except Stopped as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    with pytest.raises(Terminated), stopping.announced():
        thread.start()
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it waited")
    thread.join(timeout=10)
    assert "can go on" in str(ended[0])
