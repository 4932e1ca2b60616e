"""Models and versions by their names."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from histoflow import home
from histoflow.errors import DataError, UserError
from histoflow.models import _state
from histoflow.models._state import VERSIONS, State
from histoflow.models._versions import Version, versions_in


@dataclass(frozen=True)
class Line:
    """A model by its folder: all its versions, one of which is champion or none."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def versions(self) -> list[Version]:
        return versions_in(self.folder)

    @property
    def champion(self) -> Version | None:
        number = self.state.champion
        return None if number is None else self.version(number)

    @property
    def state(self) -> State:
        return _state.read(self.folder)

    def version(self, number: int) -> Version:
        for version in self.versions:
            if version.number == number:
                return version
        self._refuse_gone(number)
        raise UserError(
            f"The version of model '{self.name}' must be one of {self._told()}. Got {number}. "
            f"'histoflow models {self.name}' tells more."
        )

    def _refuse_gone(self, number: int) -> None:
        stage = self.state.stages.get(number)
        if stage is not None:
            raise DataError(
                f"{self.name}@{number} is {stage}, but its folder is no longer in {self.folder / VERSIONS}. "
                f"Put it back, or use another version; 'histoflow models {self.name}' lists them, and "
                f"'histoflow rollback {self.name}' brings the champion before the last one back."
            )

    def _told(self) -> str:
        state = self.state
        return ", ".join(f"{one.number} ({state.stage_of(one.number)})" for one in self.versions)


def listing() -> list[Line]:
    """All models that have a version, by name."""
    return [Line(folder) for folder in sorted(home.models(reading=True).iterdir()) if versions_in(folder)]


def find_line(name: str) -> Line:
    """The model of this name; a UserError tells which there are."""
    known = {one.name: one for one in listing()}
    if name not in known:
        raise UserError(_unknown(name, list(known)))
    return known[name]


def _unknown(name: str, known: list[str]) -> str:
    if not known:
        return f"There is no model '{name}', nor any other yet. Register one: histoflow promote RUN"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"The model must be one of {', '.join(known)}. Got '{name}'.{hint}"


def champion(name: str) -> Version | None:
    """The champion of this model; None where it has none, or there is no such model yet."""
    folder = home.models(reading=True) / name
    return Line(folder).champion if versions_in(folder) else None


def find(reference: str) -> Version:
    """``colon`` or ``colon@champion`` is the champion of colon, ``colon@3`` its version 3."""
    name, _, which = reference.partition("@")
    found = find_line(name)
    if which not in ("", "champion"):
        return _numbered(found, which, reference)
    best = found.champion
    if best is None:
        raise UserError(
            f"Model '{name}' has no champion yet. Its versions are {found._told()}. Name one, such as "
            f"{found.versions[-1].reference}, or make it the champion: "
            f"histoflow promote {found.versions[-1].reference}"
        )
    return best


def _numbered(found: Line, which: str, reference: str) -> Version:
    if not which.isdecimal():
        raise UserError(
            f"A model is named as {found.name}, {found.name}@champion or {found.name}@3. Got '{reference}'."
        )
    return found.version(int(which))
