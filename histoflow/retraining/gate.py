"""The gate: whether a challenger may take the champion's place. It decides and does nothing else.

Both have predicted the same test images. A challenger passes where it is shown to be good enough, fails where
it is shown not to be, and where too few images show neither, a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from histoflow._problems import problems_of
from histoflow.errors import ExperimentError, Problem
from histoflow.evaluation import answers
from histoflow.evaluation.comparison import Difference, Differences, compare
from histoflow.evaluation.intervals import LEVEL
from histoflow.experiment import Settings
from histoflow.retraining.unseen import Bound, Unseen

if TYPE_CHECKING:
    from histoflow.evaluation.predictions import Predictions
    from histoflow.evaluation.scores import Metrics
    from histoflow.registry import Registry

Decision = Literal["promote", "hold", "reject"]
Outcome = Literal["passed", "unsure", "failed", "unknown"]

_SHARES_OF_IMAGES = ("accuracy",)
"""Metrics that cannot fall where each image that was told right still is."""


class Gate(Settings):
    """What a challenger must show to take the champion's place."""

    model_config = ConfigDict(allow_inf_nan=False)

    metric: str | None = None
    """The metric that decides; null takes the first of the experiment."""
    require: Literal["not_worse", "better"] = "not_worse"
    """not_worse: the interval of the difference lies above -margin. better: it lies above 0."""
    margin: float = Field(0.01, ge=0, le=1)
    """not_worse: by how much less the metric might be."""
    class_margin: float = Field(0.05, ge=0, le=1)
    """By how much less the recall of any class might be."""
    calibration_margin: float = Field(0.02, ge=0, le=1)
    """By how much the calibration error might grow."""
    slower: float = Field(1.5, ge=1)
    """How many times as long an image may take; where it takes longer, a person decides."""
    if_unsure: Literal["hold", "reject"] = "hold"
    """What becomes of a challenger of which too little is shown: it waits for a person, or is rejected."""


def parse_gate(data: Mapping[str, Any], source: str) -> Gate:
    """Validate plain data, or raise ExperimentError with every mistake in it."""
    try:
        return Gate.model_validate(data)
    except ValidationError as error:
        found = problems_of(error, data, lambda _: Gate.model_fields)
        problems = [Problem(f"gate.{problem.path}", problem.message) for problem in found]
        raise ExperimentError(problems, source) from None


@dataclass(frozen=True)
class Pace:
    """Milliseconds for each image, on one device."""

    champion: float
    challenger: float
    device: str


class Check(BaseModel):
    """One question, its answer and the figures that it rests on."""

    model_config = ConfigDict(frozen=True)

    name: str
    outcome: Outcome
    words: str
    champion: float | None = None
    challenger: float | None = None
    low: float | None = None
    """Of the interval of the difference, challenger minus champion."""
    high: float | None = None
    limit: float | None = None


class Verdict(BaseModel):
    """What the gate decides, and all it was decided by."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    why: str
    checks: tuple[Check, ...] = ()


def first_of_its_line() -> Verdict:
    """Where there is no champion, anything is better than nothing."""
    return Verdict(decision="promote", why="There was no champion to compare with.")


def first(said: Predictions, classes: Sequence[str], gate: Gate) -> Verdict:
    """As ``first_of_its_line``, unless there is a class of which the model has not told a single image."""
    shown = answers.shown(said.labels, len(classes))
    right = (shown & answers.told(said.probabilities, said.labels)).sum(axis=0)
    missed = [
        Check(name=f"recall of {name}", outcome="unsure", words=_never_told(name, int(images)))
        for name, images, told in zip(classes, shown.sum(axis=0), right, strict=True)
        if not told
    ]
    return _verdict(missed, gate) if missed else first_of_its_line()


def _never_told(name: str, images: int) -> str:
    if not images:
        return f"No test image shows {name}, so whether the model can tell it is not known."
    return f"The model tells {name} of none of the {images:,} test images that show it."


def the_same() -> Verdict:
    """Where training came to the champion's very weights."""
    return Verdict(decision="promote", why="It is the champion's model, bit for bit.")


