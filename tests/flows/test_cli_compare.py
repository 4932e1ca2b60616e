"""``histoflow compare`` as a person types it, on runs that were really trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Typed
from histoflow import stages
from histoflow.comparing import compare_runs
from histoflow.runs import Run
from support import small_experiment, trained

TISSUE = {"name": "tissue", "classes": 2, "size": 16, "images": 135, "slides": 45}
SHORT = {"epochs": 1, "batch_size": 32}
RUNS: dict[str, dict[str, Any]] = {
    "champion": {},
    "challenger": {"seed": 8, "architecture": {"name": "cnn", "widths": [4]}},
    "in-folds": {"training": {**SHORT, "folds": 2, "fold": 1}},
    "resized": {"preprocess": [{"name": "resize", "size": 20}], "metrics": ["recall", "accuracy"]},
    "elsewhere": {"dataset": {**TISSUE, "seed": 1}},
}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with evaluated runs, and 'untrained', which is not."""
    home = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(home))
        for name, changes in RUNS.items():
            experiment = small_experiment(**{"dataset": TISSUE, "training": SHORT, **changes})
            stages.evaluate(trained(experiment, name))
        stages.start(small_experiment(), "untrained")
    return home


@pytest.fixture(autouse=True)
def home(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HISTOFLOW_HOME", str(evaluated))
    monkeypatch.setenv("COLUMNS", "120")
    return evaluated


@pytest.fixture
def altered(home: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the champion whose predictions were changed; a column that becomes None is left out."""

    def alter(**changes: Any) -> Path:
        folder = tmp_path / "altered"
        shutil.copytree(home / "runs" / "champion", folder)
        with np.load(folder / "predictions.npz") as kept:
            columns: dict[str, Any] = dict(kept)
        del columns["columns"]  # the list of what the file must hold
        for name, change in changes.items():
            columns[name] = change(columns[name].copy()) if change else None
        np.savez(
            folder / "predictions.npz", **{name: one for name, one in columns.items() if one is not None}
        )
        return folder

    return alter


def test_two_runs_are_compared_and_the_verdict_is_said(
    typed: Typed, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [Run(home / "runs" / name).openings() for name in ("champion", "challenger")]
    assert typed("compare", "champion", "challenger", "--out", "told.json") == 0
    shown, told = capsys.readouterr().out, json.loads(Path("told.json").read_text())
    assert told["words"] in shown
    assert "On 27 test images of 9 groups" in shown
    assert "Figures are of the networks' own probabilities" in shown
    assert "Speed on CPU" in shown
    assert all(name in shown for name in ("accuracy", "roc auc", "log loss", "normal", "tumour", "McNemar p"))
    assert told["a"]["run"] == "champion"
    assert told["differences"]["main"] == "accuracy"
    main = told["differences"]["metrics"]["accuracy"]
    assert f"{main['difference']:+.4f}" in shown
    scores = [Run(home / "runs" / name).metrics() or {} for name in ("champion", "challenger")]
    assert [main["a"], main["b"]] == [found["scores"]["accuracy"]["value"] for found in scores]
    mcnemar = told["differences"]["mcnemar"]
    assert sum(mcnemar[name] for name in ("both_right", "only_a", "only_b", "both_wrong")) == 27
    assert [Run(home / "runs" / name).openings() for name in ("champion", "challenger")] == before


def test_a_run_beside_itself_shows_no_difference(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("compare", "champion", "champion", "--json", "--metric", "roc_auc") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "no difference shown"
    assert told["differences"]["main"] == "roc_auc"
    assert {one["difference"] for one in told["differences"]["metrics"].values()} == {0}


def test_a_model_that_knows_all_is_better_than_one_that_guesses(
    altered: Callable[..., Path], typed: Typed, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.load(home / "runs" / "champion" / "predictions.npz")["labels"]
    knowing = altered(probabilities=lambda _: 0.05 + 0.9 * np.eye(2)[labels])
    assert typed("compare", "champion", str(knowing), "--draws", "500", "--level", "0.9") == 0
    shown = capsys.readouterr().out
    assert "B is better: accuracy" in shown
    assert "90 % interval" in shown
    assert typed("compare", str(knowing), "champion") == 0
    assert "B is worse: accuracy" in capsys.readouterr().out


def test_runs_on_other_training_images_and_the_same_test_images_are_comparable(home: Path) -> None:
    runs = [Run(home / "runs" / name) for name in ("champion", "in-folds")]
    assert runs[0].read().data_fingerprint != runs[1].read().data_fingerprint
    found = compare_runs(*runs, draws=100)
    assert (found.differences.images, found.notes) == (27, ())


def test_the_same_images_preprocessed_otherwise_are_comparable_and_that_is_noted(home: Path) -> None:
    found = compare_runs(Run(home / "runs" / "champion"), Run(home / "runs" / "resized"), draws=100)
    assert found.notes == ("The same images, by their names, were preprocessed in two ways.",)
    assert list(found.differences.metrics) == ["accuracy"]


def test_without_groups_images_are_drawn_and_that_is_said(altered: Callable[..., Path]) -> None:
    old = Run(altered(groups=None, sources=None))
    found = compare_runs(old, old, draws=100)
    assert found.differences.groups is None
    assert "the intervals are too narrow" in found.notes[0]


def test_the_groups_of_one_run_serve_for_both(altered: Callable[..., Path], home: Path) -> None:
    found = compare_runs(Run(altered(groups=None)), Run(home / "runs" / "champion"), draws=100)
    assert (found.differences.groups, found.notes) == (9, ())


@pytest.mark.parametrize("changes", [{"device": "another GPU"}, {"model": "of another epoch"}])
def test_speeds_of_other_devices_or_models_are_not_compared(
    altered: Callable[..., Path], home: Path, changes: dict[str, str]
) -> None:
    folder, champion = altered(), Run(home / "runs" / "champion")
    assert compare_runs(Run(folder), champion, draws=100).speed is not None
    speed = json.loads((folder / "speed.json").read_text())
    (folder / "speed.json").write_text(json.dumps(speed | changes))
    assert compare_runs(Run(folder), champion, draws=100).speed is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("champion", "nobody"), "There is no run 'nobody'"),
        (("champion", "untrained"), "Run untrained has not been evaluated"),
        (("champion", "elsewhere"), "Runs champion (A) and elsewhere (B) cannot be compared"),
        (("champion", "challenger", "--metric", "exact_match"), "must be one for binary data: accuracy"),
        (("champion", "challenger", "--metric", "acuracy"), "Did you mean 'accuracy'?"),
        (("champion", "challenger", "--level", "95"), "must lie in 0.5..0.99, such as 0.95. Got 95"),
        (
            ("champion", "challenger", "--draws", "5"),
            "100 resamples or more, for intervals to be drawn from. Got 5",
        ),
        (("champion", "challenger", "--out", "."), "--out must name a file"),
    ],
)
def test_what_cannot_be_compared_is_told(
    typed: Typed, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert typed("compare", *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": lambda given: given * np.nan}, "must be finite numbers"),
        (
            {"probabilities": lambda given: np.pad(given, ((0, 0), (0, 1)))},
            "must be of 27 images × 2 classes",
        ),
        ({"probabilities": lambda given: given[:-1]}, "26 probabilities, 27 labels"),
        ({"probabilities": None}, "it lacks probabilities"),
        ({"labels": lambda labels: labels + 7}, "Labels must lie in 0..1"),
        ({"labels": lambda labels: 1 - labels}, "Labels of 27 of 27 images differ"),
        ({"groups": lambda groups: groups[::-1]}, "images are of other patients or slides"),
    ],
)
def test_damaged_and_foreign_predictions_are_refused(
    altered: Callable[..., Path],
    typed: Typed,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    folder = altered(**changes)
    assert typed("compare", "champion", str(folder)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "champion" in told
    assert "altered" in told


def test_other_classes_are_refused(
    altered: Callable[..., Path], typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = altered()
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"classes": ["tumour", "normal"]}))
    assert typed("compare", "champion", str(folder)) == 2
    told = capsys.readouterr().err
    assert "The classes of A are normal, tumour; those of B are tumour, normal." in told


def test_a_file_that_was_cut_short_is_refused(altered: Callable[..., Path], home: Path, typed: Typed) -> None:
    path = altered() / "predictions.npz"
    path.write_bytes(path.read_bytes()[:200])
    assert typed("compare", str(path.parent), "champion") == 2


def test_mistakes_of_both_runs_are_told_at_once(
    altered: Callable[..., Path], typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = altered(probabilities=None)
    assert typed("compare", "untrained", str(folder)) == 2
    told = capsys.readouterr().err
    assert "has not been evaluated" in told
    assert "it lacks probabilities" in told


def test_without_the_packed_data_images_are_told_apart_by_what_the_runs_kept(
    altered: Callable[..., Path], home: Path
) -> None:
    folder = altered()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"packed": str(folder / "gone")}))
    assert compare_runs(Run(folder), Run(home / "runs" / "champion"), draws=100).differences.images == 27
    (folder / "run.json").write_text(
        json.dumps(record | {"packed": str(folder / "gone"), "data_fingerprint": "ab" * 32})
    )
    with pytest.raises(Exception, match="the packed data of altered are gone"):
        compare_runs(Run(folder), Run(home / "runs" / "champion"), draws=100)


def test_runs_without_a_metric_in_common_need_one_to_be_named(
    altered: Callable[..., Path], home: Path
) -> None:
    folder = altered()
    record = json.loads((folder / "run.json").read_text())
    record["experiment"]["metrics"] = [{"name": "f1", "average": "weighted"}]
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(Exception, match="name no metric with the same parameters"):
        compare_runs(Run(folder), Run(home / "runs" / "champion"), draws=100)
    found = compare_runs(Run(folder), Run(home / "runs" / "champion"), metric="f1", draws=100)
    assert list(found.differences.metrics) == ["f1"]
