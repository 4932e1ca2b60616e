"""The run form: what its schema says, what the UI makes of it, what the flow takes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.schema_tools import validation as prefect_validation
from pydantic import TypeAdapter, ValidationError

from histoflow.components import FIELD_KINDS
from histoflow.errors import ExperimentError
from histoflow.experiment import Experiment, candidates, is_list, parse
from histoflow.registry import installed
from histoflow_flows.forms import DEMO, ExperimentForm
from histoflow_flows.train import train_flow
from support import small_experiment

FORM = TypeAdapter(ExperimentForm)
SCHEMA: dict[str, Any] = train_flow.parameters.model_dump(mode="json")
PROPERTIES = SCHEMA["definitions"]["Experiment"]["properties"]


def tabs(field: str) -> list[dict[str, Any]]:
    place = PROPERTIES[field]
    choice = place["items"] if is_list(field) else place
    return choice.get("anyOf", [choice])


def names(tab: dict[str, Any]) -> list[str]:
    return tab["properties"]["name"]["enum"]


def components() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each component in each field, with all its parameters at their defaults."""
    for field in FIELD_KINDS:
        for name, component in candidates(installed(), field).items():
            yield field, name, {"name": name, **component.params().model_dump(mode="json")}


EVERY = [pytest.param(*one, id=f"{one[0]}-{one[1]}") for one in components()]


def accepted(choice: dict[str, Any], field: str) -> bool:
    data = {"dataset": {"name": "tissue"}, field: [choice] if is_list(field) else choice}
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return validator.is_valid({"experiment": data})


@pytest.mark.parametrize(("field", "name", "choice"), EVERY)
def test_the_ui_opens_the_tab_of_the_component_that_is_chosen(
    field: str, name: str, choice: dict[str, Any]
) -> None:
    """Prefect's UI opens the first tab that shares most keys with the value."""
    shared = [len(choice.keys() & tab["properties"].keys()) for tab in tabs(field)]
    assert name in names(tabs(field)[shared.index(max(shared))])


@pytest.mark.parametrize(("field", "name", "choice"), EVERY)
def test_the_server_takes_every_component_with_its_defaults(
    field: str, name: str, choice: dict[str, Any]
) -> None:
    assert accepted(choice, field)
    assert not accepted(choice | {"nonsense": 1}, field)


@pytest.mark.parametrize("field", FIELD_KINDS)
def test_the_name_stands_first_and_the_ui_can_fill_it_in(field: str) -> None:
    for tab in tabs(field):
        assert next(iter(tab["properties"])) == "name"
        assert tab["properties"]["name"]["default"] in names(tab)


def test_the_form_holds_every_plugins_own_fields() -> None:
    (resnet,) = [tab for tab in tabs("architecture") if "resnet" in names(tab)]
    assert resnet["properties"]["depth"]["enum"] == [18, 34, 50]
    (focal,) = [tab for tab in tabs("loss") if "focal" in names(tab)]
    assert focal["properties"]["gamma"]["description"]


def test_unions_are_written_so_that_the_ui_keeps_a_tab_open() -> None:
    assert '"oneOf"' not in str(SCHEMA).replace("'", '"')


def test_components_without_parameters_share_a_tab() -> None:
    assert names(tabs("augment")[0]) == ["right_angles"]
    assert {"accuracy", "roc_auc"} <= set(names(tabs("metrics")[0]))
    assert list(tabs("metrics")[0]["properties"]) == ["name"]


def test_what_the_components_of_a_tab_disagree_on_is_left_to_them() -> None:
    (shared,) = [tab for tab in tabs("optimizer") if "adam" in names(tab)]
    assert names(shared) == ["adam", "adamw"]
    assert "default" not in shared["properties"]["weight_decay"]
    assert shared["properties"]["lr"]["default"] == 0.001


def test_the_server_blames_what_is_wrong() -> None:
    def blamed(optimizer: dict[str, Any]) -> str:
        with pytest.raises(prefect_validation.ValidationError) as refused:
            data = {"dataset": {"name": "tissue"}, "optimizer": optimizer}
            prefect_validation.validate({"experiment": data}, SCHEMA, raise_on_error=True)
        return str(refused.value)

    assert "'learning_rate' is not one of" in blamed({"name": "sgd", "learning_rate": 1})
    assert "'experiment.optimizer.beta1'" in blamed({"name": "adam", "beta1": "much"})
    for wrong in ({"name": "sgd", "weight_decay": "much"}, {"name": "sgdd"}):
        assert "field 'experiment.optimizer'. Failure reason: {'name': 'sgd" in blamed(wrong)


def test_the_defaults_of_the_form_can_be_submitted() -> None:
    jsonschema.validate({"experiment": SCHEMA["properties"]["experiment"]["default"]}, SCHEMA)
    for field in FIELD_KINDS:
        if "default" in PROPERTIES[field]:
            data = {"dataset": {"name": "tissue"}, field: PROPERTIES[field]["default"]}
            jsonschema.validate({"experiment": data}, SCHEMA)


def test_keys_that_a_form_kept_of_another_tab_are_accepted_and_dropped() -> None:
    left = {"name": "sgd", "lr": 0.05, "beta1": 0.5, "eps": 1e-3}
    assert accepted(left, "optimizer")
    parameters = {"experiment": small_experiment().to_data() | {"optimizer": left}}
    experiment: Experiment = train_flow.validate_parameters(parameters)["experiment"]
    assert experiment.to_data()["optimizer"] == {
        "name": "sgd",
        "lr": 0.05,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.0,
    }


def test_leftovers_are_dropped_in_lists_too() -> None:
    augment = [{"name": "right_angles", "degrees": 20.0}, "flips"]
    experiment = FORM.validate_python({"dataset": {"name": "tissue"}, "augment": augment})
    assert [choice.name for choice in experiment.augment] == ["right_angles", "flips"]


def test_a_key_of_no_component_is_refused_by_the_flow_and_any_foreign_one_in_an_experiment() -> None:
    wrong = {"dataset": {"name": "tissue"}, "optimizer": {"name": "sgd", "learning_rate": 1}}
    with pytest.raises(ParameterTypeError, match="learning_rate"):
        train_flow.validate_parameters({"experiment": wrong})
    left = {"dataset": {"name": "tissue"}, "optimizer": {"name": "sgd", "beta1": 0.5}}
    with pytest.raises(ExperimentError, match="beta1"):
        parse(left)


@pytest.mark.parametrize(
    "optimizer", [5, ["sgd"], {"lr": 1}, {"name": 5}, {"name": "unheard_of", "beta1": 1}]
)
def test_what_is_no_choice_at_all_is_left_to_the_experiment_to_refuse(optimizer: object) -> None:
    with pytest.raises(ValidationError, match="optimizer"):
        FORM.validate_python({"dataset": {"name": "tissue"}, "optimizer": optimizer})


def test_an_experiment_that_was_read_already_passes_unchanged() -> None:
    assert FORM.validate_python(DEMO) is DEMO