def decided_before(reference: str, stage: str) -> Verdict:
    """Where training came to the very weights of a version that is no candidate any more."""
    decision: Decision = "promote" if stage == "champion" else "hold" if stage == "held" else "reject"
    why = f"It is {reference}, bit for bit, about which was decided before: that is {stage}. Nothing changes."
    return Verdict(decision=decision, why=why)


def incomparable(reason: str, gate: Gate) -> Verdict:
    """Where the champion cannot be measured on the challenger's test images."""
    check = Check(name="comparison", outcome="unsure", words=reason)
    return _verdict([check], gate)


def compared(
    champion: Predictions,
    challenger: Predictions,
    *,
    metrics: Metrics,
    main: str,
    registry: Registry | None = None,
) -> Differences:
    """As ``histoflow compare``: the champion is A and the challenger B."""
    return compare(
        champion.probabilities,
        challenger.probabilities,
        challenger.labels,
        metrics=metrics,
        main=main,
        groups=challenger.groups,
        registry=registry,
    )


def weigh(
    champion: Predictions,
    challenger: Predictions,
    differences: Differences,
    classes: Sequence[str],
    gate: Gate,
    pace: Pace | None,
) -> Verdict:
    """The verdict on the challenger, from predictions of the same images and what they differ in."""
    unseen = Unseen(champion, challenger)
    main = _main_check(differences.main, differences.metrics[differences.main], unseen, gate)
    of_classes = [
        _class_check(name, differences.recall[index], unseen.in_class(index), gate)
        for index, name in enumerate(classes)
    ]
    others = [_calibration_check(differences.calibration, gate), _pace_check(pace, gate)]
    if differences.verdict == "better" and main.outcome == "passed":
        of_classes = [_weighed_against(main, check) for check in of_classes]
    return _verdict([main, *of_classes, *others], gate)


def _weighed_against(main: Check, check: Check) -> Check:
    """Whether a gain on the whole is worth the loss of a class is for a person to say."""
    if check.outcome != "failed":
        return check
    words = f"{check.words} Yet on the whole it is shown to be better: a person must weigh the two."
    return check.model_copy(update={"outcome": "unsure", "words": words})


def _verdict(checks: Sequence[Check], gate: Gate) -> Verdict:
    failed = [check for check in checks if check.outcome == "failed"]
    unsure = [check for check in checks if check.outcome == "unsure"]
    decision: Decision = "reject" if failed else gate.if_unsure if unsure else "promote"
    asked = sum(check.outcome != "unknown" for check in checks)
    why = " ".join(check.words for check in failed or unsure) or f"All {asked} checks are passed."
    return Verdict(decision=decision, why=why, checks=tuple(checks))


# ── The checks ──────────────────────────────────────────────────────────────────────────────────


def _main_check(metric: str, found: Difference, unseen: Unseen, gate: Gate) -> Check:
    title = metric.replace("_", " ")
    bound = unseen.of_all() if metric in _SHARES_OF_IMAGES else None
    low, high, told = _with_bound(_gain(found), bound, title, found)
    limit = 0.0 if gate.require == "better" else -gate.margin
    outcome: Outcome
    if low is None or high is None:
        outcome, words = "unsure", f"Of {title} no difference can be shown or ruled out ({told})."
    elif high < 0:
        outcome, words = "failed", f"The challenger is worse: {told}."
    elif low > limit:
        shown = "better" if low > 0 else f"not worse by more than {gate.margin:g}"
        outcome, words = "passed", f"The challenger is {shown}: {told}."
    else:
        doubt = "is not shown to be better" if limit == 0 else f"might be worse by more than {gate.margin:g}"
        outcome, words = "unsure", f"The challenger {doubt}: {told}."
    return _check(title, outcome, words, found, limit)


