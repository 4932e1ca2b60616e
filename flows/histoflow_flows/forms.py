"""The parameters of the flows: an experiment over the plugins that are installed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from histoflow.components import FIELD_KINDS
from histoflow.experiment import Experiment, candidates, experiment_model, is_list, load
from histoflow.registry import installed
from histoflow_flows.form_schema import FormSchema

_MODEL = experiment_model(installed())
_PARAMETERS = {
    field: {name: set(one.params.model_fields) for name, one in candidates(installed(), field).items()}
    for field in FIELD_KINDS
}


def without_leftovers(experiment: Any) -> Any:
    """The data less what a form kept of components that are no longer chosen.

    A key that is a parameter of another component in the same place is such a leftover; every other key
    stays, for the experiment to judge.
    """
    if isinstance(experiment, Experiment) and not isinstance(experiment, _MODEL):
        return experiment.to_data()  # it was read when other plugins were installed
    if not isinstance(experiment, Mapping):
        return experiment
    return {field: _cleared(field, value) for field, value in experiment.items()}


def _cleared(field: str, value: Any) -> Any:
    if field not in FIELD_KINDS:
        return value
    if is_list(field) and isinstance(value, list | tuple):
        return [_cleared_choice(_PARAMETERS[field], choice) for choice in value]
    return _cleared_choice(_PARAMETERS[field], value)


def _cleared_choice(parameters: Mapping[str, set[str]], choice: Any) -> Any:
    name = choice.get("name") if isinstance(choice, Mapping) else None
    if not isinstance(name, str) or name not in parameters:
        return choice
    foreign = set().union(*parameters.values()) - parameters[name]
    return {key: value for key, value in choice.items() if key not in foreign}


if TYPE_CHECKING:
    ExperimentForm = Experiment
else:
    ExperimentForm = Annotated[_MODEL, BeforeValidator(without_leftovers), FormSchema()]

DEMO = load("demo")
"""What a deployment runs when it is told nothing: a minute's work that needs no network."""
