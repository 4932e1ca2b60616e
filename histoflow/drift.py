"""Whether the images that a model is given still look, and are answered, like those of its validation.

    reference.json             written into the run's folder when it is evaluated: how each figure is
                               distributed on validation, and how far sets of such images differ by chance
    predictions/<time>.json    the same counts for the images of one prediction; of a version of a model they
                               lie beside the versions, in predictions/0003

Both hold counts alone, so that those of several predictions can be added up.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from histoflow import files, progress
from histoflow.answering import answers_of
from histoflow.data.appearance import measured
from histoflow.errors import DataError
from histoflow.evaluation import distributions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.data.predictions import Answers
    from histoflow.data.store import SplitReader
    from histoflow.evaluation.fitting import Fitted
    from histoflow.evaluation.predictions import Predictions

FILE = "reference.json"
SCHEMA = 1
CONFIDENCE, PREDICTED, SHOWS = "confidence", "predicted", "shows "
_MOST = 20_000  # images of validation: more would hardly change its distributions
_AT_ONCE = 256
_FEW_GROUPS = 10  # of fewer, a shift by a standard deviation is mostly overlooked: see bench_drift.py

Figures = Mapping[str, "NDArray[np.float64]"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


Content = TypeVar("Content", bound=_Record)


class Counted(_Record):
    """A figure of some images, each in one of the reference's bins."""

    counts: tuple[int, ...]
    total: float
    """The sum of the figure itself."""
    squares: float

    @property
    def images(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float:
        return self.total / self.images

    @property
    def spread(self) -> float:
        """The standard deviation."""
        return float(max(0.0, self.squares / self.images - self.mean**2) ** 0.5)

    def __add__(self, other: Counted) -> Counted:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Counted(counts=counts, total=self.total + other.total, squares=self.squares + other.squares)


class Known(_Record):
    """A figure on validation."""

    edges: tuple[float, ...] | None
    """Between the bins; None where the figure is a number of a class, each a bin of its own."""
    names: tuple[str, ...] | None = None
    """Of these."""
    counted: Counted
    limits: tuple[float, ...]
    """For each of the reference's sizes: the distance within which blocks of that size stay."""

    def count(self, values: NDArray[np.float64]) -> Counted:
        bins = len(self.counted.counts)
        return _counted(values, _places(values, self.edges), bins)


class Reference(_Record):
    """The content of reference.json."""

    schema_version: int = SCHEMA
    model: str
    """The hash of the weights that gave the answers."""
    images: int
    groups: int | None
    """That blocks were made of; None where they were made of single images."""
    note: str = ""
    sizes: tuple[int, ...]
    """Images in a block."""
    figures: dict[str, Known]

    @property
    def key(self) -> str:
        """Alike where counts may be added up and compared."""
        return files.digest_of_data([self.model, {name: one.edges for name, one in self.figures.items()}])


class Kept(_Record):
    """The content of a file in predictions/."""

    schema_version: int = SCHEMA
    time: str
    model: str
    reference: str
    """The key of that which it was counted by."""
    tta: str
    table: str
    images: int
    problems: int
    """Images that could not be predicted, and are not counted below."""
    figures: dict[str, Counted]


# ── The reference ───────────────────────────────────────────────────────────────────────────────


def write_reference(
    folder: Path,
    split: SplitReader,
    validation: Predictions,
    fitted: Fitted,
    classes: Sequence[str],
    seed: int,
) -> Reference:
    """What validation looks like and how it is answered, kept in the run's folder."""
    chosen = np.unique(np.linspace(0, len(split) - 1, min(len(split), _MOST)).astype(np.int64))
    answers = answers_of(fitted, validation.probabilities[chosen])
    figures = {**_looks(split, chosen), **_answered(answers, classes)}
    groups = None if validation.groups is None else validation.groups[chosen]
    made = _reference(figures, classes, fitted.model, groups, seed)
    files.write_json(folder / FILE, made.model_dump(mode="json"))
    return made


def _looks(split: SplitReader, chosen: NDArray[np.int64]) -> Figures:
    parts = []
    with progress.track("Measuring validation", total=len(chosen)) as advance:
        for start in range(0, len(chosen), _AT_ONCE):
            some = chosen[start : start + _AT_ONCE]
            parts.append(measured(split.gather(some)))
            advance(len(some))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _answered(answers: Answers, classes: Sequence[str]) -> Figures:
    told = answers.told.astype(np.float64)
    if told.ndim == 1:
        return {CONFIDENCE: answers.confidence, PREDICTED: told}
    shown = {f"{SHOWS}{name}": told[:, place] for place, name in enumerate(classes)}
    return {CONFIDENCE: answers.confidence, **shown}


def _reference(
    figures: Figures, classes: Sequence[str], model: str, groups: NDArray[np.str_] | None, seed: int
) -> Reference:
    edges, names = {}, {}
    for name, values in figures.items():
        names[name] = _names(name, classes)
        edges[name] = None if names[name] else tuple(distributions.edges_of(values).tolist())
    places = {name: _places(values, edges[name]) for name, values in figures.items()}
    bins = {name: len(names[name] or ()) or distributions.bins_of(edges[name] or ()) for name in figures}
    groups, note = _usable(groups)
    bands = distributions.bands(list(places.values()), list(bins.values()), groups, seed)
    return Reference(
        model=model,
        images=len(next(iter(figures.values()))),
        groups=None if groups is None else len(np.unique(groups)),
        note=note,
        sizes=bands.sizes,
        figures={
            name: Known(
                edges=edges[name],
                names=names[name],
                counted=_counted(values, places[name], bins[name]),
                limits=tuple(limits.tolist()),
            )
            for (name, values), limits in zip(figures.items(), bands.limits, strict=True)
        },
    )


def _names(figure: str, classes: Sequence[str]) -> tuple[str, ...] | None:
    if figure == PREDICTED:
        return tuple(classes)
    return ("no", "yes") if figure.startswith(SHOWS) else None


def _usable(groups: NDArray[np.str_] | None) -> tuple[NDArray[np.str_] | None, str]:
    count = 0 if groups is None else len(np.unique(groups))
    if groups is None or count >= _FEW_GROUPS:
        return groups, ""
    if count >= distributions.FEWEST_GROUPS:
        return groups, f"Validation has only {count} groups: bands are wide, and only great changes are seen."
    return None, (
        f"Validation has only {count} group{'s' if count > 1 else ''}, so that bands take every image for "
        f"itself; they are too narrow where images of a group are alike."
    )


def _places(values: NDArray[np.float64], edges: Sequence[float] | None) -> NDArray[np.int64]:
    return values.astype(np.int64) if edges is None else distributions.places(values, edges)


def _counted(values: NDArray[np.float64], places: NDArray[np.int64], bins: int) -> Counted:
    counts = np.bincount(places, minlength=bins).tolist()
    return Counted(counts=tuple(counts), total=float(values.sum()), squares=float((values**2).sum()))


# ── What is kept of a prediction ────────────────────────────────────────────────────────────────


class Keeper:
    """Counts the images of a prediction as they come."""

    def __init__(self, reference: Reference, classes: Sequence[str], tta: str) -> None:
        self._reference, self._classes, self._tta = reference, classes, tta
        self._figures: dict[str, Counted] = {}

    def add(self, looks: Figures, answers: Answers) -> None:
        """``looks`` are what ``measured`` says of the images.

        Answers that were averaged over views of an image are not like those that validation was given.
        """
        answered = _answered(answers, self._classes) if self._tta == "none" else {}
        for name, values in {**looks, **answered}.items():
            found = self._reference.figures[name].count(values)
            self._figures[name] = self._figures[name] + found if name in self._figures else found

    def save(self, folder: Path, table: Path, images: int, problems: int) -> Path:
        """Into a file of its own in this folder."""
        time = datetime.now(UTC)
        kept = Kept(
            time=time.isoformat(timespec="seconds"),
            model=self._reference.model,
            reference=self._reference.key,
            tta=self._tta,
            table=str(table.absolute()).encode("utf-8", "backslashreplace").decode(),
            images=images,
            problems=problems,
            figures=self._figures,
        )
        name = f"{time:%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}.json"
        return files.write_json(folder / name, kept.model_dump(mode="json"))


def reference_in(folder: Path) -> Reference | None:
    """None where the run was not evaluated, or before there was any."""
    path = folder / FILE
    return _read(path, Reference, "Evaluate the run again") if path.is_file() else None


def kept_in(folder: Path) -> list[Path]:
    """Of each prediction, oldest first."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def read_kept(path: Path) -> Kept:
    return _read(path, Kept, "Remove it")


def _read(path: Path, kind: type[Content], next_step: str) -> Content:
    try:
        data = files.read_json(path)
        files.refuse_newer(path, data.get("schema_version"), SCHEMA, DataError)
        return kind.model_validate(data)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise DataError(f"{path} is damaged: {error}. {next_step}.") from error
