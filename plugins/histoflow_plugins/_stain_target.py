"""An image as the reference of a normalisation: measured once, when the experiment is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoflow import HistoflowError

if TYPE_CHECKING:
    from torch import Tensor


def with_target(given: Any, fields: tuple[str, ...], measure: Callable[[Path], tuple[Any, ...]]) -> Any:
    """The parameters with what is found in the image ``target``, so that they mean the same for ever.

    Where the fields are given, the image was measured before, and may have gone since.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("target"), str | Path):
        return given
    there = [field for field in fields if field in given]
    if len(there) == len(fields):
        return given
    if there:
        raise ValueError(
            f"target must stand alone or with all of {', '.join(fields)}. Got {', '.join(there)} beside it"
        )
    return {**given, **dict(zip(fields, measure(Path(given["target"]).expanduser()), strict=True))}


def _pixels_of(target: Path) -> Tensor:
    from histoflow.images import read_rgb
    from histoflow_plugins._stain_step import floats_of

    try:
        return floats_of(read_rgb(target)).double()
    except HistoflowError as error:
        raise ValueError(f"target must be an image of stained tissue. Got {target}: {error}") from error


def stains_in(target: Path) -> tuple[Any, ...]:
    from histoflow_plugins._stain_macenko import stains_of

    found = stains_of(_pixels_of(target), alpha=1.0, beta=0.15)
    if found is None:
        raise ValueError(
            f"target must be an image of tissue with two stains. None can be told apart in {target}"
        )
    return found.haematoxylin, found.eosin, found.maxima


def style_in_file(target: Path) -> tuple[Any, ...]:
    from histoflow_plugins._stain_style import style_in

    means, stds = style_in(_pixels_of(target))
    if not all(std > 0 for std in stds):
        raise ValueError(f"target must be an image of stained tissue. {target} has one colour")
    return means, stds
