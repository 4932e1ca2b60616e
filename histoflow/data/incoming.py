"""Images on their way to a network that is to judge them: found, decoded by threads, in a fixed order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from histoflow.data.store import SplitReader
from histoflow.errors import DataError, UnreadableImage, UserError
from histoflow.images import SUFFIXES, read_rgb

Image = NDArray[np.uint8]
Place = TypeVar("Place")
_SLICE = 256  # images of a split gathered at once


@dataclass(frozen=True)
class Incoming:
    """An image, or the problem with it."""

    name: str
    image: Image | None
    problem: str | None = None
    other_size: bool = False
    """Whether the problem is that it is not as large as those that the network was trained on."""


@dataclass(frozen=True)
class Reader:
    """Reads an image file and does to it what was done to the training images."""

    steps: Sequence[Callable[[Image], Image]]
    shape: tuple[int, int, int]
    """Height, width and channels that the network knows."""

    def __call__(self, path: Path) -> Incoming:
        try:
            image = read_rgb(path)
        except DataError as error:
            return Incoming(str(path), None, str(error))
        return self.of(image, str(path))

    def of(self, image: Image, name: str) -> Incoming:
        """An image that is decoded already, height × width × 3."""
        try:
            image = self._processed(image)
        except DataError as error:
            return Incoming(name, None, str(error))
        if self.shape[2] == 1 and _is_grey(image):
            image = image[:, :, :1]
        if image.shape != self.shape:
            return Incoming(name, None, self._other_size(image), other_size=True)
        return Incoming(name, image)

    def _processed(self, image: Image) -> Image:
        try:
            for step in self.steps:
                image = step(image)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # any code may stand in a plugin's step, and fail in any way
            raise UnreadableImage(f"preprocessing failed with {type(error).__name__}: {error}") from error
        return image

    def _other_size(self, image: Image) -> str:
        found, wanted = _described(image.shape), _described(self.shape)
        return f"it is {found} after preprocessing, and the network was trained on {wanted}"


def _is_grey(image: Image) -> bool:
    return image.shape[2] == 3 and bool((image == image[:, :, :1]).all())


def _described(shape: Sequence[int]) -> str:
    height, width, channels = shape
    return f"{width}×{height} pixels with {channels} channel{'s' if channels > 1 else ''}"


def image_files(places: Sequence[Path]) -> list[Path]:
    """The files among these places and the images in the folders among them, each once, sorted."""
    missing = [str(place) for place in places if not place.exists()]
    if missing:
        raise UserError(
            f"IMAGES must be folders or image files that exist. There is no {', '.join(missing[:3])}. "
            f"Check the path."
        )
    found = sorted({path for place in places for path in _in(place)}, key=str)
    if not found:
        raise UserError(
            f"IMAGES must hold at least one image ({', '.join(SUFFIXES)}). "
            f"Got {', '.join(map(str, places)) or 'nothing'}, which has none. Name another folder."
        )
    return found


def _in(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    yield from (path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def decoded(
    paths: Sequence[Place], read: Callable[[Place], Incoming], *, threads: int, ahead: int
) -> Generator[Incoming, None, None]:
    """The images in the order of the paths (or of what else tells where they are), of which threads have up
    to ``ahead`` ready."""
    rest = iter(paths)
    with ThreadPoolExecutor(threads, "decode") as pool:
        waiting = deque(pool.submit(read, path) for path in islice(rest, ahead))
        try:
            while waiting:
                image = waiting.popleft().result()
                waiting.extend(pool.submit(read, path) for path in islice(rest, 1))
                yield image
        finally:
            for future in waiting:
                future.cancel()


def packed(split: SplitReader) -> Generator[Incoming, None, None]:
    """The images of a packed split, in its order."""
    sources: Any = split.sources
    for start in range(0, len(split), _SLICE):
        places = np.arange(start, min(start + _SLICE, len(split)))
        for place, image in zip(places, split.gather(places), strict=True):
            yield Incoming(str(sources[place]), image)
