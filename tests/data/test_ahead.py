"""A thread makes items ready; its errors reach the caller, and it ends with the iterator."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from histoflow.data.ahead import drawn_ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_all_items_come_in_order_and_the_thread_ends() -> None:
    assert list(drawn_ahead(iter(range(50)), 3)) == list(range(50))
    assert list(drawn_ahead(iter(()), 3)) == []
    assert threads() == []


def test_items_are_made_by_another_thread_before_they_are_asked_for() -> None:
    makers, third = [], threading.Event()

    def items() -> Iterator[int]:
        for number in range(5):
            makers.append(threading.current_thread())
            if number == 2:
                third.set()
            yield number

    ahead = drawn_ahead(items(), 2)
    assert next(ahead) == 0
    assert third.wait(10)
    time.sleep(0.05)
    assert len(makers) == 3  # and not more than was asked for
    assert threading.current_thread() not in makers
    assert list(ahead) == [1, 2, 3, 4]


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    ahead = drawn_ahead(items(), 2)
    assert next(ahead) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)
    assert threads() == []


def test_closing_ends_the_thread_though_items_remain() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    ahead = drawn_ahead(items(), 2)
    next(ahead)
    ahead.close()
    assert threads() == []
    assert len(made) <= 4
