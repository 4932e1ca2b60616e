"""Carries out what was decided about a challenger, by the gate or by a person; each decision once.

The change record is written with the change, into the registry of models, and copied into the run's folder.
What the report and the model card say of the verdict is written anew where it is not what the gate said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from histoflow import files, home, models, progress, stages
from histoflow.errors import RunError
from histoflow.markdown import plain
from histoflow.retraining import change_record, settled_record, verdict_record
from histoflow.retraining.settled_record import Settled
from histoflow.runs import Run

if TYPE_CHECKING:
    from histoflow.models import Change, Version
    from histoflow.retraining.verdict_record import Judged

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
    _keep(run, judged, version, change)
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
    change = act(version.name, version.number, why=why, by=by, record=_record(judged, version))
    _keep(run, judged, version, change)
    return Decided(version, changed=True)


def tell_run(version: Version, change: Change) -> None:
    """Have the run that became this version tell a decision made elsewhere, if it is there and was judged."""
    run = Run(home.runs() / version.record.run)
    try:
        judged = verdict_record.read(run.folder)
    except RunError as error:
        _say_untold(run, error)
        return
    if judged is not None and judged.name == version.name:
        _keep(run, judged, version, change)


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
    change = last_change(version)
    if judged.same_as is None:
        _keep(run, judged, version, change)
        return
    head = f"# {version.reference}: nothing was changed"
    text = f"{head}\n\n{plain(judged.verdict.why)} Its last record:\n\n{_text_of(change)}"
    files.write_text(run.folder / FILE, text)


def _keep(run: Run, judged: Judged, version: Version, change: Change) -> None:
    """The record comes last: where it stands, all of it does."""
    if change.what != judged.verdict.decision or (run.folder / settled_record.FILE).exists():
        _tell_readers(run, version, change)
    files.write_text(run.folder / FILE, _text_of(change))


def _text_of(change: Change) -> str:
    return change.path.read_text(encoding="utf-8")


def _tell_readers(run: Run, version: Version, change: Change) -> None:
    """In the report and the model card, which never cost the decision."""
    what = "promote" if change.what == "rollback" else change.what
    told = change.model_dump(include={"by", "time", "why"})
    Settled(version=version.reference, what=what, **told).write(run.folder)
    try:
        stages.report(run)
    except Exception as error:  # reporters are plugins, and may raise anything
        _say_untold(run, error)


def _say_untold(run: Run, error: Exception) -> None:
    progress.say(f"The report of run {run.id} could not be written anew, and does not tell this: {error}")
