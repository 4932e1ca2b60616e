"""A tuning is an experiment and a search, from a file, a recipe, and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from histoflow import recipes
from histoflow.errors import ExperimentError, UserError
from histoflow.experiment import load
from histoflow.tuning.checking import space_of
from histoflow.tuning.settings import is_tuning, load_tuning, parse_search

TUNINGS = [name for name in recipes.names() if is_tuning(recipes.read(name))]


@pytest.mark.parametrize("name", TUNINGS)
def test_every_shipped_tuning_is_valid(name: str) -> None:
    assert space_of(load_tuning(name)).dimensions


def test_the_shipped_grid_is_the_one_that_was_asked_for() -> None:
    tuning = load_tuning("pathmnist-tune")
    assert tuning.experiment == load("pathmnist-resnet18")
    assert len(space_of(tuning).grid()) == 8
    assert tuning.search.fidelity == {"training.share": 0.2, "training.epochs": 3}


def test_a_plain_experiment_can_be_tuned() -> None:
    tuning = load_tuning("demo", ["training.epochs=2", "search.seed=5"], {"trials": 3})
    assert (tuning.experiment.training.epochs, tuning.search.seed, tuning.search.trials) == (2, 5, 3)


def test_a_space_on_the_command_line_lies_on_top_of_the_files() -> None:
    tuning = load_tuning("pathmnist-tune", search={"space": {"training.batch_size": [32]}})
    assert set(tuning.search.space) == {"optimizer", "training.batch_size"}
    assert tuning.search.space["training.batch_size"] == [32]


def test_what_was_read_reads_back_the_same() -> None:
    search = load_tuning("pathmnist-tune").search
    assert parse_search(search.to_data()) == search


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: {trials: 3}", "experiment: must be a recipe, a file or an experiment's settings. Got None"),
        ("experiment: demo\nsearch: 3", "search: must be a mapping"),
        ("experiment: demo\nsearch: {}\ntrials: 3", "trials: a tuning holds experiment and search"),
        ("experiment: demo\nsearch: {smpler: tpe}", "search.smpler: 'smpler' is not a parameter"),
        ("experiment: demo\nsearch: {sampler: cma, trials: 0}", "search.trials: must be 1 or more"),
        ("experiment: demo\nsearch: {storage: 'postgresql://me:word@host/x'}", "must not hold a password"),
        ("experiment: pathmnist-tune\nsearch: {}", "which is a tuning"),
        ("experiment: nothing\nsearch: {}", "Got 'nothing', which is neither"),
    ],
)
def test_mistakes_in_a_tuning_are_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tuning.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        load_tuning(path)
    assert message in str(raised.value)


def test_a_tuning_is_not_an_experiment() -> None:
    with pytest.raises(UserError, match="Run it by: histoflow tune pathmnist-tune"):
        load("pathmnist-tune")
    with pytest.raises(ExperimentError):
        load_tuning("demo", ["training.epochs=0"])
