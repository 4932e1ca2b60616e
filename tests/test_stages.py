"""The stages of a run, driven as a notebook would drive them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from histoflow import home as homes
from histoflow import stages
from histoflow.best import best_epoch
from histoflow.components import Transform
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.engine.batch import Batch
from histoflow.errors import (
    CheckpointError,
    DataError,
    DeviceError,
    DivergedError,
    ExperimentError,
    RunError,
)
from histoflow.evaluating import store_of
from histoflow.experiment import Experiment, load, parse
from histoflow.registry import installed
from histoflow.runs import Run
from support import prepared, preprocessed, small_experiment, trained


def patches(folder: Path, count: int) -> Path:
    """Noise of 12 pixels in two class folders; a larger count adds to those that are there."""
    chance = np.random.default_rng(0)
    for index in range(count):
        path = folder / ("a" if index % 2 else "b") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (12, 12, 3), np.uint8)).save(path)
    return folder


def weights(run: Run, which: checkpoint.Which = "last") -> str:
    found = checkpoint.find(run.checkpoints, which)
    assert found is not None
    return found.model_hash


@pytest.fixture(scope="module")
def home_of_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the run ``run``, which was trained."""
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(home))
        trained(small_experiment())
    return home


@pytest.fixture
def run(home_of_run: Path, home: Path) -> Run:
    """A copy of it, and of its data."""
    shutil.copytree(home_of_run, home, dirs_exist_ok=True)
    run = Run(home / "runs" / "run")
    run.update(packed=str(homes.packed() / Path(str(run.read().packed)).name))
    return run


def test_a_whole_run_leaves_its_record_checkpoints_figures_and_report() -> None:
    experiment = small_experiment()
    run, packed = prepared(experiment)
    ended = stages.train(experiment, packed, run)
    evaluated = stages.evaluate(run)
    report, _ = stages.report(run)

    assert ended.epochs == 3
    assert ended.stopped == "all 3 epochs trained"
    record = run.read()
    assert record.state == "evaluated"
    assert record.data_fingerprint == packed.fingerprint
    assert record.best == ended.best
    assert {plugin["plugin"] for plugin in record.plugins} >= {"tissue", "cnn", "losses"}
    assert parse(record.experiment) == experiment
    assert [entry["epoch"] for entry in run.history()] == [1, 2, 3]
    assert set(run.history()[0]) >= {"train_loss", "val_loss", "val_accuracy", "lr", "images_per_second"}
    assert evaluated.metrics == json.loads((run.folder / "metrics.json").read_text())
    assert set(evaluated.metrics["scores"]) == {"accuracy", "roc_auc"}
    assert report == run.folder / "report.html"
    assert "accuracy" in report.read_text()


