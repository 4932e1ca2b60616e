"""``resize``, ``center_crop`` and ``to_rgb``: done to each image once, before packing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from histoflow import DataError, Params, Transform, hookimpl

if TYPE_CHECKING:
    from histoflow.components import ImageArray


class ResizeParams(Params):
    size: int = Field(64, ge=1, le=4096)
    """Side of the square that images become, in pixels; other shapes are stretched or squeezed."""
    filter: Literal["bilinear", "bicubic", "lanczos", "box"] = "bilinear"
    """How pixels are combined; each is widened when shrinking, so that nothing is skipped."""


class CenterCropParams(Params):
    size: int = Field(64, ge=1, le=4096)
    """Side of the square that is kept, in pixels."""


class ToRgbParams(Params):
    """No choices: grey is repeated, and what is transparent becomes white, as the glass of a slide is."""


def build_resize(params: ResizeParams) -> Callable[[ImageArray], ImageArray]:
    return partial(resize, params)


def resize(params: ResizeParams, image: ImageArray) -> ImageArray:
    import numpy as np

    if image.shape[2] == 3:
        return _resized(params, image)
    # Pillow would take other channels for transparency, or refuse them.
    planes = [_resized(params, image[:, :, channel]) for channel in range(image.shape[2])]
    return np.dstack(planes)


def _resized(params: ResizeParams, plane: ImageArray) -> ImageArray:
    import numpy as np
    from PIL import Image

    resampling = Image.Resampling[params.filter.upper()]
    return np.array(Image.fromarray(plane).resize((params.size, params.size), resampling))


def build_center_crop(params: CenterCropParams) -> Callable[[ImageArray], ImageArray]:
    return partial(center_crop, params)


def center_crop(params: CenterCropParams, image: ImageArray) -> ImageArray:
    size, (height, width) = params.size, image.shape[:2]
    if min(height, width) < size:
        raise DataError(
            f"The size of center_crop must be at most {min(height, width)} for an image of "
            f"{height}×{width} pixels. Got {size}. Crop less, or resize before."
        )
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size].copy()


def build_to_rgb(params: ToRgbParams) -> Callable[[ImageArray], ImageArray]:
    return to_rgb


def to_rgb(image: ImageArray) -> ImageArray:
    channels = image.shape[2]
    if channels == 1:
        return image.repeat(3, axis=2)
    if channels == 4:
        return _on_white(image)
    if channels != 3:
        raise DataError(
            f"to_rgb takes images of 1 (grey), 3 (RGB) or 4 (RGBA) channels. Got {channels}. "
            f"Leave it out, or choose channels when the data set is read."
        )
    return image


def _on_white(image: ImageArray) -> ImageArray:
    import numpy as np

    alpha = image[:, :, 3:].astype(np.uint16)
    blended = image[:, :, :3] * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)


RESIZE = Transform(
    name="resize",
    summary="To a square of this size",
    params=ResizeParams,
    stage="preprocess",
    build=build_resize,
)

CENTER_CROP = Transform(
    name="center_crop",
    summary="Only the square in the middle",
    params=CenterCropParams,
    stage="preprocess",
    build=build_center_crop,
)

TO_RGB = Transform(
    name="to_rgb",
    summary="Grey or transparent images to red, green and blue",
    params=ToRgbParams,
    stage="preprocess",
    build=build_to_rgb,
)


@hookimpl
def histoflow_transforms() -> Iterable[Transform[Any]]:
    return (RESIZE, CENTER_CROP, TO_RGB)
