"""Who is champion: what follows from all changes, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from histoflow import files
from histoflow.errors import RunError

Stage = Literal["champion", "candidate", "held", "rejected", "archived"]
What = Literal["promote", "hold", "reject", "rollback"]

SCHEMA = 1
STATE = "state.json"
CHANGES = "changes"
VERSIONS = "versions"
RESULT: dict[What, Stage] = {
    "promote": "champion",
    "hold": "held",
    "reject": "rejected",
    "rollback": "champion",
}
"""What each makes of the version."""


class Change(BaseModel):
    """One change of a version's stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: Path = Field(exclude=True)
    """The model's folder."""
    number: int
    what: What
    version: int
    former: Stage
    """What the version was before."""
    replaced: int | None
    """The version that was champion until then, where there is another one now."""
    time: str
    why: str
    by: str

    @property
    def path(self) -> Path:
        """The written change record."""
        return self.line / CHANGES / f"{self.number:04d}-{self.what}.md"


@dataclass(frozen=True)
class State:
    """A model's state; versions that no change speaks of are candidates."""

    changes: tuple[Change, ...] = ()

    @property
    def champion(self) -> int | None:
        return self._reigns[-1] if self._reigns else None

    @property
    def stages(self) -> dict[int, Stage]:
        return self._replayed[1]

    def stage_of(self, version: int) -> Stage:
        return self.stages.get(version, "candidate")

    def before(self) -> int | None:
        """The champion that a rollback brings back: the last one before this one that is still archived.

        One that was rejected since, or waits for a person because of that, is not put in use unasked.
        """
        return next((one for one in reversed(self._reigns) if self.stage_of(one) == "archived"), None)

    def with_change(self, change: Change) -> State:
        return State((*self.changes, change))

    @property
    def _reigns(self) -> list[int]:
        return self._replayed[0]

    @cached_property
    def _replayed(self) -> tuple[list[int], dict[int, Stage]]:
        """The champions that led to this one, oldest first, and the stages."""
        reigns: list[int] = []
        stages: dict[int, Stage] = {}
        for change in self.changes:
            if change.replaced is not None:
                stages[change.replaced] = "archived"
            stages[change.version] = RESULT[change.what]
            if change.what == "promote":
                reigns.append(change.version)
            while change.what == "rollback" and reigns[-1] != change.version:
                reigns.pop()
        return reigns, stages


def read(line: Path) -> State:
    path = line / STATE
    if not path.is_file():
        _refuse_lost(path)
        return State()
    try:
        data = files.read_json(path)
        files.refuse_newer(path, data.get("schema_version"), SCHEMA, RunError)
        state = State(tuple(Change.model_validate({**one, "line": line}) for one in data["changes"]))
        told = _to_data(line, state)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise RunError(f"{path} is damaged: {error!r}. {_advice(path)}") from error
    if told != data:
        raise RunError(
            f"{path} was changed by hand: the champion and the stages in it do not follow from its changes. "
            f"'histoflow promote' and 'histoflow rollback' are the way to change it. {_advice(path)}"
        )
    return state


def _refuse_lost(path: Path) -> None:
    """Every version and every change came after a state."""
    line = path.parent
    if any((line / VERSIONS).glob("[0-9]*")) or any((line / CHANGES).glob("[0-9]*")):
        raise RunError(
            f"{path} is missing, so who is champion is not known; the records in {line / CHANGES} tell what "
            f"was decided. Put a copy of it back, or have it made anew from what they left: "
            f"histoflow models {line.name} --restore"
        )


def _advice(path: Path) -> str:
    return (
        f"Put a copy of it back, or move it away and have it made anew: "
        f"histoflow models {path.parent.name} --restore"
    )


def begin(line: Path) -> None:
    """Before its first version, so that a state that is missing later on is known to be lost."""
    if not (line / STATE).is_file():
        save(line, State())


def write(line: Path, state: State, text: str) -> None:
    """Make the last change of this state come true; the caller holds the lock."""
    change = state.changes[-1]
    _sweep(change)
    files.write_text(change.path, text)
    files.write_json(change.path.with_suffix(".json"), change.model_dump(mode="json"))
    save(line, state)


def save(line: Path, state: State) -> None:
    files.remove_unfinished(line / STATE)
    files.write_json(line / STATE, _to_data(line, state))


def _to_data(line: Path, state: State) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA,
        "name": line.name,
        "champion": state.champion,
        "stages": {str(version): stage for version, stage in sorted(state.stages.items())},
        "changes": [change.model_dump(mode="json") for change in state.changes],
    }


def _sweep(change: Change) -> None:
    """Clear away what a process left that was killed before its change came true."""
    for pattern in (f"{change.number:04d}-*", ".[0-9]*.md.*", ".[0-9]*.json.*"):
        for leftover in change.path.parent.glob(pattern):
            leftover.unlink()
