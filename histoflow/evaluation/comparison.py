"""Two models on the same images: how far their figures lie apart, and whether by more than chance.

Both are scored on the same resamples, so that what makes an image hard for both cancels out. The verdict
is on the main metric: B is better, or worse, where the interval of the difference leaves out 0. At 95 %,
chance calls a model better that is only as good as the other in 2.5 of 100 comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from histoflow.components import Interval, Metric, Params
from histoflow.evaluation import always, answers, paired
from histoflow.evaluation.intervals import DRAWS, LEVEL, Resampled, draw
from histoflow.evaluation.mcnemar import McNemar, mcnemar
from histoflow.evaluation.resampling import Units, units_of
from histoflow.evaluation.scores import Metrics, checked_split, score_all

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from histoflow.registry import Registry

Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A figure of both models, and B's minus A's with its interval."""

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    higher_is_better: bool
    note: str = ""
    """Why any of them is None."""

    @property
    def verdict(self) -> Verdict:
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "no difference shown"
        return "better" if (self.low > 0) == self.higher_is_better else "worse"


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What the predictions of two models tell of them."""

    images: int
    groups: int | None
    """Patients or slides, which are drawn whole; None where images are drawn."""
    level: float
    """Of the intervals."""
    draws: int
    seed: int
    main: str
    """The metric that the verdict is on."""
    metrics: Mapping[str, Difference]
    calibration: Mapping[str, Difference]
    """How far the probabilities can be believed, beside the metrics that were asked for."""
    recall: tuple[Difference, ...]
    """Of each class."""
    mcnemar: McNemar
    """Where images have several labels, a model is right on an image if it is right in all of them."""

    @property
    def verdict(self) -> Verdict:
        return self.metrics[self.main].verdict


def compare(
    a: ArrayLike,
    b: ArrayLike,
    labels: ArrayLike,
    *,
    metrics: Metrics,
    main: str,
    groups: NDArray[Any] | None = None,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
    registry: Registry | None = None,
) -> Differences:
    """Compare the probabilities of two models (images × classes) of the same images, in the same order.

    ``main`` names the metric that the verdict is on. ``groups`` says of which patient or slide each image is.
    What is compared beside ``metrics`` comes from ``registry``, or else from the plugins installed; one that
    ``metrics`` names is computed as it stands there.
    """
    (given_a, truth), (given_b, _) = checked_split(a, labels), checked_split(b, labels)
    units, models = units_of(truth, groups), (given_a, given_b)
    beside = always.chosen(always.OF_PROBABILITIES, registry)
    pairs, of_classes = _pairs(metrics, beside, models, truth, units, registry)
    _draw_all([*pairs.values(), of_classes], units, draws, seed)
    return Differences(
        images=len(truth),
        groups=len(units) if units.grouped else None,
        level=level,
        draws=draws,
        seed=seed,
        main=main,
        metrics={name: pairs[name].difference(0, units, level) for name in metrics},
        calibration={name: pairs[name].difference(0, units, level) for name in beside},
        recall=tuple(of_classes.difference(1 + index, units, level) for index in range(given_a.shape[1])),
        mcnemar=mcnemar(_right(given_a, truth), _right(given_b, truth)),
    )


def _pairs(
    metrics: Metrics,
    beside: Metrics,
    models: tuple[NDArray[np.float64], NDArray[np.float64]],
    labels: NDArray[np.int64],
    units: Units,
    registry: Registry | None,
) -> tuple[dict[str, _Pair], _Pair]:
    """Every metric by its name, and the recall of the classes."""
    shown = answers.shown(labels, models[0].shape[1])
    supports = (paired.of_all(units), *paired.of_classes(units, shown))
    (recall,) = always.chosen(always.OF_CLASSES, registry).values()
    pairs = {
        name: _Pair(name, *chosen, models, labels, supports, even=name in beside)
        for name, chosen in {**beside, **metrics}.items()
    }
    return pairs, _Pair("recall", *recall, models, labels, supports, even=False)


def _draw_all(pairs: Sequence[_Pair], units: Units, draws: int, seed: int) -> None:
    """All on the same resamples; none where the units are too few for an interval."""
    if len(units) < paired.FEWEST_UNITS:
        return
    tries = {(at, side): tried for at, pair in enumerate(pairs) for side, tried in enumerate(pair.tries)}
    draw(tries, units, draws, seed)


class _Pair:
    """One metric of both models."""

    def __init__(
        self,
        name: str,
        metric: Metric[Any],
        params: Params,
        models: tuple[NDArray[np.float64], NDArray[np.float64]],
        labels: NDArray[np.int64],
        supports: tuple[paired.Support, ...],
        *,
        even: bool,
    ) -> None:
        """``supports`` are those of a figure of all images, and of one of each class.

        ``even`` says that all images count in the figure, which is found out where it is not known.
        """
        self._higher_is_better = metric.higher_is_better
        self._scores = [score_all({name: (metric, params)}, given, labels)[name] for given in models]
        self.tries = [Resampled(name, metric, params, given, labels) for given in models]
        parts = _parts(answers.shown(labels, models[0].shape[1]))
        asked = [Resampled(name, metric, params, given, labels) for given in models]
        even = even or all(_is_a_mean_over_images(one, parts) for one in asked)
        self._supports = (supports[0] if even else _rarest(supports), *supports[1:])

    def difference(self, place: int, units: Units, level: float) -> Difference:
        """Of the overall figure at place 0, of the first class at place 1, and so on."""
        a, b = ((score.value, *(score.per_class or ()))[place] for score in self._scores)
        found, note = self._interval(place, units, level)
        if a is None or b is None:
            found, note = None, "; ".join(dict.fromkeys(score.undefined for score in self._scores))
        return Difference(
            a=a,
            b=b,
            difference=None if a is None or b is None else b - a,
            low=found and found[0],
            high=found and found[1],
            higher_is_better=self._higher_is_better,
            note=note,
        )

    def _interval(self, place: int, units: Units, level: float) -> tuple[Interval | None, str]:
        """Or why there is none."""
        support = self._supports[place]
        if support.units < paired.FEWEST_UNITS:
            few = f"{support.units} {support.what} are too few"
            return None, f"no interval: {few}, it takes {paired.FEWEST_UNITS}"
        drawn_a, drawn_b = (tried.figures for tried in self.tries)
        if drawn_a is None or drawn_b is None:
            return None, f"no interval: {' '.join(tried.failure for tried in self.tries).strip()}"
        tail = paired.tail_of(units, level, support)
        if tail * len(drawn_a) < 1:  # the ends would lie beyond all that was drawn
            return None, f"no interval: {len(drawn_a)} resamples are too few, it takes {ceil(1 / tail):,}"
        found, reason = paired.interval(drawn_b[:, place] - drawn_a[:, place], tail)
        return found, f"no interval: {reason}" if reason else ""


def _parts(shown: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Parts × images: all images, then those that show a class and those that do not, class by class."""
    split = [column for column in shown.T if column.any() and not column.all()]
    return np.stack([np.ones(len(shown), bool), *(part for one in split for part in (one, ~one))]).astype(
        np.float32
    )


def _is_a_mean_over_images(tried: Resampled, parts: NDArray[np.float32]) -> bool:
    """Whether the figure of all images is that of two parts, each weighted by its images.

    It is for accuracy, whose images all count the same, and not where few images of a rare class count much.
    """
    tried.take(parts)
    if tried.figures is None:
        return False
    sizes, (whole, *figures) = parts[1:].sum(axis=1), tried.figures[:, 0]
    together = (sizes * figures).reshape(-1, 2).sum(axis=1) / len(parts[0])
    return bool(np.allclose(together, whole, rtol=0, atol=1e-6))  # NaN, where a part has no figure, is unlike


def _rarest(supports: tuple[paired.Support, ...]) -> paired.Support:
    """Of a figure that averages over classes or ranks them: that of the class with the fewest."""
    told_apart = (one for one in supports if one.units)
    return min(told_apart, key=lambda one: (one.units, one.what))  # in a tie, "that show" before "without"


def _right(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    alike = answers.told(probabilities, labels) == answers.shown(labels, probabilities.shape[1])
    right: NDArray[np.bool_] = alike.all(axis=1)
    return right
