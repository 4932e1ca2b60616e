"""An experiment is validated whole: every mistake at once, each with its place and the way out."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from histoflow import recipes
from histoflow.components import DataInfo
from histoflow.errors import ExperimentError, Problem, UserError
from histoflow.experiment import Experiment, json_schema, load, parse
from histoflow.tuning.settings import is_tuning
from support import small_experiment

TISSUE = {"dataset": "tissue"}


def problems(**fields: Any) -> list[Problem]:
    with pytest.raises(ExperimentError) as raised:
        parse(TISSUE | fields)
    return list(raised.value.problems)


def test_only_the_data_set_must_be_named() -> None:
    experiment = parse(TISSUE)
    assert experiment.architecture.name == "resnet"
    assert next(metric.name for metric in experiment.metrics) == "accuracy"
    with pytest.raises(ExperimentError, match="dataset: is required"):
        parse({})


def test_a_bare_name_is_the_component_with_its_defaults() -> None:
    assert parse(TISSUE | {"loss": "focal"}) == parse(TISSUE | {"loss": {"name": "focal"}})
    assert parse(TISSUE | {"augment": ["flips"]}).augment[0].name == "flips"


def test_plain_data_reads_back_to_an_equal_experiment() -> None:
    experiment = small_experiment()
    assert parse(experiment.to_data()) == experiment


def test_the_experiment_of_the_readme_is_valid() -> None:
    experiment = parse(
        {
            "dataset": {"name": "tissue", "classes": 9, "size": 64},
            "preprocess": [{"name": "resize", "size": 64}],
            "augment": ["flips", {"name": "color_jitter", "strength": 0.2}],
            "architecture": {"name": "resnet", "depth": 18},
            "loss": {"name": "focal", "gamma": 2.0, "class_weights": "balanced"},
            "optimizer": {"name": "adam", "lr": 1e-3, "weight_decay": 1e-4},
            "scheduler": {"name": "step", "step_size": 5, "gamma": 0.1},
            "metrics": ["accuracy", "f1", "roc_auc"],
            "training": {
                "epochs": 10, "batch_size": 128, "patience": 3, "monitor": "val_loss", "sampler": "shuffle",
            },
            "seed": 0,
        }
    )  # fmt: skip
    assert experiment.loss.model_dump()["gamma"] == 2.0


@pytest.mark.parametrize("name", [name for name in recipes.names() if not is_tuning(recipes.read(name))])
def test_every_shipped_recipe_is_valid_and_bears_its_name(name: str) -> None:
    assert load(name).name == name


def test_all_mistakes_are_told_at_once_each_with_its_place() -> None:
    found = problems(
        architecture={"name": "resnet", "depth": 19},
        loss={"name": "focal", "gama": 1},
        optimizer={"name": "adam", "lr": "fast"},
        augment=["flips", {"name": "color_jitter", "strength": 9}],
        training={"epochs": 0},
        colour="red",
    )
    assert {problem.path for problem in found} == {
        "architecture.depth",
        "loss.gama",
        "optimizer.lr",
        "augment.1.strength",
        "training.epochs",
        "colour",
    }


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        (
            {"architecture": {"name": "resnet", "depth": 19}},
            "architecture.depth",
            "the 'depth' parameter of 'resnet' must be 18, 34 or 50. Got 19.",
        ),
        ({"architecture": "resnett"}, "architecture", "Got 'resnett'. Did you mean 'resnet'?"),
        ({"architecture": {"depth": 18}}, "architecture", "must have a 'name', one of cnn,"),
        ({"architecture": 18}, "architecture", "must be the name of one of the architectures, or a mapping"),
        ({"loss": {"name": "focal", "gama": 1}}, "loss.gama", "'gama' is not a parameter of 'focal'; there are"),
        ({"loss": {"name": "focal", "gama": 1}}, "loss.gama", "Did you mean 'gamma'?"),
        ({"optimizer": {"name": "adam", "lr": -1}}, "optimizer.lr", "must be greater than 0. Got -1."),
        ({"training": {"epocs": 1}}, "training.epocs", "Did you mean 'epochs'?"),
        ({"epochs": 3}, "epochs", "'epochs' is not a parameter; there are name, dataset,"),
        ({"augment": ["resize"]}, "augment.0", "must be one of blur, color_jitter,"),
        ({"metrics": "accuracy"}, "metrics", "must be a list. Got 'accuracy'."),
        ({"split": {"val": 0.5, "test": 0.5}}, "split", "val + test must be below 1. Got 1."),
        ({"loss": {"name": "focal", "class_weights": "even"}}, "loss.class_weights", "must be 'balanced' or"),
        ({"compute": {"device": "tpu"}}, "compute.device", "Got 'tpu'."),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_what_is_allowed_and_what_was_given(
    fields: dict[str, Any], path: str, message: str
) -> None:
    (problem,) = problems(**fields)
    assert problem.path == path
    assert message in problem.message


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        (
            {"loss": "bce"},
            "loss",
            "the loss 'bce' is for binary and multilabel tasks, and data set 'tissue' is multiclass with 9",
        ),
        (
            {"training": {"monitor": "val_f1"}, "metrics": ["accuracy"]},
            "training.monitor",
            "must be one of val_loss, val_accuracy. Got 'val_f1'.",
        ),
        ({"metrics": ["f1", "f1"]}, "metrics.1", "'f1' stands twice."),
        (
            {"dataset": {"name": "tissue", "size": 16}, "architecture": "cnn5"},
            "architecture",
            "takes images of 32×32 pixels or more. Got 16×16.",
        ),
        (
            {"preprocess": [{"name": "resize", "size": 8}], "architecture": "cnn5"},
            "architecture",
            "Got 8×8. Add {name: resize, size: 32} to preprocess",
        ),
        ({"loss": {"name": "focal", "class_weights": [1, 2]}}, "loss", "9"),
        ({"dataset": {"name": "medmnist", "subset": "organmnist3d"}}, "dataset.subset", "3-D sets are not"),
        (
            {"dataset": {"name": "medmnist", "subset": "chestmnist"}},
            "loss",
            "is for binary and multiclass tasks, and data set 'medmnist' is multilabel with 14 classes. Use bce.",
        ),
        ({"metrics": ["exact_match"]}, "metrics.0", "the metric 'exact_match' is for multilabel tasks"),
        (
            {
                "dataset": {"name": "medmnist", "subset": "chestmnist"},
                "loss": "bce",
                "training": {"sampler": "balanced"},
            },
            "training.sampler",
            "may not be balanced where images have several labels",
        ),
        (
            {"training": {"batch_size": 8, "accumulate": 9}},
            "training.accumulate",
            "must be at most training.batch_size, which is 8. Got 9.",
        ),
        (
            {"training": {"start_side": 64}},
            "training.start_side",
            "below 64, the images' shorter side. Got 64. Leave it out",
        ),
        (
            {"training": {"start_side": 16}, "architecture": "cnn5"},
            "training.start_side",
            "must be at least 32, the least that 'cnn5' takes",
        ),
        ({"augment": ["mixup", "cutmix"]}, "augment.1", "'mixup' mixes images already"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    fields: dict[str, Any], path: str, message: str
) -> None:
    (problem,) = problems(**fields)
    assert problem.path == path
    assert message in problem.message


def test_a_wrong_data_set_hides_no_other_mistake() -> None:
    with pytest.raises(ExperimentError) as raised:
        parse({"dataset": "tisue", "metrics": ["f1", "f1"], "training": {"monitor": "val_x", "epochs": 0}})
    assert {problem.path for problem in raised.value.problems} == {
        "dataset", "metrics.1", "training.epochs", "training.monitor",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metrics": []}, "metrics: must be a list of at least 1. Got []."),
        ({"name": "-x"}, "a letter or digit first. Got '-x'."),
        ({"seed": "x"}, "seed: must be a whole number. Got 'x'."),
        ({"seed": -1}, "seed: must be 0 or more. Got -1."),
        ({"training": {"epochs": True}}, "training.epochs: must be a whole number. Got True."),
        (
            {"training": {"batch_size": "32"}},
            "training.batch_size: must be a whole number or 'auto'. Got '32'.",
        ),
        ({"training": {"epochs": 1.5}}, "training.epochs: must be a whole number. Got 1.5."),
        ({"training": 3}, "training: must be a mapping. Got 3."),
        ({"training": {"sampler": "random"}}, "must be 'shuffle', 'balanced' or 'weighted'. Got 'random'."),
        (
            {"training": {"groups": [{"match": "base.*", "lr": 0}]}},
            "training.groups.0.lr: must be greater than 0",
        ),
        ({"compute": {"precision": "bf8"}}, "must be 'auto', 'fp32', 'tf32', 'bf16' or 'fp16'. Got 'bf8'."),
        ({"compute": {"graphs": True}}, "must be 'auto', 'on' or 'off'. Got True."),
        ({"compute": {"memory_share": 1}}, "must be 0.95 or less. Got 1."),
        ({"training": {"monitor": 3}}, "training.monitor: must be text. Got 3."),
        ({"augment": ["flips", 3]}, "augment.1: must be the name of one of the transforms"),
        ({"optimizer": {"name": "adam", "lr": None}}, "must be a number. Got None."),
        ({"optimizer": {"name": "adam", "lr": float("nan")}}, "Got nan."),
        ({"loss": {"name": "focal", "gamma": 11}}, "must be 10 or less. Got 11."),
        ({"architecture": {"name": "cnn", "widths": [8, "wide"]}}, "architecture.widths.1: "),
        ({"architecture": {"name": "resnet", "freeze": "perhaps"}}, "must be true or false. Got 'perhaps'."),
        ({1: 2}, "keys must be text. Got 1."),
    ],
)
def test_every_kind_of_mistake_is_told_in_plain_words(fields: dict[Any, Any], message: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        parse(TISSUE | fields)
    assert message in str(raised.value)
    assert "Input" not in str(raised.value)


def test_contradictions_are_told_together_with_single_mistakes() -> None:
    found = problems(loss="bce", optimizer="adamm")
    assert {problem.path for problem in found} == {"loss", "optimizer"}


def test_what_the_packed_data_turned_out_to_be_is_checked_again() -> None:
    from histoflow._crosschecks import cross_check
    from histoflow.registry import installed

    info = DataInfo(task="multiclass", classes=("a", "b", "c"), channels=3, size=(8, 8))
    found = cross_check(parse(TISSUE | {"architecture": "cnn5"}), installed(), packed=info)
    assert [problem.path for problem in found] == ["architecture"]


@pytest.mark.parametrize(
    "data",
    [
        recipes.read("demo"),
        TISSUE,
        TISSUE | {"augment": ["flips", {"name": "rotation", "degrees": 15}]},
    ],
    ids=["demo", "shortest", "mixed"],
)
def test_the_editors_schema_accepts_what_parse_accepts(data: dict[str, Any]) -> None:
    jsonschema.validate(data, json_schema())


@pytest.mark.parametrize(
    "data",
    [
        {},
        TISSUE | {"architecture": "resnett"},
        TISSUE | {"architecture": {"name": "resnet", "depth": 19}},
        TISSUE | {"loss": {"name": "cross_entropy", "gamma": 2}},
        TISSUE | {"training": {"epochs": 0}},
    ],
    ids=["empty", "name", "value", "foreign-key", "bound"],
)
def test_the_editors_schema_refuses_what_parse_refuses(data: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json_schema())
    with pytest.raises(ExperimentError):
        parse(data)


def test_a_file_that_is_no_experiment_is_told_as_such(tmp_path) -> None:
    path = tmp_path / "experiment.yaml"
    for content, message in (
        ("- a\n- b\n", "must hold a mapping"),
        ("a: [1,\n", "is not valid YAML"),
        ("seed: 1\nseed: 2\n", "duplicate key"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            load(path)
    with pytest.raises(UserError, match="Did you mean 'demo'"):
        load("dmo")


def test_a_path_that_is_here_means_the_same_file_from_anywhere(tmp_path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pathmnist.npz").touch()
    monkeypatch.chdir(tmp_path)
    assert parse({"dataset": {"name": "medmnist", "path": "here"}}).to_data()["dataset"]["path"] == str(
        tmp_path / "here"
    )
    assert parse({"dataset": {"name": "medmnist", "path": "there"}}).to_data()["dataset"]["path"] == "there"


def test_numbers_in_scientific_notation_are_numbers(tmp_path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("dataset: tissue\noptimizer: {name: adam, lr: 1e-4}\n")
    assert load(path).optimizer.model_dump()["lr"] == 1e-4


def test_an_experiment_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(TISSUE).seed = 1  # type: ignore[misc]


def test_the_plain_model_is_the_base_of_the_one_over_plugins() -> None:
    assert isinstance(parse(TISSUE), Experiment)
