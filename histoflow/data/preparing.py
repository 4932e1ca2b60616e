"""The first half of packing: every image decoded into chunks, by several processes where that pays."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from threadpoolctl import threadpool_limits

from histoflow import files, progress
from histoflow.components import Row, Samples
from histoflow.cores import cores
from histoflow.data import chunks, workers
from histoflow.data.chunks import DecodedSet, Stored
from histoflow.data.decoding import Decoder, Job, Outcome, UnpackableError, decode
from histoflow.errors import DataError, StorageError

_TRIAL = 0.2
"""Seconds of reading in this process, to see how long all of it will take."""
WORTH_PROCESSES = 3.0
"""Seconds of work in one process: of less, starting others would save nothing that anybody notices."""


def prepare(decoder: Decoder, samples: Samples, folder: Path, processes: int | None) -> DecodedSet:
    """All images, decoded into the folder; what stands there already is taken as it is.

    ``processes``: None starts as many as there are cores, where that pays.
    """
    trial = _try_out(decoder, samples.rows)
    jobs = _jobs(samples, trial)
    with _keeping_what_is_whole(folder):
        missing = _not_there_yet(folder, jobs)
        _refuse_full_disk(folder, trial.image_bytes, len(samples.rows))
        with progress.track("Packing", total=len(samples.rows)) as advance:
            there = len(samples.rows) - _rows(missing)
            if there:
                progress.say(f"{there:,} images stand decoded already, of a packing that was interrupted.")
                advance(there)
            _decode(decoder, trial, folder, missing, processes, advance)
    return DecodedSet([Stored(folder, job.start, job.stop) for job in jobs])


# ── Trying out ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Trial:
    """What the first rows came to."""

    outcomes: Mapping[int, Outcome]
    shape: tuple[int, ...]
    """Of the first image that could be read."""
    example: str
    """Its source."""
    seconds: float
    """Each row took."""

    @property
    def image_bytes(self) -> int:
        height, width, channels = self.shape
        return height * width * channels


def _try_out(decoder: Decoder, rows: Sequence[Row]) -> _Trial:
    """Read for a moment, and in any case until an image can be read."""
    outcomes: dict[int, Outcome] = {}
    first: tuple[tuple[int, ...], str] | None = None
    begin = time.perf_counter()
    for index, row in enumerate(rows):
        outcomes[index] = outcome = decoder.outcome(index, row.source)
        if first is None and outcome.image is not None:
            first = outcome.image.shape, row.source
        seconds = time.perf_counter() - begin
        if first and (seconds > _TRIAL or index + 1 >= chunks.images_per_chunk(_bytes(first[0]), len(rows))):
            break
    if first is None:
        reasons = "; ".join(dict.fromkeys(outcome.reason for outcome in list(outcomes.values())[:3]))
        raise DataError(f"Not one of {len(rows)} images could be read: {reasons}.")
    return _Trial(outcomes, *first, seconds / len(outcomes))


def _bytes(shape: Sequence[int]) -> int:
    return shape[0] * shape[1] * shape[2]


def _jobs(samples: Samples, trial: _Trial) -> list[Job]:
    total = len(samples.rows)
    step = chunks.images_per_chunk(trial.image_bytes, total)
    borders = [(start, min(start + step, total)) for start in range(0, total, step)]
    return [
        Job(
            start=start,
            stop=stop,
            rows=samples.rows[start:stop],
            files=None if samples.files is None else samples.files[start:stop],
            shape=trial.shape,
            example=trial.example,
        )
        for start, stop in borders
    ]


# ── What is there already ───────────────────────────────────────────────────────────────────────


@contextmanager
def _keeping_what_is_whole(folder: Path) -> Iterator[None]:
    """Chunks stay for the next packing, unless it could use none of them either."""
    with files.storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except UnpackableError:
        shutil.rmtree(folder)
        raise
    except BaseException:
        chunks.remove_if_empty(folder)
        raise


def _not_there_yet(folder: Path, jobs: Sequence[Job]) -> list[Job]:
    if not any(folder.iterdir()):
        return list(jobs)
    missing = []
    with progress.track("Checking what is decoded", total=_rows(jobs)) as advance:
        for job in jobs:
            if not Stored(folder, job.start, job.stop).is_whole(job.digest):
                missing.append(job)
            advance(job.stop - job.start)
    return missing


def _rows(jobs: Iterable[Job]) -> int:
    return sum(job.stop - job.start for job in jobs)


def _refuse_full_disk(folder: Path, image_bytes: int, images: int) -> None:
    """Once decoded and, where a split's files do not become the store's, once laid down."""
    needed = 2 * images * image_bytes - files.folder_size(folder)
    free = files.free_bytes(folder)
    if free < needed:
        raise StorageError(
            f"Packing needs about {files.in_units(needed)} and {folder.parent} has {files.in_units(free)} "
            f"free. Make room, or set HISTOFLOW_HOME to a larger disk, and run again."
        )


# ── Decoding ────────────────────────────────────────────────────────────────────────────────────


def _decode(
    decoder: Decoder,
    trial: _Trial,
    folder: Path,
    jobs: Sequence[Job],
    processes: int | None,
    advance: Callable[[int], None],
) -> None:
    def here(some: Sequence[Job], done: Callable[[int], None] | None = advance) -> None:
        with threadpool_limits(1, "blas"):  # its products are so small that several threads only wait
            for job in some:
                chunks.write_chunk(folder, job.start, job.stop, decode(decoder, job, trial.outcomes, done))

    if processes is None:
        pace = trial.seconds
        if not _pays(pace, jobs):  # reading is quick, but what comes after it may not be
            pace, jobs = _timed(here, jobs[:1]), jobs[1:]
        processes = cores() if _pays(pace, jobs) else 1
    processes = min(processes, len(jobs))
    data = _for_others(decoder) if processes > 1 else b""
    if not data:
        here(jobs)
        return
    others = workers.decode_together(data, folder, jobs, processes, lambda job: here([job], None))
    with closing(others) as done:
        for job in done:
            advance(job.stop - job.start)


def _pays(seconds: float, jobs: Sequence[Job]) -> bool:
    """Whether to start processes for these, where a row takes one of them so long."""
    return seconds * _rows(jobs) > WORTH_PROCESSES


def _timed(work: Callable[[Sequence[Job]], None], jobs: Sequence[Job]) -> float:
    """Seconds for each row."""
    begin = time.perf_counter()
    work(jobs)
    return (time.perf_counter() - begin) / max(1, _rows(jobs))


def _for_others(decoder: Decoder) -> bytes:
    data, reason = workers.pickled(decoder)
    if reason:
        progress.say(
            f"Images are decoded by this process alone: what reads them cannot be sent to others; {reason}."
        )
    return data
