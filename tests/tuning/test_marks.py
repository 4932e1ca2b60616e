"""A plugin's author marks what is worth tuning; a mark that cannot be is told when the plugin is tested."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import Field, create_model

from histoflow import Optimizer, Params, PluginError, registry, tunable
from histoflow.registry import Registry
from histoflow.testing import check_component
from histoflow.tunable import KEY
from histoflow.tuning.reading import read_space
from histoflow.tuning.space import Options, Range
from histoflow.tuning.specs import domain_of
from histoflow_plugins.optimizers import ADAM, build_adam
from support import small_experiment


def optimizer(**mark: Any) -> Optimizer[Any]:
    field = (float, Field(0.001, gt=0, le=1, json_schema_extra=tunable(**mark)))
    params = create_model("AdamParams", __base__=ADAM.params, lr=field)  # type: ignore[call-overload]
    return Optimizer(name="adam", summary="Adam", params=params, build=build_adam)


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        ({"low": 1, "high": 0.1}, "must have a low below its high"),
        ({"low": 0.1}, "must have a number for 'high'"),
        ({"low": 0.1, "high": 2}, "tunable lr=2"),
        ({"low": 0.0, "high": 1.0, "log": True}, "true needs a low above 0"),
    ],
)
def test_the_contract_test_tells_a_mark_that_cannot_be(mark: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_component(optimizer(**mark))


def test_good_marks_keep_the_contract() -> None:
    check_component(optimizer(low=1e-4, high=1, log=True))


def test_a_search_names_the_plugin_whose_mark_is_wrong() -> None:
    known = dict(registry.installed().components)
    known["optimizer", "adam"] = replace(known["optimizer", "adam"], component=optimizer(low=2, high=1))
    with pytest.raises(PluginError, match="parameter 'lr' of optimizer 'adam' of .* must have a low below"):
        read_space(small_experiment(), {}, derives=True, registry=Registry(known))


def test_marks_say_values_a_range_or_what_the_field_allows() -> None:
    class Marked(Params):
        depth: int = Field(18, json_schema_extra=tunable(18, 34))
        width: float = Field(1.0, ge=0.5, le=2, json_schema_extra=tunable())
        rate: float = Field(0.1, gt=0, json_schema_extra=tunable(low=0.01, high=1, log=True))

    schemas = Marked.model_json_schema()["properties"]
    found = {name: domain_of(schema[KEY], schema) for name, schema in schemas.items()}
    assert found == {
        "depth": Options((18, 34), (18, 34)),
        "width": Range(0.5, 2.0),
        "rate": Range(0.01, 1, log=True),
    }
