"""What the folders of runs and of studies have in common: ids, being found by a part of one, a holder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from histoflow import files
from histoflow.claims import Claim, ClaimedError
from histoflow.errors import RunError, UserError

Record = TypeVar("Record", bound=BaseModel)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def refuse_bad_id(kind: str, name: str, longest: int = 120) -> None:
    if not _ID.fullmatch(name) or len(name) > longest:
        raise RunError(
            f"The id of a {kind} must be at most {longest} letters, digits, '.', '_' and '-', a letter or "
            f"digit first. Got '{name}'."
        )


def read_record(path: Path, kind: type[Record], schema: int) -> Record:
    """What a folder's JSON file says of it; ``schema`` is the newest that is understood."""
    try:
        data = files.read_json(path)
        files.refuse_newer(path, data.get("schema_version"), schema, RunError)
        return kind.model_validate(data)
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{path} is missing or damaged: {error}") from error


def refuse_other_data(whose: str, begun_with: str | None, fingerprint: str) -> None:
    """What goes on another day goes on with the same data."""
    if begun_with not in (None, fingerprint):
        raise RunError(
            f"The data of {whose} have changed since it began: their fingerprint was "
            f"{str(begun_with)[:16]} and is {fingerprint[:16]} now. "
            f"Put the data back as they were, or start a new one."
        )


def refuse_elsewhere(folder: Path, place: Path) -> None:
    """Work goes on in the home, from where it is found again; ``place`` is the folder in it."""
    if folder.parent != place:
        raise UserError(
            f"Only a run in the home {place} can go on. Got {folder}. "
            f"Set HISTOFLOW_HOME to the home that holds it."
        )


@contextmanager
def held(claim: Claim, whose: str) -> Iterator[None]:
    """Hold the claim for this process, which may do so in several places, or tell that another one does."""
    try:
        claim.take()
    except ClaimedError as error:
        raise RunError(
            f"{whose} is being worked on by another process ({error.holder}). Wait for it to end, or stop it."
        ) from None
    try:
        yield
    finally:
        claim.give_up()


def listing(home: Path, record: str) -> list[Path]:
    """The finished folders with this record in them, oldest first."""
    return [
        folder
        for folder in sorted(home.iterdir())
        if not folder.name.startswith(".") and (folder / record).is_file()
    ]


def find(home: Path, record: str, reference: str, kind: str, plural: str) -> Path:
    """The folder at this path, of this id, or of this unmistakable part of one; ``latest`` is the newest."""
    if (Path(reference) / record).is_file():
        return Path(reference).absolute()
    everyone = listing(home, record)
    if reference == "latest" and everyone:
        return everyone[-1]
    fitting = [folder for folder in everyone if reference in folder.name]
    exact = [folder for folder in fitting if folder.name == reference]
    if len(exact or fitting) == 1:
        return (exact or fitting)[0]
    if fitting:
        names = ", ".join(folder.name for folder in fitting[:5])
        raise RunError(f"'{reference}' fits {len(fitting)} {plural}: {names}. Name one.")
    known = ", ".join(folder.name for folder in everyone[-5:]) or "none yet"
    raise RunError(f"There is no {kind} '{reference}' in {home}. The newest are: {known}.")
