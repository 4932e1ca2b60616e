"""Compares two evaluated runs by the predictions that they kept of the same test images.

The sealed test split is not opened: what the evaluations wrote down is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from histoflow import registry as plugins
from histoflow.comparable import Evaluated, both, note_on_groups, refuse_other_images
from histoflow.components import Metric, Params, Task
from histoflow.errors import UserError
from histoflow.evaluation.comparison import Differences, Verdict, compare
from histoflow.evaluation.intervals import DRAWS, LEVEL
from histoflow.evaluation.scores import Metrics
from histoflow.registry import Registry
from histoflow.runs import Run

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two: what its figures are of."""

    run: str
    architecture: str
    epoch: int
    """The one that was kept."""
    model: str
    """The hash of its weights."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Images a second over the whole test split, reading them included; measured once each."""

    a: float
    b: float
    device: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs side by side. The verdict is on B: as challenger of the champion A."""

    a: Side
    b: Side
    classes: tuple[str, ...]
    differences: Differences
    speed: Speed | None
    """None unless both were measured on a device of the same name."""
    notes: tuple[str, ...] = ()
    """What a reader must know of how they were compared."""

    @property
    def verdict(self) -> Verdict:
        return self.differences.verdict

    @property
    def percent(self) -> str:
        """The level of the intervals, as one says it."""
        return f"{100 * self.differences.level:g} %"

    @property
    def words(self) -> str:
        """The verdict as a sentence, with the figures that it rests on."""
        main, metric = self.differences.metrics[self.differences.main], self.differences.main
        if main.difference is None:
            return f"No difference shown: {metric} is undefined ({main.note})."
        told = f"{metric} {main.a:.4f} of A, {main.b:.4f} of B"
        if main.low is None:
            return f"No difference shown: {told}; {main.note}."
        interval = f"{self.percent} interval of B − A: {main.low:+.4f} to {main.high:+.4f}"
        head = "No difference shown" if self.verdict == "no difference shown" else f"B is {self.verdict}"
        return f"{head}: {told} ({interval})."

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``recall`` stands in the order of ``classes``."""
        return {"schema": SCHEMA, "verdict": self.verdict, "words": self.words, **asdict(self)}


def compare_runs(
    run_a: Run,
    run_b: Run,
    *,
    metric: str | None = None,
    draws: int = DRAWS,
    level: float = LEVEL,
    registry: Registry | None = None,
) -> Comparison:
    """Whether B is better or worse than A, or no difference is shown.

    The verdict is on ``metric``; None is the first metric of A that B has with the same parameters. The same
    two runs always give the same figures.
    """
    registry = registry or plugins.installed()
    _refuse_bad_settings(draws, level)
    a, b = both(run_a, run_b)
    notes = refuse_other_images(a, b)
    metrics = _metrics_of_both(a, b, metric, registry)
    groups = a.kept.groups if a.kept.groups is not None else b.kept.groups
    differences = compare(
        a.kept.probabilities,
        b.kept.probabilities,
        a.kept.labels,
        metrics=metrics,
        main=metric or next(iter(metrics)),
        groups=groups,
        draws=draws,
        level=level,
        registry=registry,
    )
    return Comparison(
        a=_side(a),
        b=_side(b),
        classes=a.classes,
        differences=differences,
        speed=_speeds(a, b),
        notes=tuple(filter(None, (notes, note_on_groups(a, b) if groups is None else ""))),
    )


def _refuse_bad_settings(draws: int, level: float) -> None:
    if not 0.5 <= level <= 0.99:
        raise UserError(f"The level of intervals must lie in 0.5..0.99, such as 0.95. Got {level:g}.")
    if draws < 100:
        raise UserError(f"There must be 100 resamples or more, for intervals to be drawn from. Got {draws}.")


def _metrics_of_both(a: Evaluated, b: Evaluated, main: str | None, registry: Registry) -> Metrics:
    """The metrics that both runs name with the same parameters, and the main one."""
    named_by_b = b.record.experiment["metrics"]
    shared = {
        choice["name"]: {key: value for key, value in choice.items() if key != "name"}
        for choice in a.record.experiment["metrics"]
        if choice in named_by_b
    }
    if main is not None:
        shared.setdefault(main, {})
    if not shared:
        raise UserError(
            f"Runs {a.id} and {b.id} name no metric with the same parameters. Name one to compare them by: "
            f"--metric, one of {', '.join(_fitting(a.task, registry))}."
        )
    return {name: _metric(name, params, a.task, registry) for name, params in shared.items()}


def _metric(
    name: str, params: Mapping[str, Any], task: Task, registry: Registry
) -> tuple[Metric[Any], Params]:
    metric = registry.get(Metric, name)
    if task not in metric.tasks:
        raise UserError(
            f"The metric must be one for {task} data: {', '.join(_fitting(task, registry))}. Got '{name}'."
        )
    return metric, metric.params.model_validate(params)


def _fitting(task: Task, registry: Registry) -> list[str]:
    return [name for name, metric in registry.of_kind(Metric).items() if task in metric.tasks]


def _side(one: Evaluated) -> Side:
    return Side(
        run=one.id,
        architecture=one.record.experiment["architecture"]["name"],
        epoch=one.metrics["epoch"],
        model=one.metrics["model"],
    )


def _speeds(a: Evaluated, b: Evaluated) -> Speed | None:
    speed_a, speed_b = a.run.speed(), b.run.speed()
    if speed_a is None or speed_b is None or speed_a["device"] != speed_b["device"]:
        return None
    if (speed_a["model"], speed_b["model"]) != (a.metrics["model"], b.metrics["model"]):
        return None
    return Speed(a=speed_a["images_per_second"], b=speed_b["images_per_second"], device=speed_a["device"])
