"""Validation under shifted stains, so that the epoch picked is not one that suits a single laboratory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from histoflow.errors import DivergedError
from histoflow.robustness.perturbations import STAIN, stained

Figures = Mapping[str, float | None]
Change = Callable[[Tensor], Tensor]


def bluer(images: Tensor) -> Tensor:
    return stained(images, images.new_full((len(images),), STAIN["medium"]))


def pinker(images: Tensor) -> Tensor:
    return stained(images, images.new_full((len(images),), -STAIN["medium"]))


WAYS: tuple[Change, ...] = (bluer, pinker)


def each_way(look: Callable[[Change], Figures | None]) -> list[Figures] | None:
    """What ``look`` finds under each shift; None once it was asked to end."""
    found = []
    for change in WAYS:
        figures = look(change)
        if figures is None:
            return None
        found.append(figures)
    return found


def is_sound(figures: Figures) -> bool:
    """Whether training has not diverged."""
    loss = figures["val_loss"]
    return loss is None or math.isfinite(loss)


def together(
    clean: Figures, shifted: Sequence[Figures], monitor: str, higher_is_better: Callable[[str], bool]
) -> dict[str, float | None]:
    """The clean figures; each one's worse under the shifts; and of the monitored one the worst of all.

    A figure that is undefined in one place is undefined here: an epoch that tells no image of a class under
    another stain is not to be picked for it.
    """
    _refuse_divergence(shifted)
    worse = {name: _worst([one[name] for one in shifted], higher_is_better(name)) for name in clean}
    return {
        **clean,
        **{f"val_shifted_{name.removeprefix('val_')}": value for name, value in worse.items()},
        f"worst_{monitor}": _worst([clean[monitor], worse[monitor]], higher_is_better(monitor)),
    }


def _worst(values: Sequence[float | None], higher_is_better: bool) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return min(known) if higher_is_better else max(known)


def _refuse_divergence(shifted: Sequence[Figures]) -> None:
    for figures in shifted:
        if not is_sound(figures):
            raise DivergedError(
                f"Training diverged: with shifted stains the val_loss is {figures['val_loss']}. The last "
                f"checkpoint is of before, and stays. Lower optimizer.lr, or set "
                f"training.shifted_validation=false, and train again."
            )
