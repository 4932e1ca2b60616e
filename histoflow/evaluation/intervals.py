"""Intervals around the figures of a split, by the percentile bootstrap.

A figure is computed of many resamples of the split; its 95% interval reaches from the 2.5th to the 97.5th
percentile of what comes out. ``resampling`` says what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from histoflow import progress
from histoflow.components import Interval, Metric, Params, Score
from histoflow.errors import HistoflowError, PluginError
from histoflow.evaluation.resampling import Units, of_units, units_of
from histoflow.evaluation.scores import Metrics, checked_split

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Figures = NDArray[np.float64]
    """Resamples × (1 + classes), the overall figure first; NaN where one is undefined."""
    Compute = Callable[[NDArray[np.float32]], Figures]

DRAWS = 2000
LEVEL = 0.95
FEWER_DRAWS = 200
"""Of a metric that can only be computed of one resample after the other."""

ROUGH_BELOW = 10
"""With fewer groups (or images) than this an interval is rough: the resamples are too much alike."""


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How the intervals came about, as metrics.json tells it."""

    method: Literal["percentile bootstrap"] = "percentile bootstrap"
    level: float = LEVEL
    draws: int = DRAWS
    by: Literal["group", "image"]
    units: int
    """How many groups, or images, were drawn from."""
    fewer_draws: Mapping[str, int]
    """The metrics that had fewer draws, and how many."""


def with_intervals(
    metrics: Metrics,
    scores: Mapping[str, Score],
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: NDArray[Any] | None,
    *,
    seed: int,
    draws: int = DRAWS,
) -> tuple[dict[str, Score], dict[str, Any]]:
    """The scores of this split with their intervals, and how these came about.

    ``groups`` holds the patient, slide or photo of each image, or is None where they are not known.
    """
    given, truth = checked_split(probabilities, labels)
    units = units_of(truth, groups)
    tries = {name: Resampled(name, *chosen, given, truth) for name, chosen in metrics.items()}
    if len(units) > 1:
        draw(tries, units, draws, seed)
    told = Bootstrap(
        draws=draws,
        by="group" if units.grouped else "image",
        units=len(units),
        fewer_draws={name: FEWER_DRAWS for name, one in tries.items() if one.wants(draws) < draws},
    )
    return {name: _completed(score, tries[name]) for name, score in scores.items()}, asdict(told)


def draw(tries: Mapping[Any, Resampled], units: Units, draws: int, seed: int) -> None:
    done = 0
    with progress.track("Intervals", total=draws, unit="resamples") as advance:
        for weights in of_units(units, draws, seed):
            for one in tries.values():
                one.take(weights[: max(0, one.wants(draws) - done)])
            done += len(weights)
            advance(len(weights))


class Resampled:
    """One metric's figures of the resamples so far."""

    def __init__(
        self,
        name: str,
        metric: Metric[Any],
        params: Params,
        probabilities: NDArray[np.float64],
        labels: NDArray[np.int64],
    ) -> None:
        self._name = name
        self._classes = probabilities.shape[1]
        self._at_once = metric.resampled is not None
        compute = metric.resampled or partial(_one_by_one, metric)
        self._compute: Compute = partial(compute, params, probabilities, labels)
        self._blocks: list[Figures] = []
        self.failure = ""

    def wants(self, draws: int) -> int:
        return draws if self._at_once else min(draws, FEWER_DRAWS)

    def take(self, weights: NDArray[np.float32]) -> None:
        """What fails here has already given the figures of the whole split, which must not be lost."""
        if self.failure or not len(weights):
            return
        try:
            self._blocks.append(self._checked(self._compute(weights), len(weights)))
        except HistoflowError:
            raise
        except Exception as error:
            self.failure = f"the metric failed on a resample with {type(error).__name__}: {error}"

    def _checked(self, answer: Any, resamples: int) -> Figures:
        figures = np.asarray(answer, np.float64)
        figures = figures[:, None] if figures.ndim == 1 else figures
        if figures.shape not in ((resamples, 1), (resamples, 1 + self._classes)) or np.isinf(figures).any():
            raise PluginError(
                f"The resampled of metric {self._name!r} must return an array of {resamples} figures, or "
                f"{resamples} × {1 + self._classes} with those of the classes, finite or NaN. "
                f"Got shape {np.shape(answer)}{', with infinite ones' if np.isinf(figures).any() else ''}."
            )
        return figures

    @property
    def figures(self) -> Figures | None:
        """None where nothing was drawn, or the metric failed."""
        return np.concatenate(self._blocks) if self._blocks and not self.failure else None


def _one_by_one(
    metric: Metric[Any],
    params: Params,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> Figures:
    """By the metric's ``score`` of each resample, its images as often as they were drawn."""
    scores = []
    for row in weights.astype(np.int64):
        drawn = np.repeat(np.arange(len(labels)), row)
        scores.append(metric.score(params, probabilities[drawn], labels[drawn]))
    per_class = all(score.per_class is not None for score in scores)
    rows = [(score.value, *((score.per_class or ()) if per_class else ())) for score in scores]
    figures = np.array([[np.nan if figure is None else figure for figure in row] for row in rows], np.float64)
    if np.isinf(figures).any():
        raise ValueError("its figures must be finite, or None")
    return figures


# ── From figures of resamples to intervals ──────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Found:
    """What the resamples say of one figure."""

    interval: Interval | None = None
    withheld: str = ""
    """Why there is none although the figure is defined."""
    undefined: int = 0
    """In how many resamples it is undefined."""


def _completed(score: Score, tried: Resampled) -> Score:
    figures = tried.figures
    if figures is None:
        return replace(score, interval_note=f"no interval: {tried.failure}" if tried.failure else "")
    overall = _found(score.value, figures[:, 0])
    per_class: tuple[_Found, ...] = ()
    if score.per_class is not None and figures.shape[1] > 1:
        pairs = zip(score.per_class, figures.T[1:], strict=True)
        per_class = tuple(_found(figure, column) for figure, column in pairs)
    return replace(
        score,
        interval=overall.interval,
        per_class_intervals=tuple(found.interval for found in per_class) or None,
        interval_note=_note({"overall": overall, **_named(per_class)}, len(figures)),
    )


def _found(figure: float | None, drawn: Figures) -> _Found:
    if figure is None:
        return _Found()
    known = drawn[~np.isnan(drawn)]
    undefined = len(drawn) - len(known)
    if 2 * len(known) < len(drawn):
        return _Found(None, "undefined in more than half of the resamples", undefined)
    if known.min() == known.max():
        return _Found(None, "the same in all resamples, which says nothing of chance", undefined)
    low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return _Found((float(low), float(high)), undefined=undefined)


def _named(per_class: tuple[_Found, ...]) -> dict[str, _Found]:
    return {f"class {index}": found for index, found in enumerate(per_class)}


def _note(found: Mapping[str, _Found], draws: int) -> str:
    """Figures without interval by reason, then how often the others are undefined."""
    reasons: dict[str, list[str]] = {}
    for name, one in found.items():
        if one.withheld:
            reasons.setdefault(one.withheld, []).append(name)
    parts = [f"no interval for {_listed(names)}: {reason}" for reason, names in reasons.items()]
    partly = [f"{name} in {one.undefined:,}" for name, one in found.items() if one.undefined and one.interval]
    if partly:
        parts.append(f"undefined in resamples, which its interval leaves out: {_listed(partly)} of {draws:,}")
    return "; ".join(parts)


def _listed(names: list[str]) -> str:
    """'overall, class 1 and class 3'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
