"""Processes that decode the chunks of a data set, and leave them as files.

They are started afresh by loky: they inherit no threads, do not run the caller's ``__main__`` again, and take
functions that are no part of any module as well.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from histoflow import files
from histoflow.data.chunks import write_chunk
from histoflow.data.decoding import Decoder, Job, decode
from histoflow.errors import HistoflowError, TeamError

MOST_PICKLED = 256 * 2**20
"""Bytes: what holds its images itself is not copied to every process."""
_WAITING_PER_WORKER = 2
_LOOK_EVERY = 0.5
"""Seconds between two looks whether the parent still lives."""

_decoder: Decoder
_folder: Path


def pickled(decoder: Decoder) -> tuple[bytes, str]:
    """The decoder for other processes; or nothing, and the reason why it has to stay in this one."""
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(decoder)
    except Exception as error:  # pickling runs code of the data set's own, which raises what it likes
        return b"", f"it cannot be pickled ({error or type(error).__name__})"
    if len(data) > MOST_PICKLED:
        return b"", f"it holds {len(data) / 1e9:.1f} GB itself"
    return data, ""


def decode_together(
    decoder: bytes, folder: Path, jobs: Iterable[Job], processes: int, here: Callable[[Job], None]
) -> Generator[Job, None, None]:
    """Have these many processes write the chunks of the jobs into the folder; yields each that is done.

    This one is among them and does its share by ``here``, from the first moment on, when the others are still
    starting. The first error ends them all. None lives on after this ends, however it does, nor after this
    process.
    """
    from loky import ProcessPoolExecutor

    others = processes - 1
    # By a file: down a pipe, what is large would have this process wait until the others have started.
    with NamedTemporaryFile(dir=folder, prefix=".decoder-") as told:
        with files.storage_errors(folder):
            told.write(decoder)
            told.flush()
        given = (Path(told.name), folder, os.getpid())
        executor = ProcessPoolExecutor(others, initializer=_begin, initargs=given, env=_environment())
        try:
            yield from _results(executor, deque(jobs), others * _WAITING_PER_WORKER, here)
        finally:
            executor.shutdown(wait=True, kill_workers=True)


def _results(executor: Any, left: deque[Job], at_most: int, here: Callable[[Job], None]) -> Iterator[Job]:
    from loky import FIRST_COMPLETED, wait

    waiting: dict[Any, Job] = {}
    while left or waiting:
        own = left.popleft() if left else None  # some images of the first were read, to see how long it takes
        while left and len(waiting) < at_most:
            job = left.popleft()
            waiting[executor.submit(_work, job)] = job
        if own:
            here(own)
            yield own
        at_once = 0 if left else None
        for future in wait(waiting, timeout=at_once, return_when=FIRST_COMPLETED).done:
            job = waiting.pop(future)
            _raise_what_it_raised(future.exception(), job)
            yield job


def _raise_what_it_raised(error: BaseException | None, job: Job) -> None:
    from loky.process_executor import TerminatedWorkerError

    if error is None:
        return
    if isinstance(error, TerminatedWorkerError | MemoryError):
        ended = "ran out of memory" if isinstance(error, MemoryError) else "was killed, perhaps for memory,"
        raise TeamError(
            f"A process that decoded images {ended} near {job.rows[0].source}. Run again: what was decoded "
            f"is kept. OMP_NUM_THREADS=1 decodes in one process, which takes the least memory."
        ) from error
    if isinstance(error, HistoflowError):
        raise error from None  # its message says all; where in another process it arose helps nobody
    raise error


def _environment() -> dict[str, str]:
    """Each process has a core; numpy's own threads would fight over them."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return dict.fromkeys(names, "1")


# ── In the processes ────────────────────────────────────────────────────────────────────────────


def _begin(decoder: Path, folder: Path, parent: int) -> None:
    import cloudpickle

    global _decoder, _folder
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _decoder, _folder = cloudpickle.loads(decoder.read_bytes()), folder


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os._exit(1)


def _work(job: Job) -> None:
    write_chunk(_folder, job.start, job.stop, decode(_decoder, job))
