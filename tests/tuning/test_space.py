"""A search space is read from a file and from the components' own marks, and checked before any trial."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from histoflow.errors import ExperimentError
from histoflow.tuning.checking import space_of
from histoflow.tuning.settings import Tuning, parse_search
from histoflow.tuning.space import Options, Range, Space, described
from support import small_experiment


def space(given: dict[str, Any], **search: Any) -> Space:
    tuning = Tuning(small_experiment(), parse_search({"derive": False, **search, "space": given}))
    return space_of(tuning)


def problems(given: dict[str, Any], **search: Any) -> list[str]:
    with pytest.raises(ExperimentError) as raised:
        space(given, **search)
    return [str(problem) for problem in raised.value.problems]


def test_what_components_mark_is_searched_without_being_asked() -> None:
    found = {dimension.name: dimension.domain for dimension in space({}, derive=None).dimensions}
    assert set(found) == {"architecture.dropout", "optimizer.lr", "optimizer.weight_decay"}
    assert found["optimizer.lr"] == Range(1e-5, 1e-2, log=True)


def test_a_file_adds_to_the_marks_replaces_them_and_takes_them_away() -> None:
    given = {
        "optimizer.lr": {"low": 1e-4, "high": 1e-3},
        "optimizer.weight_decay": "fixed",
        "training.batch_size": [32, 64],
        "architecture": "fixed",
    }
    found = {dimension.name: dimension.domain for dimension in space(given, derive=True).dimensions}
    assert found == {
        "optimizer.lr": Range(1e-4, 1e-3),
        "training.batch_size": Options((32, 64), (32, 64)),
    }


def test_each_choice_of_a_component_brings_its_own_dimensions() -> None:
    given = {
        "optimizer": [{"name": "adam", "lr": {"choices": [0.001, 0.0001]}}, {"name": "sgd", "momentum": 0.8}]
    }
    found = {dimension.name: dimension for dimension in space(given, derive=True).dimensions}
    assert found["optimizer.adam.lr"].needs == ("optimizer", "adam")
    assert found["optimizer.sgd.lr"].domain == Range(1e-3, 0.5, log=True)
    assert "optimizer.lr" not in found
    point = {"optimizer": "sgd", "optimizer.sgd.lr": 0.1}
    assert space(given, derive=True).settings(point) == [
        ("optimizer", {"name": "sgd", "momentum": 0.8}),
        ("optimizer.lr", 0.1),
    ]


def test_a_grid_has_each_combination_once_and_only_what_is_in_play() -> None:
    given = {
        "optimizer": [{"name": "adam", "lr": {"choices": [0.001, 0.0001]}}, "sgd"],
        "training.batch_size": [32, 64],
    }
    assert space(given).grid() == [
        {"optimizer": "adam", "optimizer.adam.lr": 0.001, "training.batch_size": 32},
        {"optimizer": "adam", "optimizer.adam.lr": 0.001, "training.batch_size": 64},
        {"optimizer": "adam", "optimizer.adam.lr": 0.0001, "training.batch_size": 32},
        {"optimizer": "adam", "optimizer.adam.lr": 0.0001, "training.batch_size": 64},
        {"optimizer": "sgd", "training.batch_size": 32},
        {"optimizer": "sgd", "training.batch_size": 64},
    ]


def test_a_sampler_draws_within_the_domains_and_by_their_type() -> None:
    given = {
        "training.batch_size": {"low": 16, "high": 64, "step": 16},
        "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "architecture.widths": [[8, 16], [16, 32]],
    }
    drawn = space(given)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        point = drawn.draw(study.ask())
        settings = dict(drawn.settings(point))
        assert settings["training.batch_size"] in (16, 32, 48, 64)
        assert isinstance(settings["training.batch_size"], int)
        assert 1e-4 <= settings["optimizer.lr"] <= 1e-2
        assert settings["architecture.widths"] in ([8, 16], [16, 32])


def test_auto_follows_the_type_and_the_bounds_of_the_field() -> None:
    given = {
        "optimizer.lr": "auto",
        "optimizer.beta1": "auto",
        "architecture.convolutions": "auto",
        "training.sampler": "auto",
        "training.share": {"low": 0.1, "high": 1.0},
    }
    found = {dimension.name: dimension.domain for dimension in space(given).dimensions}
    assert found["optimizer.lr"] == Range(1e-5, 0.1, log=True)
    assert found["architecture.convolutions"] == Range(1, 8, whole=True)
    assert found["training.sampler"] == Options(
        ("shuffle", "balanced", "weighted"), ("shuffle", "balanced", "weighted")
    )
    beta1 = found["optimizer.beta1"]
    assert isinstance(beta1, Range)
    assert 0.99 < beta1.high < 1


def test_components_of_one_name_are_told_apart_by_their_parameters() -> None:
    given = {"optimizer": [{"name": "sgd", "momentum": 0}, {"name": "sgd", "momentum": 0.9}]}
    (dimension,) = space(given).dimensions
    assert dimension.domain.ends() == ("sgd momentum=0", "sgd momentum=0.9")


def test_a_bare_name_that_the_experiment_chose_keeps_its_parameters() -> None:
    experiment = small_experiment(optimizer={"name": "adam", "beta1": 0.8})
    tuning = Tuning(experiment, parse_search({"derive": False, "space": {"optimizer": ["adam", "sgd"]}}))
    ((path, value),) = space_of(tuning).settings({"optimizer": "adam"})
    assert (path, value["beta1"]) == ("optimizer", 0.8)


def test_a_point_is_told_in_one_short_line() -> None:
    given = {
        "optimizer": ["adam", "sgd"],
        "optimizer.lr": {"low": 1e-4, "high": 1e-2},
        "training.batch_size": [32],
    }
    point = {"optimizer": "adam", "optimizer.lr": 0.00123456, "training.batch_size": 32}
    assert described(space(given), point) == "adam lr=0.00123 batch_size=32"


@pytest.mark.parametrize(
    ("given", "search", "message"),
    [
        ({"optimiser.lr": [1]}, {}, "Did you mean 'optimizer'?"),
        ({"optimizer.lrr": [1, 2]}, {}, "'lrr' is not a parameter of 'adam'"),
        ({"optimizer.lr": [0.1, -1]}, {}, "must be greater than 0. Got -1"),
        ({"optimizer.lr": 3}, {}, "search.space.optimizer.lr: must be a list of choices, {low: …, high: …}"),
        ({"optimizer.lr": []}, {}, "must be a list of choices"),
        ({"optimizer.lr": [1, 2, 1]}, {}, "lists 1 twice"),
        ({"optimizer.lr": {"low": 2, "high": 1}}, {}, "a low below its high"),
        ({"optimizer.lr": {"low": 0, "high": 1, "log": True}}, {}, "true needs a low above 0"),
        ({"optimizer.lr": {"low": "a", "high": 1}}, {}, "must have a number for 'low'. Got a"),
        ({"training.batch_size": {"low": 1.5, "high": 64}}, {}, "must have whole numbers"),
        ({"training.epochs": "auto"}, {}, "cannot be auto, for it is not bounded"),
        ({"optimizer": ["adam", "sdg"]}, {}, "Did you mean 'sgd'?"),
        ({"optimizer": "sgd"}, {}, "must be a list of components"),
        ({"optimizer": [3]}, {}, "must list names of components"),
        ({"optimizer": [{"name": "sgd", "lr": 1}], "optimizer.lr": [1]}, {}, "Say it in one place"),
        ({"augment.7": ["flips"]}, {}, "the experiment has 2 in augment"),
        ({"augment.7.strength": [0.1]}, {}, "the list has 2 items"),
        ({"dataset.size": [32]}, {}, "must leave dataset alone"),
        ({}, {}, "must name something to search"),
        ({"optimizer.lr": {"low": 0.1, "high": 1}}, {"sampler": "grid"}, "must be a list of choices where the sampler is grid"),
        ({"seed": list(range(101)), "optimizer.lr": [i / 101 for i in range(1, 101)]}, {"sampler": "grid"}, "over 10,000 combinations"),
        ({"optimizer.lr": [1]}, {"objective": "val_colour"}, "must be of val_loss, val_accuracy, val_roc_auc. Got 'val_colour'"),
        ({"optimizer.lr": [1]}, {"objective": ["val_loss", "val_roc_auc"], "pruner": "asha"}, "must be none where there are several"),
        ({"optimizer.lr": [1]}, {"fidelity": {"training.epoch": 1}}, "search.fidelity.training.epoch: training.epoch: 'epoch' is not"),
        ({"optimizer.lr": [1]}, {"fidelity": {"optimizer.lr": 1}}, "is searched, too"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_before_any_trial(
    given: dict[str, Any], search: dict[str, Any], message: str
) -> None:
    assert any(message in problem for problem in problems(given, **search)), problems(given, **search)


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(
        {"optimizer.lrr": [1], "training.epochs": [0]},
        objective=["val_loss", "val_colour"],
        fidelity={"training.share": 2},
    )
    assert len(found) == 4
