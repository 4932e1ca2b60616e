"""The report of a study: one page that holds what it shows, whatever became of the trials."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from histoflow.report.tuning_data import Axis, Retrained, Tried, TuningResults
from histoflow.report.tuning_page import best_first, write_tuning_page

AXES = (
    Axis(name="optimizer", choices=("adam", "sgd")),
    Axis(name="optimizer.adam.lr", low=1e-5, high=1e-2, log=True),
    Axis(name="training.batch_size", choices=(32, 64)),
    Axis(name="architecture.dropout", low=0.0, high=0.6),
)
SEARCH = {"sampler": "tpe", "pruner": "asha", "fidelity": {"training.share": 0.2}, "parallel": 2,
          "runner": "threads", "seed": 0}  # fmt: skip


def tried(number: int, value: float | None, state: str = "complete", **more: object) -> Tried:
    adam = number % 2 == 0
    point = {"optimizer": "adam", "optimizer.adam.lr": 1e-4 * (number + 1)} if adam else {"optimizer": "sgd"}
    point |= {"training.batch_size": 32 if number % 3 else 64, "architecture.dropout": 0.05 * (number % 10)}
    values = () if value is None else (value,)
    facts = {"epochs": 3, "seconds": 12.5, "label": f"{point['optimizer']} & <{number}>", **more}
    return Tried(number=number, state=state, point=point, values=values, **facts)  # type: ignore[arg-type]


def results(folder: Path) -> TuningResults:
    trials = [tried(number, 0.9 - 0.03 * number) for number in range(12)]
    trials[4] = tried(4, 1.7, "pruned", epochs=1)
    trials[7] = tried(7, None, "failed", error="Training diverged: <nan>")
    trials[9] = tried(9, 4000.0)
    return TuningResults(
        folder=folder,
        study="20261121-120000-colon-3f2a",
        name="colon",
        created="2026-11-21T12:00:00+00:00",
        search=SEARCH,
        objectives=("val_loss",),
        higher_is_better=(False,),
        axes=AXES,
        trials=tuple(trials),
        best=11,
        configuration={"name": "colon", "optimizer": {"name": "sgd"}},
        importances={"optimizer": 0.7, "training.batch_size": 0.3},
        retrained=(Retrained(run="20261121-colon-trial-0011", state="evaluated", scores={"accuracy": 0.91}),),
        environment={"histoflow": "0.1.0"},
    )


def page(found: TuningResults) -> str:
    return write_tuning_page(found).read_text()


def test_the_page_refers_to_nothing_outside_itself_and_escapes_what_strangers_wrote(tmp_path: Path) -> None:
    text = page(results(tmp_path))
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "Training diverged: &lt;nan&gt;" in text
    assert "&lt;11&gt;" in text


def test_it_shows_history_importance_and_parallel_coordinates_each_with_a_text(tmp_path: Path) -> None:
    text = page(results(tmp_path))
    alts = re.findall(r'<img src="data:image/svg\+xml[^"]*" alt="([^"]*)"', text)
    assert len(alts) == 3
    assert "The best is 0.570" in alts[0]
    assert "optimizer 70%" in alts[1]
    assert "The best: sgd" in alts[2]


def test_the_best_trial_comes_first_and_the_failed_last(tmp_path: Path) -> None:
    order = [trial.number for trial in best_first(results(tmp_path))]
    assert order[:2] == [11, 10]
    assert order[-3:] == [9, 4, 7]


def test_it_says_what_the_test_split_says_and_warns_where_it_was_asked_twice(tmp_path: Path) -> None:
    found = results(tmp_path)
    once = page(found)
    assert "accuracy 0.910" in once
    assert 'class="alert"' not in once
    twice = replace(found, retrained=(*found.retrained, replace(found.retrained[0], run="another")))
    assert "opened for 2 configurations" in page(twice)


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_study_without_a_finished_trial_has_a_page_as_well(tmp_path: Path, state: str) -> None:
    trials = (tried(0, None, state),)
    bare = replace(
        results(tmp_path), trials=trials, best=None, configuration={}, importances={}, retrained=()
    )
    assert "No trial came to its end" in page(bare)


def test_several_objectives_are_shown_against_each_other(tmp_path: Path) -> None:
    trials = tuple(
        replace(trial, values=(trial.values[0], 1 / trial.values[0]), state="complete")
        for trial in results(tmp_path).trials
        if trial.values
    )
    both = replace(
        results(tmp_path),
        objectives=("val_loss", "val_roc_auc"),
        higher_is_better=(False, True),
        trials=trials,
        front=frozenset({10, 11}),
    )
    text = page(both)
    assert "Between the objectives" in text
    assert text.count("<img ") == 5
    assert "No other trial beats trials 10, 11" in text


@pytest.mark.parametrize("rising", [False, True])
def test_trials_far_off_do_not_flatten_the_rest(tmp_path: Path, rising: bool) -> None:
    from histoflow.report.tuning_figures import history_chart

    found = results(tmp_path)
    if rising:
        flipped = (replace(trial, values=tuple(-value for value in trial.values)) for trial in found.trials)
        found = replace(found, trials=tuple(flipped), higher_is_better=(True,))
    (axes,) = history_chart(found).axes
    low, high = axes.get_ylim()
    assert high - low < 5
    assert "beyond the axis" in [line.get_label() for line in axes.lines]
