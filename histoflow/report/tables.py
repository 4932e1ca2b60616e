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
"""Classes that fit beside the overall figures, on a page that is printed, too."""


@dataclass(frozen=True)
class FiguresRow:
    name: str
    number: str
    """The class's index, which metrics use when they speak of it."""
    images: Sequence[str]
    figures: Sequence[str]
    intervals: Sequence[str]
    """Of each figure; empty where it has none."""


@dataclass(frozen=True)
class FiguresPart:
    """Metrics down the page, and as many classes side by side as fit."""

    columns: Sequence[FiguresRow]
    """The overall figures, in the first part, and those of some classes."""
    rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    """Of each metric, the figure of each column and its interval."""
    counts: Sequence[tuple[str, Sequence[str]]]
    """Of each split, the images of each column."""


@dataclass(frozen=True)
class FiguresTable:
    splits: Sequence[str]
    metrics: Sequence[str]
    overall: FiguresRow
    classes: Sequence[FiguresRow]
    notes: Sequence[tuple[str, str]]
    """A metric, or several, and what a reader must know of its figures."""
    intervals: str
    """How they came about; empty where there are none."""

    @property
    def parts(self) -> list[FiguresPart]:
        firsts = range(0, len(self.classes), _SIDE_BY_SIDE)
        return [_part(self, self.classes[first : first + _SIDE_BY_SIDE], first == 0) for first in firsts]


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
    counts = _split_counts(results.data)
    scores = list(results.metrics.values())
    return FiguresTable(
        splits=list(counts),
        metrics=[title(name) for name in results.metrics],
        overall=FiguresRow(
            name="overall",
            number="",
            images=[f"{images_of(results.data['splits'][split]):,}" for split in counts],
            figures=[wording.figure(score.value) for score in scores],
            intervals=[wording.interval(score.interval) for score in scores],
        ),
        classes=[_class_row(index, name, counts, scores) for index, name in enumerate(class_names(results))],
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


def _split_counts(data: Mapping[str, Any]) -> dict[str, Sequence[int]]:
    splits = data.get("splits", {})
    return {name: splits[name]["counts"] for name in SPLITS if "counts" in splits.get(name, {})}


def images_of(split: Mapping[str, Any]) -> int:
    """Not the sum of its classes' images, some of which may show several classes."""
    return int(split.get("images", sum(split["counts"])))


def _class_row(
    index: int, name: str, counts: Mapping[str, Sequence[int]], scores: Sequence[Score]
) -> FiguresRow:
    return FiguresRow(
        name=name,
        number=str(index),
        images=[
            f"{numbers[index]:,}" if index < len(numbers) else wording.NONE for numbers in counts.values()
        ],
        figures=[wording.figure(score.per_class[index] if score.per_class else None) for score in scores],
        intervals=[
            wording.interval(score.per_class_intervals[index] if score.per_class_intervals else None)
            for score in scores
        ],
    )


def _part(table: FiguresTable, classes: Sequence[FiguresRow], first: bool) -> FiguresPart:
    columns = [*([table.overall] if first else []), *classes]
    told = [place for place in range(len(table.metrics)) if first or _told_by_class(table, place)]
    return FiguresPart(
        columns=columns,
        rows=[
            (table.metrics[place], [(one.figures[place], one.intervals[place]) for one in columns])
            for place in told
        ],
        counts=[(split, [one.images[place] for one in columns]) for place, split in enumerate(table.splits)],
    )


def _told_by_class(table: FiguresTable, metric: int) -> bool:
    return any(row.figures[metric] != wording.NONE for row in table.classes)


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
