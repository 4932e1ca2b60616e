"""What is new in a data set since it was last fetched, and since a server was last told of it.

Of each data set and its parameters two catalogues are remembered, in its folder of the home:

catalogue-….parquet    of the last fetch, whoever fetched
told-….parquet         of the last fetch that a server knows of; before that, of the first one
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoflow import files, home, progress
from histoflow.data import catalogue

if TYPE_CHECKING:
    from histoflow.components import Dataset
    from histoflow.experiment import Choice
    from histoflow.fetched import Fetched


def since_last_fetch(dataset: Dataset[Any], choice: Choice, paths: Sequence[Path], found: Fetched) -> str:
    """How the images differ from those of the last fetch, told and returned; these are remembered instead."""
    if not paths:
        return ""  # what is generated follows from its parameters
    seen, told = _seen(choice), _told(choice)
    former = catalogue.digest_in(seen)
    if former == found.digest:
        return ""
    contents = dict(zip(paths, found.hashes.values(), strict=True)) if len(found.hashes) == len(paths) else {}
    now = catalogue.catalogue_of(dataset.open(choice, paths), contents, found.digest)
    changes = "" if former is None else catalogue.tell(choice.name, catalogue.read(seen), now)
    if former is not None and not told.is_file():
        _copy(seen, told)
    catalogue.write(now, seen)
    if former is None:
        _copy(seen, told)
    if changes:
        progress.say(changes)
    return changes


def untold(choice: Choice, digest: str) -> str:
    """What a server has not been told yet of these files; empty where they were fetched anew since."""
    seen, told = _seen(choice), _told(choice)
    if not told.is_file() or catalogue.digest_in(seen) != digest or catalogue.digest_in(told) == digest:
        return ""
    return catalogue.tell(choice.name, catalogue.read(told), catalogue.read(seen))


def mark_told(choice: Choice, digest: str) -> None:
    """A server knows of these files."""
    if catalogue.digest_in(_seen(choice)) == digest:
        _copy(_seen(choice), _told(choice))


def _copy(seen: Path, told: Path) -> None:
    with files.atomic_file(told) as temporary:
        files.link(seen, temporary)


def _seen(choice: Choice) -> Path:
    return _folder(choice) / f"catalogue-{_key(choice)}.parquet"


def _told(choice: Choice) -> Path:
    return _folder(choice) / f"told-{_key(choice)}.parquet"


def _folder(choice: Choice) -> Path:
    return home.raw() / choice.name


def _key(choice: Choice) -> str:
    return files.digest_of_data(choice.model_dump(mode="json"))[:16]
