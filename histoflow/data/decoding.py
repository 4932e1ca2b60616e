"""One chunk of a data set's rows: each image read, checked, preprocessed, hashed and measured.

This is what the processes of a packing do, so nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SPLITS, Facts, Row, SplitName
from histoflow.data import moments
from histoflow.data.audit import features
from histoflow.data.hashes import hashes_of
from histoflow.data.keys import dealing_keys
from histoflow.data.moments import Moments
from histoflow.errors import DataError, UnreadableImage

Image = NDArray[np.uint8]
_known = attrgetter("source", "label", "split", "group", "weight")


class UnpackableError(DataError):
    """These data can never be packed with these steps, however often it is tried."""


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """How the images of a data set are made ready."""

    read: Callable[[int], Image]
    steps: Sequence[Callable[[Image], Image]]
    facts: Facts
    deal: Callable[[Row, str], SplitName]
    """From a row and its image's key to its split."""
    keyed: bool
    """Whether images are dealt to splits by their pixels."""
    may_decline: Sequence[int] = ()
    """The places of steps that give back the very array they were given where they can do nothing."""

    def outcome(self, index: int, source: str) -> Outcome:
        """What the row's image comes to."""
        try:
            raw = self.read(index)
            _refuse_wrong_type(raw, source)
            self._refuse_other_shape(raw)
            image, declined = self._stepped(raw, source)
        except UnreadableImage as error:
            return Outcome(reason=str(error))
        # Images that no step changes are told apart all together, which takes a third of the time.
        key = dealing_keys(raw[None])[0] if self.keyed and self.steps else b""
        return Outcome(image=image, raw_size=raw.shape[:2], key=key, declined=declined)

    def _stepped(self, image: Image, source: str) -> tuple[Image, tuple[bool, ...]]:
        declined = []
        for place, step in enumerate(self.steps):
            before = image
            try:
                image = step(image)
            except UnreadableImage:
                raise
            except DataError as error:
                raise UnpackableError(f"{source}: {error}") from error
            if place in self.may_decline:
                declined.append(image is before)
        if self.steps:
            _refuse_wrong_type(image, source)
        return image, tuple(declined)

    def _refuse_other_shape(self, image: Image) -> None:
        stated = (*(self.facts.size or image.shape[:2]), self.facts.channels or image.shape[2])
        if image.shape != stated:
            raise UnreadableImage(
                f"it is {describe_shape(image.shape)}; the data set states {describe_shape(stated)}"
            )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An image that is ready, or the reason why there is none."""

    image: Image | None = None
    raw_size: tuple[int, ...] = ()
    key: bytes = b""
    declined: tuple[bool, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The rows of one chunk."""

    start: int
    stop: int
    rows: Sequence[Row]
    files: Sequence[Path] | None
    shape: tuple[int, ...]
    """What images are after the steps."""
    example: str
    """The source of an image that is."""

    @property
    def digest(self) -> str:
        """Of all that is known of its rows: decoded images of others are none of theirs."""
        return hashlib.sha256(repr([_known(row) for row in self.rows]).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What the rows of a job came to."""

    pixels: Image
    """N×H×W×C, of the images that could be read."""
    columns: Mapping[str, NDArray[Any]]
    """One entry for each of them: ``row``, ``split``, ``hash``, ``size``, ``sum``, ``square``, ``declined``,
    perhaps ``key``, and what was measured of it (``feature/…``) and of its file (``file/…``)."""
    unreadable: Mapping[int, str]
    """The reason for each other row."""
    rows: str
    """The digest of the rows."""


@dataclass
class _Collected:
    """The images of a chunk while it grows."""

    job: Job
    pixels: Image = field(init=False)
    rows: list[int] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pixels = np.empty((self.job.stop - self.job.start, *self.job.shape), np.uint8)

    def add(self, row: int, outcome: Outcome) -> None:
        if outcome.image is None:
            self.unreadable[row] = outcome.reason
            return
        _refuse_mixed_shapes(outcome.image, self.job.rows[row - self.job.start].source, self.job)
        self.pixels[len(self.rows)] = outcome.image
        self.rows.append(row)
        self.outcomes.append(Outcome(raw_size=outcome.raw_size, key=outcome.key, declined=outcome.declined))


def decode(
    decoder: Decoder,
    job: Job,
    known: Mapping[int, Outcome] | None = None,
    done: Callable[[int], None] | None = None,
) -> Chunk:
    """Make a chunk; ``known`` holds outcomes of rows that were read before, ``done`` is told of each row."""
    collected = _Collected(job)
    for row in range(job.start, job.stop):
        outcome = (known or {}).get(row)
        collected.add(row, outcome or decoder.outcome(row, job.rows[row - job.start].source))
        if done:
            done(1)
    pixels = collected.pixels[: len(collected.rows)]
    sums = moments.of_each(pixels)
    keys = _keys(decoder, collected.outcomes, pixels, sums)
    columns: dict[str, NDArray[Any]] = {
        "row": np.array(collected.rows, np.int64),
        "split": _splits(decoder, collected, keys),
        "key": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1 if keys else 0),
        **_columns_of_outcomes(collected.outcomes),
        **_columns_of_pixels(pixels, sums),
        **_columns_of_files(collected.rows, job),
    }
    return Chunk(pixels=pixels, columns=columns, unreadable=collected.unreadable, rows=job.digest)


def _keys(decoder: Decoder, outcomes: Sequence[Outcome], pixels: Image, sums: Moments) -> list[bytes]:
    """What deals each image out, by its pixels before any step; nothing where the row itself says it."""
    if not decoder.keyed or decoder.steps or not len(pixels):
        return [outcome.key for outcome in outcomes]
    return dealing_keys(pixels, sums)


def _splits(decoder: Decoder, collected: _Collected, keys: Sequence[bytes]) -> NDArray[np.int8]:
    """Of each image, as an index into ``SPLITS``."""
    number = {name: place for place, name in enumerate(SPLITS)}
    rows = (collected.job.rows[row - collected.job.start] for row in collected.rows)
    dealt = zip(rows, keys, strict=True)
    return np.array([number[decoder.deal(row, key.hex())] for row, key in dealt], np.int8)


def _columns_of_outcomes(outcomes: Sequence[Outcome]) -> dict[str, NDArray[Any]]:
    return {
        "size": np.array([outcome.raw_size for outcome in outcomes], np.int32).reshape(-1, 2),
        "declined": np.array([outcome.declined for outcome in outcomes], np.bool_).reshape(
            len(outcomes), -1 if outcomes else 0
        ),
    }


def _columns_of_pixels(pixels: Image, sums: Moments) -> dict[str, NDArray[Any]]:
    measured = features.describe(pixels, sums) if len(pixels) else {}
    return {
        "hash": hashes_of(pixels),
        "sum": sums.totals,
        "square": sums.squares,
        **{f"feature/{name}": values for name, values in measured.items()},
    }


def _columns_of_files(rows: Iterable[int], job: Job) -> dict[str, NDArray[Any]]:
    if job.files is None:
        return {}
    told = [features.describe_file(job.files[row - job.start]) for row in rows]
    return {f"file/{name}": np.array([one[name] for one in told]) for name in (told[0] if told else ())}


# ── What is refused ─────────────────────────────────────────────────────────────────────────────


def describe_shape(shape: Sequence[int]) -> str:
    return f"{shape[0]}×{shape[1]} with {shape[2]} channels"


def _refuse_wrong_type(image: Any, source: str) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or not image.size:
        got = (
            f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise UnpackableError(f"The image {source} must be an array H×W×C of uint8. Got {got}.")


def _refuse_mixed_shapes(image: Image, source: str, job: Job) -> None:
    if image.shape != job.shape:
        raise UnpackableError(
            f"All images must have one size after preprocessing. "
            f"{source} is {describe_shape(image.shape)}, {job.example} is {describe_shape(job.shape)}. "
            f"Add {{name: resize, size: {min(job.shape[:2])}}} to preprocess."
        )
