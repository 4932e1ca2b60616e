"""Records refuse at once what would fail late."""

from __future__ import annotations

import pytest

import histoflow
from histoflow import Architecture, DataInfo, Metric, Params, PluginError, Score
from histoflow.components import KINDS
from histoflow.registry import installed

INFO = DataInfo(task="binary", classes=("a", "b"), channels=3, size=(8, 8))


def metric(**changes: object) -> Metric[Params]:
    fields = {"name": "one", "summary": "", "params": Params, "score": lambda p, x, y: Score(value=1.0)}
    return Metric(**fields | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "Upper", "with space", "1st", "dash-ed", None])
def test_a_name_that_could_not_stand_in_an_experiment_is_refused(name: object) -> None:
    with pytest.raises(PluginError, match="name of a metric must be lower-case"):
        metric(name=name)


@pytest.mark.parametrize("params", [dict, {}, None])
def test_parameters_must_be_a_model(params: object) -> None:
    with pytest.raises(PluginError, match=r"params of metric 'one' must be a subclass of histoflow\.Params"):
        metric(params=params)


def test_a_parameter_called_name_is_refused_as_it_chooses_the_component() -> None:
    class Named(Params):
        name: str = ""

    with pytest.raises(PluginError, match="may not have a field 'name'"):
        metric(params=Named)


def test_parameters_are_frozen_and_refuse_foreign_keys() -> None:
    class One(Params):
        width: int = 1

    with pytest.raises(ValueError, match="extra"):
        One(height=2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="frozen"):
        One().width = 2  # type: ignore[misc]


def test_a_metric_may_know_no_resamples_but_then_it_says_none() -> None:
    assert metric().resampled is None
    with pytest.raises(PluginError, match="resampled of metric 'one' must be a function, or None. Got 7"):
        metric(resampled=7)


def test_the_smallest_side_may_depend_on_the_parameters() -> None:
    def network(min_size: object) -> Architecture[Params]:
        return Architecture(name="n", summary="", params=Params, build=lambda *_: None, min_size=min_size)  # type: ignore[arg-type, return-value]

    assert network(5).smallest_side(Params()) == 5
    assert network(lambda params: 7).smallest_side(Params()) == 7


def test_a_component_has_no_complaints_unless_it_says_so() -> None:
    assert list(metric().check(Params(), INFO)) == []


def test_kinds_have_one_name_each() -> None:
    assert len({kind.kind for kind in KINDS}) == len({kind.plural for kind in KINDS}) == 8


def test_every_parameter_of_the_built_in_components_is_described() -> None:
    missing = [
        f"{kind} {name}: {field}"
        for (kind, name), entry in installed().components.items()
        for field, facts in entry.component.params.model_fields.items()
        if not facts.description
    ]
    assert missing == []


def test_the_public_names_are_all_there_and_sorted() -> None:
    assert all(hasattr(histoflow, name) for name in histoflow.__all__)
    assert len(set(histoflow.__all__)) == len(histoflow.__all__)
