"""How arrays hold images: which axis is which, and which value is white."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

from histoflow import DataError, UnreadableImage
from histoflow_plugins._array_files import ArrayFile, form
from histoflow_plugins._image_files import few

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Layout = Literal["auto", "hwc", "chw"]
Values = Literal["auto", "0..1", "0..255", "0..65535"]
_WHITE: Mapping[Values, float] = {"0..1": 1.0, "0..255": 255.0, "0..65535": 65535.0}
_SLACK = 1e-3
"""By how much of the range values may leave it, as resizing makes them."""
_LEAST_OF_BYTES = 16
"""Floats and long integers that stay below are not taken for 0 to 255: they may be anything scaled."""
_LEAST_OF_WORDS = 4 * 4095
"""Likewise for 0 to 65535: cameras store values of 10, 12 or 14 bits in words of 16."""
_TRIED = 16
"""Images that tell the range of all."""


@dataclass(frozen=True)
class Form:
    """What all images have in common."""

    size: tuple[int, int]
    channels: int
    colours_first: bool


def form_of(places: Sequence[tuple[ArrayFile, str]], layout: Layout) -> Form:
    """Raises DataError for arrays that hold no images, or not the same kind."""
    headers = [file.headers[name] for file, name in places]
    shape, dtype = headers[0].shape, headers[0].dtype
    if any(header.shape[1:] != shape[1:] or header.dtype != dtype for header in headers):
        raise DataError(f"images must have one size and type in all splits. Got {few(map(form, headers))}")
    if dtype.kind not in "uif" or len(shape) not in (3, 4) or 0 in shape:
        raise DataError(f"images must be N×H×W, N×H×W×C or N×C×H×W numbers. Got {form(headers[0])}")
    if len(shape) == 3:
        return Form((shape[1], shape[2]), 1, colours_first=False)
    if _are_colours_first(shape, layout):
        return Form((shape[2], shape[3]), shape[1], colours_first=True)
    return Form((shape[1], shape[2]), shape[3], colours_first=False)


def _are_colours_first(shape: Sequence[int], layout: Layout) -> bool:
    if layout != "auto":
        return layout == "chw"
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        raise DataError(
            f"it cannot be told which axis of {'×'.join(map(str, shape))} is that of the colours: "
            f"{'both have' if first else 'neither has'} 1 or 3. Set layout: hwc or layout: chw"
        )
    return first


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Rows:
    """The rows of several arrays, one array after the other."""

    arrays: tuple[tuple[ArrayFile, str], ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, arrays: Sequence[tuple[ArrayFile, str]]) -> Rows:
        lengths = [file.headers[key].shape[0] for file, key in arrays]
        return cls(tuple(arrays), tuple(accumulate(lengths)))

    def __call__(self, row: int) -> NDArray[Any]:
        part = bisect_right(self.ends, row)
        file, key = self.arrays[part]
        return file.item(key, row - (self.ends[part - 1] if part else 0))


@dataclass(frozen=True)
class ArrayImages:
    """Reads the image of a row as H×W×C uint8."""

    rows: Rows
    colours_first: bool
    white: float
    """The value of full brightness."""

    def __call__(self, row: int) -> NDArray[np.uint8]:
        import numpy as np

        image = self.rows(row)
        if image.ndim == 2:
            image = image[:, :, None]
        elif self.colours_first:
            image = image.transpose(1, 2, 0)
        return np.ascontiguousarray(_bytes(image, self.white))


def _bytes(image: NDArray[Any], white: float) -> NDArray[np.uint8]:
    import numpy as np

    if image.dtype == np.uint8 and white == _WHITE["0..255"]:
        return image
    low, high = float(image.min()), float(image.max())  # of which one is NaN where any value is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UnreadableImage("some of its values are no finite numbers")
    if low < -_SLACK * white or high > (1 + _SLACK) * white:
        raise UnreadableImage(f"its values reach from {low:g} to {high:g}, and not from 0 to {white:g}")
    scaled: NDArray[np.uint8] = np.rint(np.clip(image * (255 / white), 0, 255)).astype(np.uint8)
    return scaled


# ── Brightness ──────────────────────────────────────────────────────────────────────────────────


def white_of(rows: Rows, values: Values) -> float:
    """The value of full brightness: as it is set, else as the type or some images tell. Raises DataError."""
    file, key = rows.arrays[0]
    dtype = file.headers[key].dtype
    if values != "auto":
        return _WHITE[values]
    low, high = _range(rows)
    told = f"Their {dtype} values reach from {low:g} to {high:g} in the images that were tried"
    if low < -_SLACK or high > _WHITE["0..65535"]:
        raise DataError(
            f"images must have values from 0 to 1, 255 or 65535. {told}; "
            f"if they were normalised, undo that, for histoflow does it by itself"
        )
    guess = _guess(dtype, high)
    if guess is None:
        raise DataError(
            f"it cannot be told which value is white. {told}. Set values: 0..1, values: 0..255 or "
            f"values: 0..65535; if white is another value, scale the images to one of these"
        )
    return _WHITE[guess]


def _guess(dtype: np.dtype[Any], high: float) -> Values | None:
    """Which values there are where the highest one leaves no doubt: a wrong guess makes images black."""
    if dtype == "uint8":
        return None if high == 1 else "0..255"
    if dtype.kind == "f" and high <= 1 + _SLACK:
        return "0..1"
    if (dtype.kind == "f" or dtype.itemsize > 2) and _LEAST_OF_BYTES < high <= _WHITE["0..255"]:
        return "0..255"
    return "0..65535" if dtype == "uint16" and high > _LEAST_OF_WORDS else None


def _range(rows: Rows) -> tuple[float, float]:
    """The least and the greatest finite value of some images, spread over all."""
    import numpy as np

    count = rows.ends[-1]
    finite = []
    for row in sorted({place * count // _TRIED for place in range(_TRIED)}):
        try:
            image = rows(row)
        except UnreadableImage:
            continue
        finite.append(image[np.isfinite(image)])
    values = np.concatenate(finite) if finite else np.zeros(0)
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
