"""What a model says of the same images, worse and worse: kept in robustness.npz, and made into figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoflow import progress
from histoflow.components import Score
from histoflow.errors import DataError
from histoflow.evaluation import arrays
from histoflow.evaluation.comparison import Difference, compare
from histoflow.evaluation.intervals import DRAWS, LEVEL
from histoflow.evaluation.scores import Metrics, score_all

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "robustness.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class Degraded:
    """The probabilities of the same images, as they are and under each condition."""

    labels: NDArray[np.int64]
    places: NDArray[np.int64]
    """Of each image in the test split."""
    of: NDArray[np.int64]
    """How many images that split has: one number."""
    clean: NDArray[np.float64]
    """Images × classes."""
    changed: NDArray[np.float64]
    """Conditions × images × classes."""
    kinds: NDArray[np.str_]
    """Of each condition; and so are its grade and its strength in words."""
    grades: NDArray[np.str_]
    strengths: NDArray[np.str_]
    groups: NDArray[np.str_] | None = None
    model: str = ""
    """The hash of the weights."""


def save(folder: Path, degraded: Degraded) -> None:
    arrays.save(folder / FILE, degraded)


def load(folder: Path) -> Degraded:
    """Those of the run in this folder, or a DataError that says what is the matter with them."""
    path = folder / FILE
    try:
        return arrays.load(path, Degraded, _check)
    except FileNotFoundError:
        raise DataError(
            f"There is no {path}: the run was evaluated without evaluation.robustness. "
            f"Train one with evaluation.robustness=true."
        ) from None


def _check(found: Degraded) -> None:
    shape = (len(found.kinds), *found.clean.shape)
    if found.changed.shape != shape or len(found.labels) != len(found.clean):
        raise ValueError(
            f"it must hold {' × '.join(map(str, shape))} probabilities and a label for each image, and holds "
            f"{' × '.join(map(str, found.changed.shape))} and {len(found.labels)} labels"
        )


def from_file(folder: Path, metrics: Metrics, seed: int) -> dict[str, Any]:
    """The section of metrics.json, computed anew from what the run in this folder kept."""
    return section(load(folder), metrics, seed)


def section(degraded: Degraded, metrics: Metrics, seed: int) -> dict[str, Any]:
    """Every metric under every condition, how far the first one falls, and the worst case in words."""
    main = next(iter(metrics))
    found = _all_conditions(degraded, metrics, seed)
    higher = metrics[main][0].higher_is_better
    return {
        "images": len(degraded.labels),
        "of": int(degraded.of),
        "metric": main,
        "higher_is_better": higher,
        "level": LEVEL,
        "draws": DRAWS,
        "by": "image" if degraded.groups is None else "group",
        "clean": _scores(degraded.clean, degraded.labels, metrics),
        "conditions": found,
        "worst": worst_in_words(found, main, higher_is_better=higher),
    }


def _all_conditions(degraded: Degraded, metrics: Metrics, seed: int) -> list[dict[str, Any]]:
    """Shown as one piece of work, not as so many comparisons."""
    found, within = [], _Within(progress.current())
    number = len(degraded.kinds)
    with progress.track("Comparing with clean images", total=number, unit="conditions") as advance:
        for index in range(number):
            with progress.listening(within):
                found.append(_condition(degraded, index, metrics, seed))
            advance()
    return found


def _condition(degraded: Degraded, index: int, metrics: Metrics, seed: int) -> dict[str, Any]:
    changed = degraded.changed[index]
    return {
        "kind": str(degraded.kinds[index]),
        "grade": str(degraded.grades[index]),
        "strength": str(degraded.strengths[index]),
        **_scores(changed, degraded.labels, metrics),
        "difference": _plain(_difference(degraded, changed, metrics, seed)),
    }


def _scores(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], metrics: Metrics
) -> dict[str, Any]:
    scores: Mapping[str, Score] = score_all(metrics, probabilities, labels)
    return {
        "scores": {name: None if one.value is None else float(one.value) for name, one in scores.items()},
        "undefined": {name: one.undefined for name, one in scores.items() if one.value is None},
    }


def _difference(degraded: Degraded, changed: NDArray[np.float64], metrics: Metrics, seed: int) -> Difference:
    """Of the first metric, with its interval: both are scored on the same resamples."""
    main = next(iter(metrics))
    found = compare(
        degraded.clean,
        changed,
        degraded.labels,
        metrics={main: metrics[main]},
        main=main,
        groups=degraded.groups,
        seed=seed,
    )
    return found.metrics[main]


def _plain(found: Difference) -> dict[str, Any]:
    return {"value": found.difference, "low": found.low, "high": found.high, "note": found.note}


def worst_in_words(conditions: Sequence[Mapping[str, Any]], metric: str, *, higher_is_better: bool) -> str:
    """The condition under which the metric loses most."""
    name, sign = metric.replace("_", " "), 1 if higher_is_better else -1
    known = [one for one in conditions if one["difference"]["value"] is not None]
    if not known:
        return f"Under none of the conditions can {name} be compared with that of the clean images."
    worst = min(known, key=lambda one: sign * one["difference"]["value"])
    found = worst["difference"]
    if sign * found["value"] >= 0:
        return f"Under none of the conditions is {name} worse than on the clean images."
    ends = "" if found["low"] is None else f" ({signed(found['low'])} to {signed(found['high'])})"
    return (
        f"The worst is {worst['grade']} {worst['kind']} ({worst['strength']}): {name} "
        f"{worst['scores'][metric]:.3f}, which is {signed(found['value'])}{ends} against the clean images."
    )


def signed(value: float) -> str:
    """'−0.183'."""
    return f"{value:+.3f}".replace("-", "−")


def _nowhere(amount: int = 1) -> None:
    pass


class _Within:
    """Listens to work that is part of another, and shows nothing of it."""

    def __init__(self, listener: progress.Listener) -> None:
        self._listener = listener

    def track(self, title: str, total: int | None, unit: str) -> AbstractContextManager[progress.Advance]:
        progress.log.debug("%s: %s %s", title, total, unit)
        return nullcontext(_nowhere)

    def tell(self, figures: progress.Figures) -> None:
        self._listener.tell(figures)

    def say(self, message: str) -> None:
        self._listener.say(message)
