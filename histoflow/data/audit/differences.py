"""What tells two sets of images apart, feature by feature, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_TOLD = 0.3
"""A difference of so many standard deviations is worth a word."""
_MEAN_GRADIENT = 10  # its column in ``texture``
_WORDS = {
    "brightness": ("lighter", "darker"),
    "share of red": ("redder", "less red"),
    "share of blue": ("bluer", "less blue"),
    "contrast": ("richer in contrast", "poorer in contrast"),
    "sharpness": ("sharper", "more blurred"),
    "edges": ("fuller of edges", "poorer in edges"),
    "background": ("fuller of background", "with less background"),
}


@dataclass(frozen=True)
class Difference:
    """One feature in two sets of images."""

    what: str
    first: float
    second: float
    """Means."""
    by: float
    """In standard deviations, positive where the second set has more."""

    def __str__(self) -> str:
        more, less = _WORDS[self.what]
        return f"{more if self.by > 0 else less} ({self.what} {self.second:.2f} against {self.first:.2f})"

    def to_data(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "means": [round(self.first, 4), round(self.second, 4)],
            "by": round(self.by, 4),
        }


def differences(features: Mapping[str, NDArray[Any]], second: NDArray[np.bool_]) -> list[Difference]:
    """Those worth telling, the greatest first."""
    found = [_difference(what, values, second) for what, values in _plain(features).items()]
    return sorted((one for one in found if abs(one.by) >= _TOLD), key=lambda one: -abs(one.by))


def _difference(what: str, values: Floats, second: NDArray[np.bool_]) -> Difference:
    one, other = values[~second], values[second]
    spread = float(np.sqrt((one.var() + other.var()) / 2))
    apart = float(other.mean() - one.mean())
    return Difference(what, float(one.mean()), float(other.mean()), apart / spread if spread > 1e-9 else 0.0)


def _plain(features: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    """Features that a person can picture."""
    mean = np.asarray(features["mean"], np.float64) / 255
    plain = {
        "brightness": mean.mean(axis=1),
        "contrast": np.asarray(features["std"], np.float64).mean(axis=1) / 255,
        "sharpness": np.asarray(features["sharpness"], np.float64),
        "edges": np.asarray(features["texture"], np.float64)[:, _MEAN_GRADIENT],
        "background": np.asarray(features["background"], np.float64),
    }
    if mean.shape[1] == 3:
        total = np.maximum(mean.sum(axis=1), 1e-6)
        plain |= {"share of red": mean[:, 0] / total, "share of blue": mean[:, 2] / total}
    return plain
