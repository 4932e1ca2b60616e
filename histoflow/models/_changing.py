"""Versions become champion, wait for a person, are turned down, or come back."""

from __future__ import annotations

from histoflow.errors import RunError, UserError
from histoflow.models import _finding, _state
from histoflow.models._locking import alone
from histoflow.models._state import RESULT, Change, Stage, State, What
from histoflow.models._versions import Version, expect_sizes, verify
from histoflow.models._writing import change_record
from histoflow.runs import now

_FROM: dict[What, tuple[Stage, ...]] = {
    "promote": ("candidate", "held", "archived"),
    "hold": ("candidate", "rejected"),
    "reject": ("candidate", "held", "archived"),
}


def promote(
    name: str,
    version: int,
    *,
    why: str,
    by: str,
    record: str = "",
    over: int | None = None,
    anyway: bool = False,
) -> Change:
    """Make a version the champion; the one that was is archived.

    ``over`` is the champion that it was found fit to replace, 0 for none: if there is another one by now,
    nothing is changed. ``record`` is Markdown for the change record. ``anyway`` takes one that was rejected,
    too. A version that is champion already stays so, and the change that made it champion is returned; the
    same holds for ``hold`` and ``reject``.
    """
    verify(_finding.find_line(name).version(version))
    return _change(name, "promote", version, why, by, record, over, anyway)


def hold(name: str, version: int, *, why: str, by: str, record: str = "") -> Change:
    """Have a candidate wait for a person, or one that was rejected be thought over."""
    return _change(name, "hold", version, why, by, record)


def reject(name: str, version: int, *, why: str, by: str, record: str = "") -> Change:
    """Turn a version down. It is not promoted after that, unless ``anyway``, nor rolled back to."""
    return _change(name, "reject", version, why, by, record)


def rollback(name: str, *, why: str, by: str) -> Change:
    """Make the champion before this one champion again; a second rollback goes one further back.

    Those that were rejected or are held are passed over.
    """
    return _change(name, "rollback", None, why, by, "")


def _change(
    name: str,
    what: What,
    number: int | None,
    why: str,
    by: str,
    record: str,
    over: int | None = None,
    anyway: bool = False,
) -> Change:
    found = _finding.find_line(name)
    with alone(found.folder, "changing"):
        state = found.state
        version = found.version(_before(name, state) if number is None else number)
        if state.stage_of(version.number) == RESULT[what]:
            return _that_made_it_so(state, version)
        _refuse(state, what, version, over, anyway)
        change = _change_of(state, what, version, why, by)
        after = state.with_change(change)
        _state.write(found.folder, after, change_record(change, version, _displaced(found, change), record))
    return change


def _change_of(state: State, what: What, version: Version, why: str, by: str) -> Change:
    return Change(
        line=version.line,
        number=len(state.changes) + 1,
        what=what,
        version=version.number,
        former=state.stage_of(version.number),
        replaced=state.champion if RESULT[what] == "champion" else None,
        time=now(),
        why=why,
        by=by,
    )


def _displaced(found: _finding.Line, change: Change) -> Version | None:
    """The champion until then; None where there was none, or its folder is gone."""
    return next((one for one in found.versions if one.number == change.replaced), None)


def _that_made_it_so(state: State, version: Version) -> Change:
    return next(change for change in reversed(state.changes) if change.version == version.number)


def _before(name: str, state: State) -> int:
    before = state.before()
    if before is None:
        told = "no champion" if state.champion is None else f"no champion before {name}@{state.champion}"
        raise UserError(
            f"Model '{name}' has {told} to go back to. "
            f"Promote another version: 'histoflow models {name}' lists them."
        )
    return before


def _refuse(state: State, what: What, version: Version, over: int | None, anyway: bool) -> None:
    stage, legal = state.stage_of(version.number), _FROM.get(what)
    if legal and stage not in legal and not (anyway and stage == "rejected"):
        raise UserError(
            f"To {what} a version it must be {' or '.join(legal)}. {version.reference} is {stage}. "
            f"{_advice(stage, version)}"
        )
    if over is not None and over != (state.champion or 0):
        raise RunError(
            f"The champion of '{version.name}' changed while {version.reference} was compared with "
            f"{f'version {over}' if over else 'none'}: it is version {state.champion} now. Compare them anew."
        )
    if what == "rollback":
        expect_sizes(version)


def _advice(stage: Stage, version: Version) -> str:
    if stage == "champion":
        return f"Another one must take its place first: histoflow rollback {version.name}"
    if stage == "rejected":
        return f"To promote it all the same: histoflow promote {version.reference} --anyway"
    return f"'histoflow models {version.name}' tells what happened to it."
