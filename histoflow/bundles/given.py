"""Images as a program hands them over, files, pictures and arrays, on their way to a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.data.incoming import Incoming, Reader
from histoflow.errors import DataError, UnreadableImage
from histoflow.images import read_rgb, to_rgb


@dataclass(frozen=True)
class Reading:
    """Makes an image out of whatever was given at a place in the list."""

    images: Sequence[Any] | NDArray[np.uint8]
    reader: Reader

    def __call__(self, index: int) -> Incoming:
        given = self.images[index]
        name = f"images[{index}] ({given})" if isinstance(given, (str, Path)) else f"images[{index}]"
        try:
            return self.reader.of(_pixels(given), name)
        except DataError as error:
            return Incoming(name, None, str(error))


def _pixels(given: Any) -> NDArray[np.uint8]:
    """Height × width × 3."""
    if isinstance(given, (str, Path)):
        return read_rgb(Path(given))
    if isinstance(given, np.ndarray):
        return _three_channels(given)
    from PIL.Image import Image

    if isinstance(given, Image):
        return to_rgb(given)
    raise UnreadableImage(
        f"it must be a path, a picture of Pillow's or a uint8 array, and is {type(given).__name__}"
    )


def _three_channels(given: NDArray[Any]) -> NDArray[np.uint8]:
    if given.dtype != np.uint8:
        raise UnreadableImage(
            f"its pixels must be uint8, from 0 to 255, and are {given.dtype}: convert it (a float image from "
            f"0 to 1: (255 * image).round().astype('uint8'))"
        )
    image = given[:, :, None] if given.ndim == 2 else given
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise UnreadableImage(
            f"an array must be H×W×3 or H×W, and its shape is {given.shape}: leave out what is beyond RGB"
        )
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def usable(images: Iterator[Incoming]) -> Iterator[NDArray[np.uint8]]:
    """Their pixels, up to the first that has none, which is an error."""
    for one in images:
        if one.image is None:
            raise DataError(f"{one.name} cannot be predicted: {str(one.problem).rstrip('.')}.")
        yield one.image
