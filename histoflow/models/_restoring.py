"""A state that was lost is put together again from what each change left beside its record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from histoflow import files
from histoflow.errors import RunError, UserError
from histoflow.models import _finding, _state
from histoflow.models._locking import alone
from histoflow.models._state import Change, State


def restore(name: str) -> State:
    """Write state.json anew where it is missing.

    A change whose process was killed just before it came true may be among those that are found: it comes
    true now.
    """
    line = _finding.find_line(name).folder
    with alone(line, "changing"):
        if (line / _state.STATE).exists():
            raise UserError(
                f"{line / _state.STATE} is there, so nothing is to be restored. "
                f"If it is damaged, move it away, and restore it then."
            )
        state = State(tuple(_kept_changes(line)))
        _state.save(line, state)
        return _state.read(line)


def _kept_changes(line: Path) -> Iterator[Change]:
    """All of them, the first one first."""
    found = {int(path.name[:4]): path for path in (line / _state.CHANGES).glob("[0-9]*.json")}
    for number in range(1, max(found, default=0) + 1):
        path = found.get(number, line / _state.CHANGES / f"{number:04d}-*.json")
        try:
            yield Change.model_validate({**files.read_json(path), "line": line})
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{path} is missing or damaged, so who is champion cannot be told from the changes: {error} "
                f"Put a copy of it back, or of {_state.STATE}."
            ) from error
