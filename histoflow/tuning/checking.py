"""Holds a search against its experiment before the first trial, and tells every mistake at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from histoflow import crossvalidation
from histoflow import registry as plugins
from histoflow.errors import ExperimentError, Problem
from histoflow.experiment import Experiment, parse
from histoflow.registry import Registry
from histoflow.tuning.reading import read_space
from histoflow.tuning.settings import Search, Tuning
from histoflow.tuning.space import Space

LARGEST_GRID = 10_000
NOT_SEARCHED = (
    "dataset",
    "preprocess",
    "split",
    "metrics",
    "reports",
    "name",
    "training.folds",
    "training.fold",
)
"""Fields and settings that all trials must share to be comparable: they are of the same data, packed once."""


def objectives_of(tuning: Tuning) -> tuple[str, ...]:
    return tuning.search.objective or (tuning.experiment.training.monitor,)


def with_settings(
    experiment: Experiment, settings: Sequence[tuple[str, Any]], registry: Registry
) -> Experiment:
    """The experiment with these values at these paths, validated whole."""
    data = experiment.to_data()
    for path, value in settings:
        put(data, path, value)
    return parse(data, registry)


def put(data: dict[str, Any], path: str, value: Any) -> None:
    """Set one value in place; what holds it must be there."""
    *way, last = path.split(".")
    holder: Any = data
    for depth, key in enumerate(way, start=1):
        place = _place(holder, key)
        if place is None or not isinstance(holder[place], dict | list):
            raise ExperimentError([Problem(path, _missing(holder, key, ".".join(way[:depth])))])
        holder = holder[place]
    place = _place(holder, last) if isinstance(holder, list) else last
    if place is None or (holder is data and last not in data):
        raise ExperimentError([Problem(path, _missing(holder, last, path))])
    holder[place] = deepcopy(value)  # what is put into it later must not change the space


def _place(holder: Any, key: str) -> Any:
    if isinstance(holder, list):
        return int(key) if key.isdigit() and int(key) < len(holder) else None
    return key if key in holder else None


def _missing(holder: Any, key: str, path: str) -> str:
    if isinstance(holder, list):
        return f"'{path}' is not there: the list has {len(holder)} items, numbered from 0."
    near = difflib.get_close_matches(key, holder, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"'{path}' is not a setting that holds others; there are {', '.join(holder)}.{hint}"


def space_of(tuning: Tuning, registry: Registry | None = None, source: str = "the search") -> Space:
    """The space of a tuning in which everything fits, or ExperimentError with all that does not."""
    registry = registry or plugins.installed()
    experiment, search = tuning.experiment, tuning.search
    space, problems = read_space(experiment, search.space, search.derives, registry)
    fidelity_problems = list(_fidelity_problems(experiment, search, registry))
    if not problems:
        fidelity = [] if fidelity_problems else list(search.fidelity.items())
        problems += dict.fromkeys(_space_problems(space, fidelity, experiment, registry))
        problems += _grid_problems(space, search)
    problems += [
        *_objective_problems(experiment, search),
        *_comparability_problems(search),
        *_folds_problems(experiment),
        *fidelity_problems,
    ]
    if problems:
        raise ExperimentError(problems, source)
    return space


def _objective_problems(experiment: Experiment, search: Search) -> Iterator[Problem]:
    legal = ["val_loss", *(f"val_{choice.name}" for choice in experiment.metrics)]
    for name in search.objective:
        if name not in legal:
            yield Problem(
                "search.objective",
                f"must be of {', '.join(legal)}. Got '{name}'. For another metric, add it to metrics.",
            )
    if len(set(search.objective)) < len(search.objective):
        yield Problem("search.objective", f"names one twice: {', '.join(search.objective)}.")
    if len(search.objective) > 1 and search.pruner != "none":
        yield Problem(
            "search.pruner",
            f"must be none where there are several objectives, for trials can only be compared half-way "
            f"by one. Got '{search.pruner}'.",
        )


def _comparability_problems(search: Search) -> Iterator[Problem]:
    for where, settings in (("space", search.space), ("fidelity", search.fidelity)):
        for path in settings:
            fixed = next((held for held in NOT_SEARCHED if f"{path}.".startswith(f"{held}.")), None)
            if fixed is not None:
                yield Problem(
                    f"search.{where}.{path}",
                    f"must leave {fixed} alone, for trials can only be compared on the same data. "
                    f"Tune each variant by a study of its own.",
                )


def _folds_problems(experiment: Experiment) -> Iterator[Problem]:
    if crossvalidation.is_wanted(experiment):
        yield Problem(
            "training.folds",
            f"must be left out of a search, whose trials each train once. Got {experiment.training.folds}. "
            f"Search on one fold (training.fold=1), and cross-validate the best with 'histoflow train'.",
        )


def _fidelity_problems(experiment: Experiment, search: Search, registry: Registry) -> Iterator[Problem]:
    for path, value in search.fidelity.items():
        if path in search.space and search.space[path] != "fixed":
            yield Problem(f"search.fidelity.{path}", "is searched, too. Say it in one of the two places.")
        yield from _refusals(f"search.fidelity.{path}", experiment, [(path, value)], registry)


def _space_problems(
    space: Space, fidelity: Sequence[tuple[str, Any]], experiment: Experiment, registry: Registry
) -> Iterator[Problem]:
    if not space.dimensions:
        yield Problem(
            "search.space",
            "must name something to search, such as {optimizer.lr: [0.001, 0.01]}: a grid follows no marks "
            "of components, and otherwise the chosen ones mark nothing as worth tuning.",
        )
    for probe in space.probes():
        settings = [*space.settings(probe), *fidelity]
        yield from _refusals("search.space", experiment, settings, registry)


def _grid_problems(space: Space, search: Search) -> Iterator[Problem]:
    if search.sampler != "grid":
        return
    for dimension in space.ranges():
        yield Problem(
            f"search.space.{dimension.name}",
            f"must be a list of choices where the sampler is grid. Got a range, {dimension.domain}. "
            f"List the values to try, or use the sampler tpe or random.",
        )
    if not space.ranges() and space.size(LARGEST_GRID + 1) > LARGEST_GRID:
        yield Problem(
            "search.space", f"is a grid of over {LARGEST_GRID:,} combinations. Use the sampler tpe or random."
        )


def _refusals(
    where: str, experiment: Experiment, settings: Sequence[tuple[str, Any]], registry: Registry
) -> Iterator[Problem]:
    try:
        with_settings(experiment, settings, registry)
    except ExperimentError as error:
        for problem in error.problems:
            yield Problem(where, str(problem))
