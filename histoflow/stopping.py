"""How work is asked to end: at the next place where nothing is half done.

Ctrl-C and SIGTERM interrupt the main thread between any two instructions, also inside an optimizer's step.
So that nothing is torn, training works in a thread of its own, while the main thread waits. Whatever
interrupts the waiting is passed on as word: the work looks at ``asked()`` after each step, saves what it
has, and ends by ``give_way()``; then the interruption takes its course. Work that does not come to such a
place in time is left behind, and ends with the process.

No handler of a signal is replaced: Prefect tells a flow run of its cancellation only while its own stands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from queue import SimpleQueue
from typing import NoReturn, TypeVar

from histoflow.errors import Stopped

PATIENCE = 10.0
"""Seconds that work which was asked to end may take to do so."""
_LOOK_EVERY = 0.2
"""Seconds. A signal that reaches another thread does not end the main thread's waiting by itself."""

Item = TypeVar("Item")
Made = TypeVar("Made")
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

    All are made in one and the same thread, as libraries remember by thread what they found out. In another
    thread than the main one, which nothing interrupts, the work is done right there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield from work
        return
    _everyone.clear()
    worker = _Worker(patience)
    try:
        while (made := worker.do(partial(_next_of, work))) is not None:
            yield made[0]
    finally:
        worker.end_with(work.close)


def _next_of(work: Generator[Item, None, None]) -> tuple[Item] | None:
    """The next item, or None after the last."""
    try:
        return (next(work),)
    except StopIteration:
        return None


class _Worker:
    """A thread that does what the main thread hands it and waits for."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._word = threading.Event()  # of its own: what is left behind stays asked when other work begins
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._is_left_behind = False
        threading.Thread(target=self._serve, name="work", daemon=True).start()

    def do(self, task: Callable[[], Made]) -> Made:
        """What the task makes, in the caller's context."""
        future: Future[Made] = Future()
        # The bare lock of the interpreter is what an interruption leaves whole; a condition is not.
        busy = threading.Lock()
        busy.acquire()
        context = copy_context()
        context.run(_mine.set, self._word)
        try:
            self._orders.put(partial(context.run, _carry_out, task, future, busy))
            while not busy.acquire(timeout=_LOOK_EVERY):
                pass
        except BaseException:
            self._word.set()
            self._is_left_behind = not busy.acquire(timeout=self._patience)
            raise
        return future.result()

    def end_with(self, task: Callable[[], None]) -> None:
        """The last thing that it does; what was left behind does so when it comes to it."""
        if self._is_left_behind:
            self._orders.put(task)
        else:
            self.do(task)
        self._orders.put(None)

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            order()


def _carry_out(task: Callable[[], Made], future: Future[Made], busy: threading.Lock) -> None:
    try:
        future.set_result(task())
    except BaseException as error:
        future.set_exception(error)
    finally:
        busy.release()
