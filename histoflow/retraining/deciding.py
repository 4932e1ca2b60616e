"""Carries out what was decided about a challenger, by the gate or by a person; each decision once.

The change record is written with the change, into the registry of models, and copied into the run's folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from histoflow import files, models
from histoflow.errors import RunError
from histoflow.markdown import plain
from histoflow.retraining import change_record

if TYPE_CHECKING:
    from histoflow.models import Change, Version
    from histoflow.retraining.verdict_record import Judged
    from histoflow.runs import Run

FILE = "CHANGE.md"


class Decided(NamedTuple):
    """The version of the model that the run became, and whether its stage was changed just now."""

    version: Version
    changed: bool


def carry_out(run: Run, judged: Judged, by: str) -> Decided:
    """Do as the gate said, unless that was done."""
    version = models.register(run, judged.name, warm_from=run.read().warm_from)
    if version.stage != "candidate":
        if not written(run):
            _write_again(run, judged, version)
        return Decided(version, changed=False)
    decision, why = judged.verdict.decision, judged.verdict.why
    record = _record(judged, version)
    if decision == "reject":
        change = models.reject(version.name, version.number, why=why, by=by, record=record)
    elif decision == "hold":
        change = models.hold(version.name, version.number, why=why, by=by, record=record)
    else:
        change = _promote(version, judged, by, record)
    _keep(run, change)
    return Decided(version, changed=True)


def _promote(version: Version, judged: Judged, by: str, record: str) -> Change:
    """It waits for a person where it was measured against another champion than there is now."""
    why = judged.verdict.why
    try:
        return models.promote(
            version.name, version.number, why=why, by=by, record=record, over=judged.champion or 0
        )
    except RunError as error:
        return models.hold(version.name, version.number, why=f"{why} {error}", by=by, record=record)


def settle(run: Run, judged: Judged, decision: Literal["promote", "reject"], why: str, by: str) -> Decided:
    """What a person decided about a version that was held, unless it was decided about in the meantime."""
    version = models.register(run, judged.name)
    if version.stage != "held":
        _write_again(run, judged, version)
        return Decided(version, changed=False)
    act = models.promote if decision == "promote" else models.reject
    _keep(run, act(version.name, version.number, why=why, by=by, record=_record(judged, version)))
    return Decided(version, changed=True)


def written(run: Run) -> str:
    """The change record; empty where nothing was decided yet."""
    path = run.folder / FILE
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _record(judged: Judged, version: Version) -> str:
    champion = None if judged.champion is None else models.find(f"{judged.name}@{judged.champion}")
    now = models.champion(judged.name)
    if now is None or now.number in (judged.champion, version.number):
        return change_record.sections(judged, version, champion)
    since = f"{now.reference} has become champion since; it took no part in the comparison."
    return f"{since}\n\n{change_record.sections(judged, version, champion)}"


def last_change(version: Version) -> Change:
    """What was last decided about a version that is no candidate."""
    changes = models.find_line(version.name).state.changes
    return next(change for change in reversed(changes) if change.version == version.number)


def _write_again(run: Run, judged: Judged, version: Version) -> None:
    """What the registry has written of the last decision: the run may have been killed before it had that."""
    text = last_change(version).path.read_text(encoding="utf-8")
    if judged.same_as is not None:
        head = f"# {version.reference}: nothing was changed"
        text = f"{head}\n\n{plain(judged.verdict.why)} Its last record:\n\n{text}"
    files.write_text(run.folder / FILE, text)


def _keep(run: Run, change: Change) -> None:
    files.write_text(run.folder / FILE, change.path.read_text(encoding="utf-8"))