def test_the_figures_follow_from_the_predictions_that_are_kept(run: Run) -> None:
    evaluated = stages.evaluate(run)
    with np.load(run.folder / "predictions.npz") as kept:
        right = kept["probabilities"].argmax(axis=1) == kept["labels"]
    assert evaluated.metrics["scores"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert evaluated.metrics["images"] == len(right)


def test_test_figures_have_intervals_by_slide_from_the_experiments_seed() -> None:
    run = trained(small_experiment(training={"epochs": 1, "batch_size": 32}))
    metrics = dict(stages.evaluate(run).metrics)
    test = store_of(run).unseal_test()
    assert test.groups is not None
    slides = len(set(test.groups))
    assert metrics["intervals"] == {
        "method": "percentile bootstrap",
        "level": 0.95,
        "draws": 2000,
        "by": "group",
        "units": slides,
        "fewer_draws": {},
    }
    with np.load(run.folder / "predictions.npz", allow_pickle=False) as kept:
        assert kept["groups"].tolist() == test.groups.tolist()
        assert kept["sources"].tolist() == test.sources.tolist()
        assert kept["labels"].tolist() == test.labels.tolist()
    for score in metrics["scores"].values():
        assert score["interval"] is None or score["interval"][0] <= score["value"] <= score["interval"][1]
        assert score["interval"] or "no interval for overall" in score["interval_note"]
    assert stages.evaluate(run).metrics == metrics, "and again the same"
    assert f"bootstrap over {slides} groups, 2,000 draws" in stages.report(run)[0].read_text()


def test_a_run_evaluated_before_there_were_intervals_is_still_reported() -> None:
    run = trained(small_experiment(training={"epochs": 1, "batch_size": 32}))
    metrics = json.loads(json.dumps(stages.evaluate(run).metrics))
    for later in ("intervals", "calibration", "operating", "sets", "aggregated", "robustness", "explained"):
        metrics.pop(later, None)
    metrics["scores"] = {
        name: {key: score[key] for key in ("value", "per_class", "undefined")}
        for name, score in metrics["scores"].items()
    }
    (run.folder / "metrics.json").write_text(json.dumps(metrics))
    with np.load(run.folder / "predictions.npz") as kept:
        probabilities, labels = kept["probabilities"], kept["labels"]
    np.savez(run.folder / "predictions.npz", probabilities=probabilities, labels=labels)
    report, _ = stages.report(run)
    assert f"{metrics['scores']['accuracy']['value']:.3f}" in report.read_text()
    assert "bootstrap" not in report.read_text()


def test_training_is_the_same_every_time_from_the_experiment_that_the_run_keeps() -> None:
    first = trained(small_experiment(), "one")
    again = load(str(first.folder / "experiment.yaml"))
    assert weights(trained(again, "two")) == weights(first)


def test_another_seed_gives_other_weights() -> None:
    assert weights(trained(small_experiment(), "one")) != weights(trained(small_experiment(seed=8), "two"))


@pytest.mark.parametrize("scheduler", ["step", "one_cycle", "cosine"])
def test_a_run_stopped_between_epochs_goes_on_to_the_same_weights(scheduler: str) -> None:
    experiment = small_experiment(scheduler=scheduler)
    undisturbed = trained(experiment, "undisturbed")

    run, packed = prepared(experiment, "stopped")
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(patch, saves=2)
        with pytest.raises(KeyboardInterrupt):
            stages.train(experiment, packed, run)
    assert run.read().state == "training"
    assert len(run.history()) == 1
    ended = stages.train(experiment, packed, run)

    assert ended.epochs == 3
    assert weights(run) == weights(undisturbed)
    assert weights(run, "best") == weights(undisturbed, "best")


def _stop_after(patch: pytest.MonkeyPatch, saves: int) -> None:
    """Interrupt as Ctrl-C would, in the moment after a checkpoint was written."""
    write = checkpoint.Writer.write
    calls = []

    def write_then_stop(writer: checkpoint.Writer, saved: checkpoint.Snapshot, *, best: bool) -> None:
        write(writer, saved, best=best)
        writer.wait()
        calls.append(1)
        if len(calls) == saves:
            raise KeyboardInterrupt

    patch.setattr(checkpoint.Writer, "write", write_then_stop)


def test_patience_ends_training_and_the_best_epoch_is_kept() -> None:
    experiment = small_experiment(
        training={"epochs": 30, "patience": 2, "batch_size": 64},
        optimizer={"name": "sgd", "lr": 1.0, "momentum": 0.9},
    )
    run, packed = prepared(experiment)
    ended = stages.train(experiment, packed, run)
    assert ended.stopped == "no better val_loss for 2 epochs"
    assert ended.best["epoch"] == ended.epochs - 2
    assert stages.train(experiment, packed, run).epochs == ended.epochs, "going on trains no further"


@pytest.mark.parametrize(
    ("values", "higher", "best"),
    [
        ([3.0, 1.0, 2.0], False, 2),
        ([3.0, 1.0, 3.0], True, 1),
        ([None, 2.0, None], True, 2),
        ([None, None], True, 2),
    ],
)
def test_the_best_epoch_is_the_first_with_the_best_figure(
    values: list[float | None], higher: bool, best: int
) -> None:
    history = [{"epoch": index, "val_x": value} for index, value in enumerate(values, start=1)]
    assert best_epoch(history, "val_x", higher) == best


def test_every_opening_of_the_test_split_is_recorded_and_going_on_opens_it_no_more(run: Run) -> None:
    begin = datetime.now(UTC).replace(microsecond=0)
    assert run.openings() == []
    stages.evaluate(run, reason="first look")
    stages.train(small_experiment(), prepared(small_experiment())[1], run)
    assert run.read().state == "evaluated"
    stages.evaluate(run, reason="not needed", again=False)
    assert [opening["reason"] for opening in run.openings()] == ["first look"]
    stages.evaluate(run, reason="second look")
    assert [opening["reason"] for opening in run.openings()] == ["first look", "second look"]
    assert run.openings()[0]["model"] == weights(run, "best")
    first, second = (datetime.fromisoformat(opening["time"]) for opening in run.openings())
    assert begin <= first <= second <= datetime.now(UTC)


def test_training_never_reads_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = small_experiment()
    run, packed = prepared(experiment)
    for path in (packed.folder / "test").iterdir():
        path.unlink()
    assert stages.train(experiment, packed, run).epochs == 3


def test_packed_data_are_shared_by_runs_with_other_training() -> None:
    first = prepared(small_experiment(), "one")[1]
    second = prepared(small_experiment(loss="focal", seed=3), "two")[1]
    third = prepared(small_experiment(preprocess=[{"name": "resize", "size": 24}]), "three")[1]
    assert first == second
    assert third.fingerprint != first.fingerprint
    assert len([path for path in homes.packed().iterdir() if path.is_dir()]) == 2


def folder_experiment(folder: Path, **changes: object) -> Experiment:
    return parse(
        {
            "dataset": {"name": "image_folder", "path": str(folder)},
            "architecture": {"name": "cnn", "widths": [4]},
            "split": {"val": 0.3, "test": 0.3},
            **changes,
        }
    )


def test_a_file_that_changes_between_hashing_and_packing_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    experiment = folder_experiment(patches(tmp_path, 40))
    raw = stages.fetch(experiment)
    changed = tmp_path / "b" / "0.png"
    Image.fromarray(np.full((12, 12, 3), 7, np.uint8)).save(changed)
    with pytest.raises(DataError, match=rf"{changed} changed while .* Run again"):
        stages.pack(experiment, raw)
    assert [path.name for path in homes.packed().iterdir() if path.is_dir()] == []
    store = PackedStore(stages.pack(experiment, stages.fetch(experiment)).folder)
    darkest = [store.split("train"), store.split("val"), store.unseal_test()]
    assert min(split.gather(np.arange(len(split))).mean((1, 2, 3)).min() for split in darkest) == 7


def test_a_file_that_goes_away_while_it_is_packed_is_named(tmp_path: Path) -> None:
    experiment = folder_experiment(patches(tmp_path, 40))
    raw = stages.fetch(experiment)
    for index in (0, 1):
        (tmp_path / ("a" if index else "b") / f"{index}.png").unlink()
    with pytest.raises(DataError, match=r"[01]\.png, and 1 more, changed while"):
        stages.pack(experiment, raw)


def test_the_same_files_in_two_places_are_packed_each_from_its_own(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    shutil.copytree(patches(here, 40), there)
    raw = stages.fetch(folder_experiment(here))
    other = stages.fetch(folder_experiment(there))
    assert raw.digest == other.digest
    shutil.rmtree(there)
    store = PackedStore(stages.pack(folder_experiment(here), raw).folder)
    assert store.manifest.classes == ("a", "b")


def test_another_version_of_a_preprocessing_packs_anew_and_the_manifest_tells_its_parameters_alone() -> None:
    experiment = small_experiment(preprocess=[{"name": "resize", "size": 24}])
    raw = stages.fetch(experiment)
    registry = installed()
    key = ("transform", "resize")
    newer = replace(registry.components[key], component=replace(registry.get(Transform, "resize"), version=2))
    first = stages.pack(experiment, raw)
    second = stages.pack(experiment, raw, replace(registry, components=registry.components | {key: newer}))
    assert first.folder != second.folder
    for packed in (first, second):
        assert PackedStore(packed.folder).manifest.preprocess == (experiment.preprocess[0].model_dump(),)


def test_a_model_that_training_has_since_replaced_is_evaluated_anew(run: Run) -> None:
    first = stages.evaluate(run)
    (run.folder / "metrics.json").write_text(json.dumps(first.metrics | {"model": "another"}))
    assert stages.evaluate(run, again=False) == first
    assert len(run.openings()) == 2


def test_evaluating_an_interrupted_run_leaves_it_interrupted() -> None:
    experiment = small_experiment()
    run, packed = prepared(experiment)
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(patch, saves=1)
        with pytest.raises(KeyboardInterrupt):
            stages.train(experiment, packed, run)
    stages.evaluate(run)
    assert run.read().state == "training"


def test_a_run_goes_on_only_with_the_data_it_began_with(tmp_path: Path) -> None:
    experiment = parse(
        {
            "dataset": {"name": "image_folder", "path": str(patches(tmp_path, 40))},
            "architecture": {"name": "cnn", "widths": [4]},
            "split": {"val": 0.3, "test": 0.3},
            "training": {"epochs": 2},
        }
    )
    run = trained(experiment)
    before = run.read()
    patches(tmp_path, 60)
    with pytest.raises(RunError, match="The data of run run have changed since it began"):
        stages.train(experiment, preprocessed(experiment), run)
    assert run.read() == before


def test_damaged_training_data_are_refused() -> None:
    experiment = small_experiment()
    run, packed = prepared(experiment)
    shard = packed.folder / "train" / "images-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"images-00000\.npy is missing or damaged"):
        stages.train(experiment, packed, run)


def test_the_history_is_whole_after_a_kill_between_checkpoint_and_history(run: Run) -> None:
    experiment = small_experiment()
    (run.folder / "history.json").write_text(json.dumps(run.history()[:-1]))
    stages.train(experiment, prepared(experiment)[1], run)
    assert [entry["epoch"] for entry in run.history()] == [1, 2, 3]


def test_each_session_of_a_run_is_recorded() -> None:
    experiment = small_experiment()
    run, packed = prepared(experiment)
    with pytest.MonkeyPatch.context() as patch:
        _stop_after(patch, saves=2)
        with pytest.raises(KeyboardInterrupt):
            stages.train(experiment, packed, run)
    stages.train(experiment, packed, run)
    assert [session["after_epoch"] for session in run.read().sessions] == [0, 2]
    assert run.read().sessions[0]["device"] == "cpu"


def test_a_run_of_before_a_plugin_gained_a_parameter_still_goes_on() -> None:
    experiment = small_experiment()
    run = stages.start(experiment, "old")
    record = run.read()
    del record.experiment["architecture"]["dropout"]
    experiment = small_experiment(architecture={"name": "cnn", "widths": [8, 16]})
    (run.folder / "run.json").write_text(record.model_dump_json())
    assert stages.start(experiment, "old") == run


def test_an_id_that_would_leave_the_home_is_refused() -> None:
    for wrong in ("../escaped", "a/b", "", ".hidden", "x" * 200):
        with pytest.raises(RunError, match="The id of a run must be at most 120 letters"):
            stages.start(small_experiment(), wrong or " ")


def test_evaluation_may_use_another_device(run: Run) -> None:
    with pytest.raises(DeviceError, match="Got 'cuda:9'"):
        stages.evaluate(run, device="cuda:9")


def test_packed_data_that_are_gone_are_told_with_the_way_to_get_them_back(run: Run) -> None:
    shutil.rmtree(str(run.read().packed))
    with pytest.raises(DataError, match="packed data of run run are gone.*histoflow train --resume run"):
        stages.evaluate(run)


def test_a_loss_that_explodes_in_validation_is_told_as_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    from histoflow.engine import step as engine

    experiment = small_experiment()
    run, packed = prepared(experiment)
    take = engine.Step.take

    def explode(step: engine.Step, batch: Batch) -> Tensor:
        mean = take(step, batch)
        step._trainee.model[-1].weight.data.fill_(float("nan"))  # type: ignore[index, union-attr]
        return mean.nan_to_num(1.0)

    monkeypatch.setattr(engine.Step, "take", explode)
    with pytest.raises(DivergedError, match=r"val_loss of epoch 1 is nan\..*Lower optimizer\.lr"):
        stages.train(experiment, packed, run)
    assert run.history() == []


def test_a_loss_that_explodes_in_a_step_is_told_with_the_images_of_its_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from histoflow.engine import step as engine

    experiment = small_experiment()
    run, packed = prepared(experiment)
    take, taken = engine.Step.take, []

    def explode(step: engine.Step, batch: Batch) -> Tensor:
        taken.append(batch)
        return take(step, batch) * (float("nan") if len(taken) == 3 else 1)

    monkeypatch.setattr(engine.Step, "take", explode)
    with pytest.raises(
        DivergedError, match=r"loss of epoch 1, step 3, is nan.* had 32 images, such as .*diverged\.json"
    ):
        stages.train(experiment, packed, run)
    told = json.loads((run.folder / "diverged.json").read_text())
    split = PackedStore(packed.folder).split("train")
    assert (told["epoch"], told["step"], len(told["images"])) == (1, 3, 32)
    label_of = dict(zip(split.sources.tolist(), split.labels.tolist(), strict=True))
    assert [label_of[image] for image in told["images"]] == taken[2].labels.tolist()


def test_a_damaged_checkpoint_is_refused_by_training_and_evaluation(run: Run) -> None:
    experiment = small_experiment()
    _, packed = prepared(experiment)
    for path in run.checkpoints.glob("*/weights.safetensors"):
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is missing or was changed"):
        stages.train(experiment, packed, run)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is missing or was changed"):
        stages.evaluate(run)
    assert run.openings() == [], "the seal stays closed for a model that cannot be used"


def test_changed_test_data_are_refused(run: Run) -> None:
    labels = next(homes.packed().glob("*/test/labels.npy"))
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match="is missing or damaged: its content"):
        stages.evaluate(run)


def test_a_run_is_worked_on_by_one_process_at_a_time() -> None:
    experiment = small_experiment()
    run, packed = prepared(experiment)
    script = f"from histoflow.runs import Run; from pathlib import Path\nwith Run(Path({str(run.folder)!r})).lock(): print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        other.stdout.readline()
        assert run.is_busy()
        with pytest.raises(RunError, match="being worked on by another process"):
            stages.train(experiment, packed, run)
        other.communicate(b"\n")
    assert not run.is_busy()
    assert stages.train(experiment, packed, run).epochs == 3


def test_what_is_out_of_order_is_told_with_the_next_step() -> None:
    run = stages.start(small_experiment(), "fresh")
    with pytest.raises(CheckpointError, match="no checkpoint to evaluate.*histoflow train --resume fresh"):
        stages.evaluate(run)
    with pytest.raises(RunError, match="has not been evaluated.*histoflow evaluate fresh"):
        stages.report(run)


def test_a_run_goes_on_only_with_its_own_experiment() -> None:
    stages.start(small_experiment(), "mine")
    with pytest.raises(RunError, match="Run mine is of another experiment"):
        stages.start(small_experiment(seed=1), "mine")


def test_data_that_turn_out_not_to_fit_the_network_stop_the_run_before_training(tmp_path: Path) -> None:
    experiment = parse(
        {
            "dataset": {"name": "image_folder", "path": str(patches(tmp_path, 40))},
            "architecture": "cnn5",
            "split": {"val": 0.3, "test": 0.3},
        }
    )
    run, packed = prepared(experiment)
    with pytest.raises(ExperimentError, match="32×32 pixels or more. Got 12×12"):
        stages.train(experiment, packed, run)
