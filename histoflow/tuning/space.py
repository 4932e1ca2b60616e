"""The search space: named dimensions, each a range or a list of choices at a path of the experiment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import Trial

Label = str | int | float | bool | None
"""A value as the study's database holds it: a longer choice goes by a short text."""
Point = Mapping[str, Label]
"""A label for each dimension that is in play."""


@dataclass(frozen=True)
class Range:
    """Every number between two, or every step from the first on."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def draw(self, trial: Trial, name: str) -> Label:
        if self.whole:
            return trial.suggest_int(
                name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log
            )
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def value(self, label: Label) -> Any:
        return label

    def ends(self) -> tuple[Label, ...]:
        """Values that stand for all of them when the space is checked."""
        return (int(self.low), int(self.high)) if self.whole else (float(self.low), float(self.high))

    def __str__(self) -> str:
        scale = ", logarithmic" if self.log else ""
        return f"{self.low:g} to {self.high:g}{f' by {self.step:g}' if self.step else ''}{scale}"


@dataclass(frozen=True)
class Options:
    """A list of values, each with its label."""

    labels: tuple[Label, ...]
    values: tuple[Any, ...]

    def draw(self, trial: Trial, name: str) -> Label:
        label: Label = trial.suggest_categorical(name, self.labels)
        return label

    def value(self, label: Label) -> Any:
        return self.values[self.labels.index(label)]

    def ends(self) -> tuple[Label, ...]:
        return self.labels

    def __str__(self) -> str:
        return ", ".join(map(str, self.labels))


@dataclass(frozen=True)
class Dimension:
    name: str
    """In the study: the path, with the choice that it belongs to, such as optimizer.sgd.momentum."""
    path: str
    """Where the value goes in the experiment."""
    domain: Range | Options
    needs: tuple[str, Label] | None = None
    """The dimension and the choice without which this one means nothing."""

    def is_in_play(self, point: Point) -> bool:
        return self.needs is None or (self.needs[0] in point and point[self.needs[0]] == self.needs[1])


@dataclass(frozen=True)
class Space:
    """All dimensions, each after the one that it needs."""

    dimensions: tuple[Dimension, ...]

    def draw(self, trial: Trial) -> Point:
        """Ask the study's sampler for a point."""
        point: dict[str, Label] = {}
        for dimension in self.dimensions:
            if dimension.is_in_play(point):
                point[dimension.name] = dimension.domain.draw(trial, dimension.name)
        return point

    def settings(self, point: Point) -> list[tuple[str, Any]]:
        """The point as values for paths of the experiment, components before their parameters."""
        drawn = [dimension for dimension in self.dimensions if dimension.name in point]
        pairs = [(dimension.path, dimension.domain.value(point[dimension.name])) for dimension in drawn]
        return sorted(pairs, key=lambda pair: pair[0].count("."))

    def grid(self) -> list[dict[str, Label]]:
        """Every combination, the first dimension changing slowest; there must be no range."""
        return list(self._combinations({}))

    def ranges(self) -> list[Dimension]:
        return [dimension for dimension in self.dimensions if isinstance(dimension.domain, Range)]

    def size(self, enough: int) -> float:
        """How many different points there are; counting ends at ``enough``."""
        return math.inf if self.ranges() else sum(1 for _ in islice(self._combinations({}), enough))

    def probes(self) -> Iterator[dict[str, Label]]:
        """Points in which every choice and every end of a range stands at least once."""
        for dimension in self.dimensions:
            for label in dimension.domain.ends():
                yield self._point_around(dimension, label)

    def _point_around(self, chosen: Dimension, label: Label) -> dict[str, Label]:
        wanted = {chosen.name: label, **dict([chosen.needs] if chosen.needs else [])}
        point: dict[str, Label] = {}
        for dimension in self.dimensions:
            if dimension.is_in_play(point):
                point[dimension.name] = wanted.get(dimension.name, dimension.domain.ends()[0])
        return point

    def _combinations(self, point: dict[str, Label], begin: int = 0) -> Iterator[dict[str, Label]]:
        for index in range(begin, len(self.dimensions)):
            dimension = self.dimensions[index]
            if dimension.is_in_play(point):
                for label in dimension.domain.ends():
                    yield from self._combinations({**point, dimension.name: label}, index + 1)
                return
        yield point


def described(space: Space, point: Point) -> str:
    """A point in one short line, such as 'adam lr=0.001 batch_size=64'."""
    words = []
    for dimension in space.dimensions:
        if dimension.name in point:
            label, last = point[dimension.name], dimension.path.rsplit(".", 1)[-1]
            bare = isinstance(label, str) and "." not in dimension.path
            words.append(label if bare else f"{last}={brief(label)}")
    return " ".join(str(word) for word in words)


def brief(label: Label) -> str:
    return f"{label:.3g}" if isinstance(label, float) else str(label)
