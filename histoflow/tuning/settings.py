"""Search: all that a tuning is told beside its experiment, validated whole before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from histoflow import recipes
from histoflow._overrides import apply_override
from histoflow._problems import problems_of
from histoflow.errors import ExperimentError, Problem, UserError
from histoflow.experiment import Experiment, Settings, parse
from histoflow.registry import Registry

SamplerName = Literal["tpe", "random", "grid"]
PrunerName = Literal["none", "median", "hyperband", "asha"]
RunnerName = Literal["threads", "dask", "ray"]

USUAL_TRIALS = 20


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _no_password(value: str | None) -> str | None:
    """The address is written into records that many may read."""
    from urllib.parse import urlsplit

    if value is not None and urlsplit(value).password:
        raise ValueError(
            "must not hold a password, for it is written into the study's record. "
            "Give it where the database's client looks for it, such as ~/.pgpass or PGPASSWORD"
        )
    return value


class Search(Settings):
    """How hyperparameters are searched."""

    sampler: SamplerName = "tpe"
    """tpe learns from the trials so far, random does not, grid tries every combination."""
    pruner: PrunerName = "none"
    """What ends trials early that fall behind: median, hyperband or asha (successive halving)."""
    objective: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """val_loss, or val_ and a metric's name; none: what is monitored; several: weighed."""
    trials: int | None = Field(None, ge=1, strict=True)
    """How many configurations are tried; null: 20, and the whole of a grid."""
    parallel: int = Field(1, ge=1, le=4096, strict=True)
    """How many trials run at once."""
    runner: RunnerName = "threads"
    """Where trials run: threads of this process, or the processes of a Dask or Ray cluster."""
    address: str | None = None
    """The Dask scheduler or Ray head to use; null starts a cluster on this machine."""
    space: dict[str, Any] = Field(default_factory=dict)
    """What is searched, by path: a list of choices, {low, high, log, step}, auto or fixed."""
    derive: bool | None = None
    """Search also what the chosen components mark as worth tuning; null: unless the sampler is grid."""
    fidelity: dict[str, Any] = Field(default_factory=dict)
    """What trials do differently to be fast, such as training.share: 0.2 and training.epochs: 3."""
    retrain: bool = True
    """Train the best configuration on all data at the end, and evaluate it."""
    seed: int = Field(0, ge=0, lt=2**63, strict=True)
    """All chance of the search follows from it; the trials' own follows from the experiment's."""
    storage: Annotated[str | None, AfterValidator(_no_password)] = None
    """The database that remembers the study, such as postgresql://host/name; null: a file in its folder."""

    @property
    def derives(self) -> bool:
        return self.sampler != "grid" if self.derive is None else self.derive

    def to_data(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class Tuning:
    """An experiment, and how the best form of it is searched."""

    experiment: Experiment
    search: Search


def is_tuning(data: Mapping[str, Any]) -> bool:
    """Whether the content of a file is a tuning and not an experiment."""
    return "search" in data


def load_tuning(
    source: str | Path,
    overrides: Sequence[str] = (),
    search: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Tuning:
    """Read a tuning, or an experiment that is to be tuned, from a YAML file or a shipped recipe.

    ``search`` takes the place of the file's own settings, and so do overrides that begin with 'search.'.
    """
    data = recipes.read(source)
    experiment, settings = _parts(data, str(source)) if is_tuning(data) else (data, {})
    for key, value in (search or {}).items():
        settings[key] = _merged(settings.get(key), value) if key == "space" else value
    both = {"search": settings}
    for override in overrides:
        apply_override(both if override.startswith("search.") else experiment, override)
    return Tuning(parse(experiment, registry, source=str(source)), parse_search(settings, str(source)))


def parse_tuning(
    data: Mapping[str, Any], registry: Registry | None = None, source: str = "the tuning"
) -> Tuning:
    """Validate the data of a tuning, or raise ExperimentError; ``space_of`` tells whether all fits."""
    experiment, settings = _parts(data, source)
    return Tuning(parse(experiment, registry, source), parse_search(settings, source))


def _merged(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, Mapping) and isinstance(new, Mapping) else new


def _parts(data: Mapping[str, Any], source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    foreign = sorted(set(data) - {"experiment", "search"})
    experiment, search = data.get("experiment"), data["search"] or {}
    problems = [Problem(key, "a tuning holds experiment and search, and nothing beside.") for key in foreign]
    if not isinstance(search, dict):
        problems.append(Problem("search", f"must be a mapping of settings. Got {search!r}."))
    if not isinstance(experiment, str | dict):
        problems.append(
            Problem(
                "experiment", f"must be a recipe, a file or an experiment's settings. Got {experiment!r}."
            )
        )
    if problems:
        raise ExperimentError(problems, source)
    settings = _experiment_of(experiment, source) if isinstance(experiment, str) else experiment
    return deepcopy(dict(settings)), deepcopy(dict(search))  # type: ignore[arg-type]


def _experiment_of(name: str, source: str) -> dict[str, Any]:
    data = recipes.read(name)
    if is_tuning(data):
        raise UserError(f"The experiment of {source} must be an experiment. Got '{name}', which is a tuning.")
    return data


def parse_search(data: Mapping[str, Any], source: str = "the search") -> Search:
    """Validate plain data, or raise ExperimentError with every mistake in it."""
    try:
        return Search.model_validate(data)
    except ValidationError as error:
        found = problems_of(error, data, lambda _: Search.model_fields)
        problems = [Problem(f"search.{problem.path}", problem.message) for problem in found]
        raise ExperimentError(problems, source) from None
