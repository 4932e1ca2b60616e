"""How work is asked to end: at the next place where nothing is half done.

Ctrl-C and SIGTERM interrupt the main thread between any two instructions, also inside an optimizer's step.
So that nothing is torn, training works in a thread of its own, while the main thread waits. Whatever
interrupts the waiting is passed on as word: the work looks at ``asked()`` after each step, saves what it
has, and ends by ``give_way()``; then the interruption takes its course. Work that does not come to such a
place in time is left behind, and ends with the process.

No handler of a signal is replaced: Prefect tells a flow run of its cancellation only while its own stands.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import NoReturn, TypeVar

from histoflow.errors import Stopped

PATIENCE = 10.0
"""Seconds that work which was asked to end may take to do so."""
_LOOK_EVERY = 0.2
"""Seconds. A signal that reaches another thread does not end the main thread's waiting by itself."""

Item = TypeVar("Item")
_everyone = threading.Event()
_mine: ContextVar[threading.Event | None] = ContextVar("histoflow_asked_to_end", default=None)


def asked() -> bool:
    """Whether the work that asks was asked to end."""
    mine = _mine.get()
    return _everyone.is_set() or (mine is not None and mine.is_set())


def ask() -> None:
    """Ask all work of this process to end, on the word of another one."""
    _everyone.set()


def give_way() -> NoReturn:
    raise Stopped("Training was asked to stop and ended after a checkpoint, from which it can go on.")


@contextmanager
def announced() -> Iterator[None]:
    """Whatever ends the block before its time, interruption or error, asks the work in threads to end."""
    _everyone.clear()
    try:
        yield
    except BaseException:
        _everyone.set()
        raise


def politely(work: Generator[Item, None, None], patience: float = PATIENCE) -> Generator[Item, None, None]:
    """The same items, made in a thread; an interruption of the waiting comes through once the work has ended.

    In another thread than the main one, which nothing interrupts, the work is done right there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield from work
        return
    _everyone.clear()
    word = threading.Event()  # of its own: what is left behind stays asked when other work begins
    try:
        while (made := _in_a_thread(work, word, patience)) is not None:
            yield made[0]
    finally:
        if inspect.getgeneratorstate(work) != inspect.GEN_RUNNING:  # else it was left behind
            work.close()


def _in_a_thread(
    work: Generator[Item, None, None], word: threading.Event, patience: float
) -> tuple[Item] | None:
    """The next item, or None after the last."""
    future: Future[tuple[Item] | None] = Future()
    # The bare lock of the interpreter is what an interruption leaves whole; a condition is not.
    busy = threading.Lock()
    busy.acquire()
    context = copy_context()
    context.run(_mine.set, word)
    thread = threading.Thread(target=context.run, args=(_make, work, future, busy), name="work", daemon=True)
    try:
        thread.start()
        while not busy.acquire(timeout=_LOOK_EVERY):
            pass
    except BaseException:
        word.set()
        busy.acquire(timeout=patience)
        raise
    return future.result()


def _make(
    work: Generator[Item, None, None], future: Future[tuple[Item] | None], busy: threading.Lock
) -> None:
    try:
        future.set_result((next(work),))
    except StopIteration:
        future.set_result(None)
    except BaseException as error:
        future.set_exception(error)
    finally:
        busy.release()
