"""How far colour alone gets: classes that differ in colour let a network be right for the wrong reason.

Two plain classifiers are fitted on train and scored on val. The one is told an image's mean in each channel,
the other which of 64 colours its pixels have; neither sees where in the image anything lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit import classifiers
from histoflow.data.audit.answer import Answer
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding, Severity
from histoflow.data.audit.sampling import some_of
from histoflow.data.audit.statistics import Codes, Estimate, accuracy, auc, balanced_accuracy, codes_of

MOST = 5_000
"""Images of train, and of val, that are looked at; more would not change a verdict."""
NOTED, WARNED = 0.2, 0.4
"""How much of the way from chance to perfection colour may get before it is told, and warned of."""
_FEWEST = 10

Floats = NDArray[np.float64]
Look = Callable[[Codes], Floats]
"""What a probe is told of the images at these places."""


def check(examined: Examined) -> Iterator[Answer]:
    train, val = some_of(examined, "train", MOST), some_of(examined, "val", MOST)
    if min(len(train), len(val)) < _FEWEST:
        yield _answer("ok", f"Train or val has fewer than {_FEWEST} images: too few to ask this of.", {})
        return
    probe = _of_many if examined.task == "multilabel" else _of_one
    probes = [{"by": what, **probe(examined, look, train, val)} for what, look in _looks(examined).items()]
    yield _told(probes, per_label=examined.task == "multilabel")


def _looks(examined: Examined) -> dict[str, Look]:
    means = examined.features["mean"]
    colour = means.shape[1] == 3
    return {
        "mean colour" if colour else "mean brightness": lambda places: means[places].astype(np.float64),
        "colour histogram" if colour else "brightness histogram": lambda places: np.sqrt(
            examined.closer(places)["histogram"].astype(np.float64)
        ),
    }


def _of_one(examined: Examined, look: Look, train: Codes, val: Codes) -> dict[str, Any]:
    """Accuracy with the classes as frequent as in train; balanced accuracy with all alike."""
    labels = examined.labels.astype(np.int64)
    model = classifiers.fit(look(train), labels[train], len(examined.classes))
    groups = codes_of(_at(examined.groups, val), len(val))
    right, fair = (
        model.scores(look(val), equal_priors=equal).argmax(axis=1) == labels[val] for equal in (False, True)
    )
    counts = np.bincount(labels[train], minlength=len(examined.classes))
    present = len(np.unique(labels[val]))
    return {
        "accuracy": accuracy(right, groups).to_data(),
        "majority": round(float((labels[val] == counts.argmax()).mean()), 4),
        "balanced_accuracy": balanced_accuracy(fair, labels[val], groups).to_data(),
        "chance": round(1 / max(present, 1), 4),
    }


def _of_many(examined: Examined, look: Look, train: Codes, val: Codes) -> dict[str, Any]:
    """The mean over labels of the chance that an image with the label scores above one without."""
    groups = codes_of(_at(examined.groups, val), len(val))
    found: list[Estimate] = []
    for label in range(len(examined.classes)):
        shown = examined.labels[:, label].astype(np.int64)
        if len(np.unique(shown[train])) == 2:
            scores = classifiers.fit(look(train), shown[train], 2).scores(look(val))
            area = auc(scores[:, 1] - scores[:, 0], shown[val] == 1, groups)
            found += [area] if area else []
    if not found:
        return {"auc": None, "chance": 0.5}
    return {"auc": _mean(found).to_data(), "chance": 0.5}


def _mean(found: list[Estimate]) -> Estimate:
    """A figure without an interval may be anything; so may the mean of such alone."""
    value = float(np.mean([area.value for area in found]))
    if all(area.low is None for area in found):
        return Estimate(value)
    low = np.mean([0.0 if area.low is None else area.low for area in found])
    high = np.mean([1.0 if area.high is None else area.high for area in found])
    return Estimate(value, float(low), float(high))


def _at(groups: Any, places: Codes) -> Any:
    return None if groups is None else np.asarray(groups)[places]


# ── In words ────────────────────────────────────────────────────────────────────────────────────


def _told(probes: list[dict[str, Any]], per_label: bool) -> Answer:
    figure = "auc" if per_label else "balanced_accuracy"
    asked = [probe for probe in probes if probe[figure]]
    if not asked:
        return _answer("ok", "No label is shown by some images of train and val and not by others.", {})
    severity = _severity(asked, figure)
    verdict = {
        "warning": "That tells much of the label: a network may rely on it, and fail on slides that are "
        "stained otherwise. Compare its figures with these, and try stain augmentation.",
        "note": "That tells some of the label: figures of a network should stand well above these.",
        "ok": "That tells little of the label.",
    }[severity]
    if asked[0][figure]["low"] is None:
        verdict = "Val, or each class in it, is of one group, so nothing can be said of chance."
    return _answer(severity, f"{_line(asked, figure)} {verdict}", {"probes": probes})


def _severity(probes: list[dict[str, Any]], figure: str) -> Severity:
    """By the low end of the interval; without one, a note at most."""
    known = probes[0][figure]["low"] is not None
    gain = max(_gain(probe[figure]["low" if known else "value"], probe["chance"]) for probe in probes)
    return "warning" if known and gain >= WARNED else "note" if gain >= NOTED else "ok"


def _gain(figure: float, chance: float) -> float:
    """The share of the way from chance to perfection."""
    return (figure - chance) / (1 - chance) if chance < 1 else 0.0


def _line(probes: list[dict[str, Any]], figure: str) -> str:
    what = "a mean AUC over the labels" if figure == "auc" else "a balanced accuracy"
    reached = " and ".join(f"{Estimate(**probe[figure])} by {probe['by']}" for probe in probes)
    line = f"Colour alone reaches {what} of {reached} on val, where chance is {probes[0]['chance']:.2f}."
    if figure == "auc":
        return line
    plain = " and ".join(f"{probe['accuracy']['value']:.2f}" for probe in probes)
    return (
        f"{line} Accuracy is {plain}, and {probes[0]['majority']:.2f} of always saying the commonest class."
    )


def _answer(severity: Severity, message: str, figures: dict[str, Any]) -> Answer:
    return Answer(
        Finding(
            check="colour_shortcut",
            message=message,
            severity=severity,
            setting="shortcuts",
            figures=figures,
        )
    )
