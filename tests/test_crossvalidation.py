"""A run for each fold, and what they came to together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from histoflow import crossvalidation, home, runs, stages
from histoflow.crossvalidation import CrossValidation
from histoflow.errors import ExperimentError, RunError, UserError
from histoflow.experiment import Experiment
from histoflow.fold_results import spread
from histoflow.registry import installed
from histoflow.tuning.checking import space_of
from histoflow.tuning.settings import Tuning, parse_search
from histoflow.unused import find_unused
from support import preprocessed, small_experiment


def in_folds(folds: int = 2, **training: Any) -> Experiment:
    """Of 60 images from 12 slides."""
    return small_experiment(
        dataset={"name": "tissue", "classes": 2, "size": 16, "images": 60, "slides": 12},
        architecture={"name": "cnn", "widths": [4]},
        augment=[],
        training={"epochs": 1, "batch_size": 16, "folds": folds, **training},
        reports=[],
    )


def cross_validate(experiment: Experiment) -> CrossValidation:
    """As a notebook would, without Prefect."""
    begun = crossvalidation.begin(experiment)
    packed = preprocessed(experiment)
    begun.hold_data(packed.folder, packed.fingerprint)
    for fold in begun.folds():
        run = stages.start(fold.experiment, fold.run.id)
        stages.train(fold.experiment, stages.cut(fold.experiment, packed), run)
        stages.evaluate(run)
        crossvalidation.keep(begun, fold)
    crossvalidation.conclude(begun)
    return begun


def test_each_fold_is_a_run_and_their_figures_come_together_on_a_page(home: Path) -> None:
    begun = cross_validate(in_folds())
    record = begun.read()
    found = [runs.Run(home / "runs" / f"{begun.id}-fold-{number}-of-2") for number in (1, 2)]
    stores = [run.read().packed for run in found]
    assert len(set(stores)) == 2
    assert [result.val_images + result.train_images for result in record.results] == [
        record.results[0].val_images + record.results[0].train_images
    ] * 2
    assert [len(run.openings()) for run in found] == [1, 1]
    values = [(run.metrics() or {})["scores"]["accuracy"]["value"] for run in found]
    assert record.summary is not None
    assert record.summary.test["accuracy"].mean == pytest.approx(sum(values) / 2)
    assert record.summary.test["accuracy"].sd == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert [result.val["loss"] for result in record.results] == [
        run.history()[0]["val_loss"] for run in found
    ]
    assert all(fold.is_done for fold in begun.folds())
    assert find_unused(youngest=-1.0) == [], "also what the folds are cut from is kept"
    page = (begun.folder / "report.html").read_text()
    mean = record.summary.val["loss"].mean
    assert mean is not None
    assert f"{mean:.3f} ± " in page
    assert "no standard error" in page
    assert all(result.run in page for result in record.results)


def test_a_single_fold_trains_on_the_data_of_that_fold() -> None:
    experiment = in_folds(fold=2)
    packed = preprocessed(experiment)
    whole = preprocessed(in_folds())
    assert stages.cut(experiment, whole) == packed
    assert packed != whole
    assert stages.start(experiment).read().experiment["training"]["fold"] == 2


def test_one_run_is_not_all_folds() -> None:
    with pytest.raises(UserError, match=r"training\.folds asks for 2 runs.*training\.fold=1"):
        stages.start(in_folds())


@pytest.mark.parametrize(
    ("training", "problem"),
    [
        ({"folds": 1}, r"training\.folds: must be 2 or more"),
        ({"folds": None, "fold": 2}, r"training\.fold: needs training\.folds"),
        ({"fold": 3}, r"training\.fold: must be at most training\.folds, which is 2\. Got 3"),
    ],
)
def test_folds_that_are_not_there_are_refused(training: dict[str, Any], problem: str) -> None:
    with pytest.raises(ExperimentError, match=problem):
        in_folds(**({"folds": 2} | training))


def test_more_folds_than_groups_are_refused_before_anything_is_cut(home: Path) -> None:
    experiment = in_folds(20, fold=1)
    with pytest.raises(UserError, match=r"training\.folds must be at most the number of groups"):
        preprocessed(experiment)
    assert len(list((home / "data" / "packed").glob("*/manifest.json"))) == 1
    assert not list((home / "data" / "packed").glob(".*"))


def test_a_search_is_of_one_fold_or_none() -> None:
    search = parse_search({"space": {"optimizer.lr": [0.01, 0.1]}})
    space_of(Tuning(in_folds(fold=1), search))
    with pytest.raises(ExperimentError, match=r"training\.folds: must be left out of a search"):
        space_of(Tuning(in_folds(), search))
    with pytest.raises(ExperimentError, match=r"must leave training\.fold alone"):
        space_of(Tuning(in_folds(fold=1), parse_search({"space": {"training.fold": [1, 2]}})))


def test_it_goes_on_only_with_the_same_experiment_and_the_same_data() -> None:
    begun = crossvalidation.begin(in_folds(), "one")
    assert crossvalidation.begin(in_folds(), "one") == begun
    with pytest.raises(RunError, match="of another experiment"):
        crossvalidation.begin(in_folds(3), "one")
    begun.hold_data(Path("packed"), "a" * 64)
    with pytest.raises(RunError, match="data of cross-validation one have changed"):
        begun.hold_data(Path("packed"), "b" * 64)


def test_it_is_found_by_its_id_and_its_runs_by_theirs() -> None:
    experiment = in_folds()
    begun = crossvalidation.begin(experiment, "20990101-small-ab12")
    assert crossvalidation.find("latest") == begun
    for fold in begun.folds():
        runs.create(home.runs(), fold.run.id, fold.experiment, installed())
    assert crossvalidation.find("latest") == begun, "its folds are the newest runs"
    assert crossvalidation.find(begun.id) == begun
    assert crossvalidation.find("ab12") == begun
    assert crossvalidation.find(str(begun.folder)) == begun
    assert crossvalidation.find(begun.folds()[0].run.id) is None
    runs.create(home.runs(), "20990102-small-ab12", small_experiment(), installed())
    assert crossvalidation.find("latest") is None, "a newer run"
    assert crossvalidation.find("small") is None, "it may be either"
    assert crossvalidation.find(begun.id) == begun


def test_a_record_of_a_later_histoflow_is_not_guessed_at() -> None:
    begun = crossvalidation.begin(in_folds(), "one")
    path = begun.folder / "folds.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(RunError, match="newer histoflow"):
        begun.read()


def test_what_is_undefined_in_some_folds_is_left_out_of_the_mean() -> None:
    assert spread([0.5, None, 0.7]).model_dump() == pytest.approx({"mean": 0.6, "sd": 0.1414213, "n": 2})
    assert spread([0.5]).sd is None
    assert spread([None]).mean is None


def test_names_of_runs_stand_in_the_order_of_the_folds() -> None:
    names = [crossvalidation.fold_id("x", number, 12) for number in range(1, 13)]
    assert names == sorted(names)
    assert names[1] == "x-fold-02-of-12"
