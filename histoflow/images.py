"""Decoding of image files, the same for every data set that has such files."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from histoflow import tiff
from histoflow.errors import DataError, UnreadableImage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")  # of what Pillow knows; some others start programs


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """The image as H×W×3 uint8, upright; transparent parts are white, like a slide's background."""
    content = _content(path)
    plain = tiff.read_plain(content)
    return _decoded(content) if plain is None else plain


def _content(path: Path) -> bytes:
    """An error here is no fault of the image: a vanished disk must not look like damaged data."""
    try:
        return _whole(path)
    except PermissionError as error:
        raise DataError(
            f"Cannot read {path}: {error.strerror}. Give yourself the right to read it (chmod u+r)."
        ) from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Bring it back, or fetch again.") from error
    except ValueError as error:
        raise UnreadableImage(f"no file can have its name: {error}") from error


def _whole(path: Path) -> bytes:
    """Without a file object, which for small files costs as much as all the rest."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        content = os.read(descriptor, size)
    finally:
        os.close(descriptor)
    return content if len(content) == size else path.read_bytes()  # it may come in several parts


def _decoded(content: bytes) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    _silence_bomb_warning()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _refuse_bomb(image)
            image.load()
            return to_rgb(image)
    except UnreadableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels() from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(
            f"it is no {', '.join(_FORMATS)} image" if content else "it is empty"
        ) from error
    except Exception as error:  # Pillow's decoders raise anything at all when bytes are damaged
        raise UnreadableImage(f"it cannot be decoded: {error or type(error).__name__}") from error


def _silence_bomb_warning() -> None:
    """Pillow only warns of what is refused here with a reason.

    It is for the whole process, because ``warnings.catch_warnings`` would disturb other threads; and only
    once, because every further filter makes Python repeat warnings that it has shown.
    """
    from PIL.Image import DecompressionBombWarning

    if not any(kind is DecompressionBombWarning for _, _, kind, _, _ in warnings.filters):
        warnings.filterwarnings("ignore", category=DecompressionBombWarning)


def _refuse_bomb(image: Image) -> None:
    from PIL.Image import MAX_IMAGE_PIXELS

    if MAX_IMAGE_PIXELS and image.width * image.height > MAX_IMAGE_PIXELS:
        raise _too_many_pixels()


def _too_many_pixels() -> UnreadableImage:
    from PIL.Image import MAX_IMAGE_PIXELS

    return UnreadableImage(f"it has more than {MAX_IMAGE_PIXELS:,} pixels: cut it into patches")


def to_rgb(image: Image) -> NDArray[np.uint8]:
    """What ``read_rgb`` makes of an image that Pillow has opened."""
    import numpy as np
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("I", "F"):
        raise UnreadableImage("its 32-bit pixels have no known range: convert it to 8 or 16 bits a channel")
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    return np.array(upright.convert("RGB"))
