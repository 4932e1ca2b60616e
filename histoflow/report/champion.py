"""Against the champion: what the gate of a retraining decided of this run, and by which figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from histoflow.evaluation.intervals import LEVEL
from histoflow.report import wording
from histoflow.retraining.gate import Check, Verdict
from histoflow.retraining.settled_record import Settled
from histoflow.retraining.verdict_record import Judged

_SPEED = "speed"
"""The check that has milliseconds for figures, and no interval."""
_DECISIONS = {"promote": "promote", "hold": "hold for a person", "reject": "reject"}
_BECAME = {"promote": "promoted", "hold": "held", "reject": "rejected"}


@dataclass(frozen=True)
class Row:
    name: str
    outcome: str
    champion: str
    challenger: str
    difference: str
    interval: str


def verdict_content(judged: Judged | None) -> dict[str, Any] | None:
    """The decision and its main reason, for the first screen."""
    if judged is None:
        return None
    verdict = judged.verdict
    reasons = _reasons(verdict)
    return {
        "against": "" if judged.champion is None else f"{judged.name}@{judged.champion}",
        "decision": _DECISIONS[verdict.decision],
        "kind": verdict.decision,
        "why": reasons[0] if reasons else verdict.why,
        "further": max(len(reasons) - 1, 0),
        "checks": bool(verdict.checks),
    }


def settled_content(settled: Settled | None) -> dict[str, str] | None:
    """What was decided after the gate, or otherwise than it said."""
    if settled is None:
        return None
    return {
        "version": settled.version,
        "kind": settled.what,
        "became": _BECAME[settled.what],
        "by": settled.by,
        "time": wording.moment(settled.time),
        "why": settled.why,
    }


def champion_content(judged: Judged | None) -> dict[str, Any] | None:
    """Every check with its figures; None where nothing was asked."""
    if judged is None or not judged.verdict.checks:
        return None
    if judged.champion is None:
        return _content_of_first(judged)
    return {
        "title": "Against the champion",
        "compared": _compared(judged),
        "asked": _asked(judged),
        "decision": _DECISIONS[judged.verdict.decision],
        "caption": f"What the gate asked. A difference is this run's figure less the champion's, with its "
        f"{LEVEL:.0%} interval.",
        "rows": [_row(check) for check in judged.verdict.checks],
        "notes": [*_further_words(judged.verdict.checks), *judged.notes],
    }


def _content_of_first(judged: Judged) -> dict[str, Any]:
    """There is no champion to compare it with."""
    return {
        "title": "The first of its name",
        "compared": f"There is no champion of {judged.name} yet, so this run was compared with none.",
        "asked": "It takes the place where it has told at least one test image of each class.",
        "decision": _DECISIONS[judged.verdict.decision],
        "caption": "Classes of which it has told none.",
        "rows": [_row(check) for check in judged.verdict.checks],
        "notes": [check.words for check in judged.verdict.checks],
    }


def _reasons(verdict: Verdict) -> Sequence[str]:
    """The words of the checks that decided; of the main metric's, where all were passed."""
    for outcome in ("failed", "unsure"):
        told = [check.words for check in verdict.checks if check.outcome == outcome]
        if told:
            return told
    return [check.words for check in verdict.checks[:1]]


def _compared(judged: Judged) -> str:
    if judged.images is None:
        return f"This run and the champion {f'{judged.name}@{judged.champion}'} could not be compared."
    images = wording.count(judged.images, "test image", "test images")
    of = f" of {wording.count(judged.groups, 'group', 'groups')}" if judged.groups else ""
    return f"This run and the champion {f'{judged.name}@{judged.champion}'} predicted the same {images}{of}."


def _asked(judged: Judged) -> str:
    """The limits, in the words of one sentence."""
    gate, metric = judged.gate, (judged.metric or "the main metric").replace("_", " ")
    main = (
        f"{metric} is shown to be better"
        if gate.require == "better"
        else f"{metric} is shown not to be worse by more than {gate.margin:g}"
    )
    return (
        f"It takes the champion's place where {main}, no class loses {gate.class_margin:g} or more in "
        f"recall, the calibration error grows by no more than {gate.calibration_margin:g}, and an image "
        f"takes at most {gate.slower:g} times as long."
    )


def _row(check: Check) -> Row:
    told = _pace if check.name == _SPEED else wording.figure
    return Row(
        name=check.name,
        outcome=check.outcome,
        champion=told(check.champion),
        challenger=told(check.challenger),
        difference=_difference(check),
        interval=_interval(check),
    )


def _pace(milliseconds: float | None) -> str:
    return wording.NONE if milliseconds is None else f"{milliseconds:.3g} ms"


def _difference(check: Check) -> str:
    if check.champion is None or check.challenger is None or check.name == _SPEED:
        return wording.NONE
    return f"{check.challenger - check.champion:+.3f}"


def _interval(check: Check) -> str:
    if check.low is None or check.high is None:
        return ""
    return f"{check.low:+.3f} to {check.high:+.3f}"


def _further_words(checks: Sequence[Check]) -> Iterator[str]:
    """Of checks whose outcome does not follow from their figures and an interval."""
    for check in checks:
        within_pace = check.name == _SPEED and check.outcome == "passed"
        if check.low is None and not within_pace:
            yield check.words
