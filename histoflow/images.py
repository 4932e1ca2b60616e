"""Decoding of image files, the same for every data set that has such files."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoflow import tiff
from histoflow.errors import DataError, UnreadableImage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")  # of what Pillow knows; some others start programs
_BEGINNINGS_OF_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OF_PILLOW = r"PIL\."
"""The modules whose warnings say nothing that a reason does not."""
_BITS, _COMPRESSION, _COLOURS, _FILL_ORDER, _PLANES, _WHITE_IS_0 = 258, 259, 262, 266, 284, 0


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

    _silence_warnings()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _refuse_bomb(image)
            return to_rgb(image)
    except UnreadableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels() from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(_what_else(content)) from error
    except Exception as error:  # Pillow's decoders raise anything at all when bytes are damaged
        raise UnreadableImage(f"it cannot be decoded: {error or type(error).__name__}") from error


def _what_else(content: bytes) -> str:
    """What it is, where Pillow recognises no image in it."""
    if content.startswith(_BEGINNINGS_OF_TIFF):
        return (
            "it is a damaged TIFF file or one of a rare kind: "
            "if other programs show it, save it with 8 bits a channel, grey or RGB"
        )
    return f"it is no {', '.join(_FORMATS)} image" if content else "it is empty"


def _silence_warnings() -> None:
    """Pillow only warns of bombs and of damage, which are refused here with a reason.

    It is for the whole process, because ``warnings.catch_warnings`` would disturb other threads; and only
    once, because every further filter makes Python repeat warnings that it has shown.
    """
    from PIL.Image import DecompressionBombWarning

    there = [(kind, getattr(module, "pattern", module)) for _, _, kind, module, _ in warnings.filters]
    if (DecompressionBombWarning, None) not in there:
        warnings.filterwarnings("ignore", category=DecompressionBombWarning)
    if (UserWarning, _OF_PILLOW) not in there:
        warnings.filterwarnings("ignore", category=UserWarning, module=_OF_PILLOW)


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

    _refuse_odd_planes(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("I", "F"):
        raise UnreadableImage(
            "its signed or 32-bit pixels have no known range: convert it to 8 or 16 bits a channel, unsigned"
        )
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray(_upper_bits(np.asarray(upright), _tags(image)))
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    return np.array(upright.convert("RGB"))


# ── What Pillow gets wrong of TIFF files ────────────────────────────────────────────────────────


def _tags(image: Image) -> Mapping[int, Any]:
    """Of a TIFF file; other files have none."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    return tags


def _refuse_odd_planes(image: Image) -> None:
    """Pillow takes planes that are not compressed for plain bytes with black at 0, whatever they are."""
    tags = _tags(image)
    separate, compressed = tags.get(_PLANES, 1) == 2, tags.get(_COMPRESSION, 1) != 1
    if separate and not compressed and not _holds_plain_bytes(tags):
        raise UnreadableImage(
            "its channels lie one after the other, not compressed and not as plain bytes, which cannot be "
            "read: save it compressed (LZW or Deflate), or with the channels of each pixel together"
        )


def _holds_plain_bytes(tags: Mapping[int, Any]) -> bool:
    white_is_0 = tags.get(_COLOURS, _WHITE_IS_0) == _WHITE_IS_0
    return set(tags.get(_BITS, ())) == {8} and tags.get(_FILL_ORDER, 1) == 1 and not white_is_0


def _upper_bits(pixels: NDArray[np.uint16], tags: Mapping[int, Any]) -> NDArray[np.uint8]:
    """The upper 8 of 16, or of 12; Pillow leaves files in which white is 0 as negatives."""
    import numpy as np

    bits: int = tags.get(_BITS, (16,))[0]
    upper = (pixels >> (bits - 8)).astype(np.uint8)
    return 255 - upper if tags.get(_COLOURS) == _WHITE_IS_0 else upper
