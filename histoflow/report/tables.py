"""The report's two tables of classes: how well each went, and what became of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from histoflow.components import SPLITS, Results, Score
from histoflow.report import wording

if TYPE_CHECKING:
    from numpy.typing import NDArray


_GIVEN_ABOVE = 0.5
_SIDE_BY_SIDE = 9
"""Classes that fit beside each other on a page that is printed, too."""


Cell = tuple[str, str]
"""A figure, and its interval; empty where there is none."""


@dataclass(frozen=True)
class Column:
    name: str
    number: str
    """The class's index, which metrics use when they speak of it."""


@dataclass(frozen=True)
class FiguresPart:
    """A table of metrics, down the page, and of so many classes as fit side by side."""

    columns: Sequence[Column]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    counts: Sequence[tuple[str, Sequence[str]]]
    """Each split's images of these classes."""


@dataclass(frozen=True)
class FiguresTable:
    parts: Sequence[FiguresPart]
    notes: Sequence[tuple[str, str]]
    """A metric, or several, and what a reader must know of its figures."""
    intervals: str
    """How they came about; empty where there are none."""


@dataclass(frozen=True)
class Outcome:
    """What became of one class's images."""

    name: str
    images: str
    right: str
    share_right: str
    given: str
    mistaken: str


@dataclass(frozen=True)
class Answer:
    """How well one class was told from its absence, where images may show several classes."""

    name: str
    images: str
    found: str
    share_found: str
    given: str
    share_right: str


def class_names(results: Results) -> list[str]:
    """From the manifest; numbers stand in for names that it lacks."""
    classes = results.probabilities.shape[1]
    names = [str(name) for name in results.data.get("classes", ())]
    return names if len(names) == classes else [f"class {index}" for index in range(classes)]


def figures_table(results: Results) -> FiguresTable:
    names = class_names(results)
    firsts = range(0, len(names), _SIDE_BY_SIDE)
    return FiguresTable(
        parts=[_part(results, names, range(first, len(names))[:_SIDE_BY_SIDE]) for first in firsts],
        notes=[*_told_by_one_class(results), *wording.notes(results.metrics)],
        intervals=wording.how_intervals_came(results.intervals),
    )


def outcomes(names: Sequence[str], matrix: NDArray[np.int64]) -> list[Outcome]:
    return [_outcome(index, names, matrix) for index in range(len(names))]


def answers(
    names: Sequence[str], labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> list[Answer]:
    """Of labels images × classes of 0 and 1; a class is given to an image above a probability of 0.5."""
    given = probabilities > _GIVEN_ABOVE
    return [_answer(name, labels[:, index] == 1, given[:, index]) for index, name in enumerate(names)]


def title(metric: str) -> str:
    return metric.removeprefix("val_").replace("_", " ")


def _told_by_one_class(results: Results) -> list[tuple[str, str]]:
    """With two classes, many metrics are by custom those of the second, which a reader could not guess."""
    if results.probabilities.shape[1] != 2 or results.labels.ndim == 2:
        return []
    pairs = {name: (score.value, score.per_class) for name, score in results.metrics.items()}
    told = [title(name) for name, (value, both) in pairs.items() if both and value == both[1] != both[0]]
    return [(", ".join(told), f"the overall figure is that of {class_names(results)[1]}")] if told else []


def _split_counts(data: Mapping[str, Any]) -> dict[str, tuple[int, Sequence[int]]]:
    """Of each split, all its images and those of each class."""
    splits = data.get("splits", {})
    return {
        name: (images_of(splits[name]), splits[name]["counts"])
        for name in SPLITS
        if "counts" in splits.get(name, {})
    }


def images_of(split: Mapping[str, Any]) -> int:
    """Not the sum of its classes' images, some of which may show several classes."""
    return int(split.get("images", sum(split["counts"])))


def _part(results: Results, names: Sequence[str], classes: range) -> FiguresPart:
    """The first part holds the overall figures as well, before those of its classes."""
    first = classes.start == 0
    overall = [Column("overall", "")] if first else []
    shown = {name: score for name, score in results.metrics.items() if first or score.per_class}
    splits = _split_counts(results.data)
    return FiguresPart(
        columns=[*overall, *(Column(names[index], str(index)) for index in classes)],
        rows=[(title(name), _figures(score, classes, overall=first)) for name, score in shown.items()],
        counts=[(split, _counts(images, classes, overall=first)) for split, images in splits.items()],
    )


def _figures(score: Score, classes: range, *, overall: bool) -> list[Cell]:
    whole = (wording.figure(score.value), wording.interval(score.interval))
    return [*([whole] if overall else []), *(_of_class(score, index) for index in classes)]


def _of_class(score: Score, index: int) -> Cell:
    """Blank for a metric that knows no classes, which is another thing than an undefined figure."""
    if score.per_class is None:
        return "", ""
    ends = score.per_class_intervals[index] if score.per_class_intervals else None
    return wording.figure(score.per_class[index]), wording.interval(ends)


def _counts(images: tuple[int, Sequence[int]], classes: range, *, overall: bool) -> list[str]:
    total, counts = images
    known = [counts[index] if index < len(counts) else None for index in classes]
    every = [*([total] if overall else []), *known]
    return [wording.NONE if number is None else f"{number:,}" for number in every]


def _outcome(index: int, names: Sequence[str], matrix: NDArray[np.int64]) -> Outcome:
    images, right = int(matrix[index].sum()), int(matrix[index, index])
    return Outcome(
        name=names[index],
        images=f"{images:,}",
        right=f"{right:,}",
        share_right=wording.percent(right, images),
        given=f"{int(matrix[:, index].sum()):,}",
        mistaken=_most_mistaken(index, names, matrix),
    )


def _answer(name: str, shown: NDArray[np.bool_], given: NDArray[np.bool_]) -> Answer:
    images, found, said = int(shown.sum()), int((shown & given).sum()), int(given.sum())
    return Answer(
        name=name,
        images=f"{images:,}",
        found=f"{found:,}",
        share_found=wording.percent(found, images),
        given=f"{said:,}",
        share_right=wording.percent(found, said),
    )


def _most_mistaken(index: int, names: Sequence[str], matrix: NDArray[np.int64]) -> str:
    wrong = matrix[index].copy()
    wrong[index] = 0
    other = int(wrong.argmax())
    count, images = int(wrong[other]), int(matrix[index].sum())
    return f"{names[other]} ({count:,}, {wording.percent(count, images)})" if count else wording.NONE
