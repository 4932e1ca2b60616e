"""Figures that are one count over another, such as the share of images found, with what their intervals need.

They tell of what was decided already: of classes told, of prediction sets. So they hold their counts, and as
metrics they need no more of a resample than its weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from histoflow.components import Metric, Params, Score
from histoflow.evaluation.scores import Metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


_EXACT = 1 << 24
"""Up to here whole numbers are exact in float32."""


@dataclass(frozen=True, eq=False)
class Rate:
    """What each image adds to the counts; images × 1, or × (1 + classes) with the overall ones first."""

    parts: NDArray[Any]
    wholes: NDArray[Any]
    missing: str
    """Why there is no figure where the whole comes to 0."""

    def score(self) -> Score:
        every = np.ones((1, len(self.parts)), np.float32)
        value, *per_class = (None if np.isnan(one) else float(one) for one in self.resampled(every)[0])
        undefined = [str(index) for index, one in enumerate(per_class) if one is None]
        where = f"class {', '.join(undefined)}: " if undefined and value is not None else ""
        return Score(
            value=value,
            per_class=tuple(per_class) or None,
            undefined=f"{where}{self.missing}" if undefined or value is None else "",
        )

    def resampled(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        exact = self._exact_type(weights)
        drawn = weights.astype(exact, copy=False)
        parts, wholes = (
            np.asarray(drawn @ counts.astype(exact), np.float64) for counts in (self.parts, self.wholes)
        )
        return np.divide(parts, wholes, out=np.full_like(parts, np.nan), where=wholes > 0)

    def _exact_type(self, weights: NDArray[np.float32]) -> type[np.float32 | np.float64]:
        """In 32 bits the product takes half the time, and is exact up to a limit."""
        images = weights.sum(axis=1, dtype=np.float64).max(initial=0)
        largest = max(counts.max(initial=1) for counts in (self.parts, self.wholes))
        return np.float32 if images * largest < _EXACT else np.float64


def as_metrics(rates: Mapping[str, Rate]) -> Metrics:
    """As what ``with_intervals`` takes."""
    return {name: (_metric(name, rate), Params()) for name, rate in rates.items()}


def _metric(name: str, rate: Rate) -> Metric[Params]:
    return Metric(
        name=name,
        summary=name,
        params=Params,
        score=lambda *_: rate.score(),
        resampled=lambda _, __, ___, weights: rate.resampled(weights),
        tasks=frozenset(("binary", "multiclass", "multilabel")),
    )


def with_overall(columns: NDArray[Any]) -> NDArray[Any]:
    """Images × classes, with their sum in front."""
    return np.column_stack((columns.sum(axis=1), columns))