def _class_check(name: str, found: Difference, bound: Bound | None, gate: Gate) -> Check:
    title, limit = f"recall of {name}", -gate.class_margin
    low, high, told = _with_bound((found.low, found.high), bound, title, found)
    outcome: Outcome
    if low is None or high is None or found.difference is None:
        outcome, words = "unsure", f"Of the {title} a loss cannot be ruled out ({told})."
    elif low > limit:
        outcome, words = "passed", f"No loss of {gate.class_margin:g} or more in {title}: {told}."
    elif high < 0 and found.difference < limit:
        outcome, words = "failed", f"The challenger loses more than {gate.class_margin:g} in {title}: {told}."
    else:
        lost = f"A loss of {gate.class_margin:g} or more in {title} cannot be ruled out"
        outcome, words = "unsure", f"{lost}: {told}."
    return _check(title, outcome, words, found, limit)


def _calibration_check(found: Mapping[str, Difference], gate: Gate) -> Check:
    error = found["ece"]
    title, limit = "calibration error", gate.calibration_margin
    told = _told(title, error)
    outcome: Outcome
    if error.difference is None:
        outcome, words = "unsure", f"The {title} is undefined ({told})."
    elif error.difference == 0 and error.low is None:  # the very same probabilities
        outcome, words = "passed", f"The {title} is the same of both: {told}."
    elif error.low is None or error.high is None:
        outcome, words = "unsure", f"Of the {title} no growth can be shown or ruled out ({told})."
    elif error.high <= limit:
        outcome, words = "passed", f"The {title} grows by no more than {limit:g}: {told}."
    elif error.low > 0 and error.difference > limit:
        outcome, words = "failed", f"The {title} grows by more than {limit:g}: {told}."
    else:
        outcome, words = "unsure", f"The {title} might grow by more than {limit:g}: {told}."
    return _check(title, outcome, words, error, limit)


def _pace_check(pace: Pace | None, gate: Gate) -> Check:
    if pace is None:
        return Check(name="speed", outcome="unknown", words="Both were not timed on the same device.")
    ratio = pace.challenger / pace.champion
    told = f"{pace.challenger:.3g} ms an image against {pace.champion:.3g} on {pace.device}"
    within = ratio <= gate.slower
    reach = "within" if within else "beyond"
    return Check(
        name="speed",
        outcome="passed" if within else "unsure",
        words=f"It takes {ratio:.2f} times as long, {reach} {gate.slower:g}: {told}.",
        champion=pace.champion,
        challenger=pace.challenger,
        limit=gate.slower,
    )


def _check(name: str, outcome: Outcome, words: str, found: Difference, limit: float) -> Check:
    return Check(
        name=name,
        outcome=outcome,
        words=words,
        champion=found.a,
        challenger=found.b,
        low=found.low,
        high=found.high,
        limit=limit,
    )


def _gain(found: Difference) -> tuple[float | None, float | None]:
    """The interval of how much better the challenger is, whichever way is better."""
    if found.low is None or found.high is None:
        return None, None
    return (found.low, found.high) if found.higher_is_better else (-found.high, -found.low)


def _told(title: str, found: Difference) -> str:
    if found.a is None or found.b is None:
        return found.note or f"{title} is undefined"
    figures = f"{title} {found.a:.4f} of the champion, {found.b:.4f} of the challenger"
    if found.low is None or found.high is None:
        return f"{figures}; {found.note}"
    return f"{figures}, difference {found.low:+.4f} to {found.high:+.4f} at {100 * LEVEL:g} %"


def _with_bound(
    interval: tuple[float | None, float | None], bound: Bound | None, title: str, found: Difference
) -> tuple[float | None, float | None, str]:
    """The more cautious of the interval and the bound, and the figures in words."""
    (low, high), told = interval, _told(title, found)
    if bound is None:
        return low, high, told
    hidden = f"among which chance might hide a loss of {bound.loss:.4f}"
    if low is None or high is None:
        if not bound.unchanged:
            return low, high, told
        return (
            -bound.loss,
            bound.loss,
            f"{title} {found.a:.4f} of both, right on the very same images, {hidden}",
        )
    if -bound.loss >= low:
        return low, high, told
    return -bound.loss, high, f"{told}; no image was lost, {hidden}"
