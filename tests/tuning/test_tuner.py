"""A study hands out trials, remembers what became of them, and goes on where it was interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from histoflow.data.store import PackedStore
from histoflow.engine import device
from histoflow.errors import DivergedError, RunError, TuningError, UserError
from histoflow.runs import Run
from histoflow.tuning import study as studies
from histoflow.tuning.trial import train_trial
from histoflow.tuning.tuner import Tuner, tuning_of
from tuning_support import begun, packed, points, search, small_tuning, train

RANGES = {"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "training.batch_size": [32, 64]}


def states(tuner: Tuner) -> list[str]:
    return [trial.state.name for trial in tuner.trials()]


def test_a_grid_is_tried_whole_and_the_best_of_it_is_found() -> None:
    study = begun(small_tuning())
    search(study)
    with tuning_of(study) as tuner:
        assert points(tuner) == tuner.space.grid()
        best, figures = tuner.require_best(), [trial.value for trial in tuner.trials()]
        assert best.value == min(value for value in figures if value is not None)
        experiment = tuner.write_best()
    assert experiment.training.epochs == 3, "the best is to be trained as the experiment says"
    assert experiment.training.batch_size == best.params["training.batch_size"]
    assert (study.folder / "best.yaml").is_file()


def test_trials_cannot_see_the_test_split() -> None:
    """It may as well not be there: nothing reads it, and no trial's folder records an opening."""
    study = begun(small_tuning())
    store = PackedStore(packed(study.tuning().experiment).folder)
    shards = [path for path in (store.folder / "test").rglob("*") if path.is_file()]
    assert shards
    for shard in shards:
        shard.unlink()
    with tuning_of(study) as tuner:
        tuner.prepare()
        order = tuner.next()
        assert order is not None
        tuner.tell(order, train(order, packed(study.tuning().experiment)))
        assert states(tuner)[0] == "COMPLETE"
    assert not list(study.folder.rglob("openings.json"))


def test_a_trial_is_a_run_with_the_fidelity_that_was_asked_for() -> None:
    study = begun(small_tuning(fidelity={"training.epochs": 1, "training.share": 0.5}))
    search(study, trials=1)
    run = study.trial_run("trial-0000")
    assert run.read().experiment["training"]["share"] == 0.5
    assert len(run.history()) == 1
    assert not run.checkpoints.exists(), "what was told is not trained on, and its checkpoints take room"


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_in_two_sittings_proposes_what_it_would_have_in_one(sampler: str) -> None:
    tuning = small_tuning(sampler=sampler, space=RANGES, derive=False, trials=4)
    whole, broken = begun(tuning, "whole"), begun(tuning, "broken")
    search(whole)
    search(broken, trials=2)
    search(broken)
    with tuning_of(whole) as one, tuning_of(broken) as two:
        assert points(one) == points(two)
        assert len(points(one)) == 4
        assert [trial.values for trial in one.trials()] == [trial.values for trial in two.trials()]


def test_a_trial_that_was_interrupted_goes_on_from_its_checkpoint_and_comes_to_the_same() -> None:
    tuning = small_tuning(fidelity={"training.epochs": 3})
    whole, broken = begun(tuning, "whole"), begun(tuning, "broken")
    data = packed(tuning.experiment)
    search(whole, trials=1)
    with tuning_of(broken) as tuner:
        tuner.prepare()
        order = tuner.next()
        assert order is not None
        epochs = train_trial(order, data)
        assert [entry["epoch"] for entry in islice(epochs, 1)] == [1]
        epochs.close()  # type: ignore[attr-defined]
    with tuning_of(broken) as tuner:
        tuner.prepare()
        again = tuner.next()
        assert again == order, "the trial that was under way comes first, in the same folder"
        assert [entry["epoch"] for entry in train_trial(again, data)] == [2, 3]
    assert losses(broken.trial_run("trial-0000")) == losses(whole.trial_run("trial-0000"))


@pytest.mark.parametrize(("search", "threads"), [({}, 8), ({"parallel": 4}, 2), ({"parallel": 99}, 1)])
def test_trials_that_train_side_by_side_share_the_cores(
    search: dict[str, Any], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "cores", lambda: 8)
    study = begun(small_tuning(**search))
    data = packed(study.tuning().experiment)
    with tuning_of(study) as tuner:
        tuner.prepare()
        order = tuner.next()
    assert order is not None
    list(train_trial(order, data))
    (session,) = Run(order.folder).read().sessions
    assert session["plan"]["threads"] == threads


def losses(run: Run) -> list[tuple[float, float]]:
    return [(entry["train_loss"], entry["val_loss"]) for entry in run.history()]


def test_a_process_that_died_between_two_draws_leaves_a_trial_that_is_drawn_to_its_end() -> None:
    study = begun(small_tuning(sampler="random", space=RANGES, derive=False, trials=1))
    with tuning_of(study) as tuner:
        tuner.remembered.ask()
    with tuning_of(study) as tuner:
        tuner.prepare()
        order = tuner.next()
        assert order is not None
        assert tuner.next() is None
        assert set(points(tuner)[0]) == set(RANGES)


@pytest.mark.parametrize("pruner", ["median", "hyperband", "asha"])
def test_a_trial_that_falls_behind_is_pruned(pruner: str) -> None:
    rates = [0.003, 0.002, 0.001, 0.004, 50.0]
    space = {"optimizer": [{"name": "sgd", "lr": {"choices": rates}}]}
    study = begun(small_tuning(space=space, pruner=pruner, fidelity={"training.epochs": 6}))
    search(study)
    with tuning_of(study) as tuner:
        assert TrialState.PRUNED in [trial.state for trial in tuner.trials()]
        assert tuner.require_best().state == TrialState.COMPLETE
        worst = tuner.trials()[-1]
    assert worst.state == TrialState.PRUNED
    assert worst.user_attrs["epochs"] < 6
    assert len(study.trial_run("trial-0004").history()) == worst.user_attrs["epochs"]


def test_a_configuration_that_diverges_has_failed_and_the_study_goes_on() -> None:
    study = begun(small_tuning())
    data = packed(study.tuning().experiment)
    with tuning_of(study) as tuner:
        tuner.prepare()
        first, second = tuner.next(), tuner.next()
        assert first is not None
        assert second is not None
        tuner.tell(first, DivergedError("the loss is nan"))
        tuner.tell(second, train(second, data))
        assert tuner.require_best().number == 1
    with tuning_of(study) as tuner:
        tuner.prepare()
        assert len(tuner.trials()) == 4, "it would diverge again"
        assert tuner.trials()[0].user_attrs["error"] == "the loss is nan"


def test_what_failed_by_bad_luck_is_tried_again_in_the_same_folder_when_the_study_goes_on() -> None:
    study = begun(small_tuning(trials=1))
    with tuning_of(study) as tuner:
        tuner.prepare()
        order = tuner.next()
        assert order is not None
        tuner.tell(order, OSError("the file server is away"))
        assert tuner.next() is None
    search(study)
    with tuning_of(study) as tuner:
        tuner.prepare()
        assert states(tuner) == ["FAIL", "COMPLETE"]
        assert points(tuner)[0] == points(tuner)[1]
    assert [path.name for path in study.trials.iterdir()] == ["trial-0000"]


def test_three_failures_in_a_row_that_no_setting_is_to_blame_for_end_the_study() -> None:
    study = begun(small_tuning())
    with tuning_of(study) as tuner:
        tuner.prepare()
        orders = [order for _ in range(3) if (order := tuner.next()) is not None]
        tuner.tell(orders[0], OSError("the disk"))
        tuner.tell(orders[1], OSError("the disk"))
        with pytest.raises(TuningError, match="histoflow tune --resume study"):
            tuner.tell(orders[2], OSError("the disk"))


def test_a_study_without_a_finished_trial_says_why_there_is_no_best() -> None:
    study = begun(small_tuning())
    with tuning_of(study) as tuner:
        tuner.prepare()
        while (order := tuner.next()) is not None:
            tuner.tell(order, DivergedError(f"nan at {order.number}"))
        with pytest.raises(
            TuningError, match="(?s)No trial of study study came to its end.*nan at 0.*nan at 3"
        ):
            tuner.require_best()


def test_of_several_objectives_the_best_is_not_beaten_in_all_of_them() -> None:
    study = begun(small_tuning(objective=["val_roc_auc", "val_loss"]))
    search(study)
    with tuning_of(study) as tuner:
        best = tuner.require_best()
        assert best.number in tuner.front()
        assert best.values[0] == max(trial.values[0] for trial in tuner.trials())
        assert tuner.higher_is_better == (True, False)


# ── The study's folder ──────────────────────────────────────────────────────────────────────────


def test_a_study_goes_on_only_with_the_search_it_began_with() -> None:
    begun(small_tuning())
    assert begun(small_tuning(trials=2, parallel=3)).read().search["parallel"] == 3
    with pytest.raises(RunError, match="was begun with another seed"):
        begun(small_tuning(seed=1))
    with pytest.raises(RunError, match="was begun with another experiment"):
        begun(small_tuning(experiment={"seed": 8}))


def test_a_study_is_driven_by_one_process_at_a_time() -> None:
    study = begun(small_tuning())
    script = f"""
from pathlib import Path
from histoflow.tuning.study import Study
with Study(Path({str(study.folder)!r})).lock():
    print("held")
"""
    other = [sys.executable, "-c", script]
    with study.lock():
        refused = subprocess.run(other, capture_output=True, text=True)
    assert f"Study study is being worked on by another process (process {os.getpid()}" in refused.stderr
    assert subprocess.run(other, capture_output=True, text=True).stdout == "held\n"


def test_a_study_goes_on_only_with_the_data_it_began_with() -> None:
    study = begun(small_tuning())
    study.hold_data(Path("packed"), "a" * 64)
    study.hold_data(Path("packed"), "a" * 64)
    with pytest.raises(RunError, match="The data of study study have changed"):
        study.hold_data(Path("packed"), "b" * 64)


def test_a_study_is_found_by_part_of_its_id() -> None:
    begun(small_tuning(), "monday")
    begun(small_tuning(), "tuesday")
    assert studies.find("mon").id == "monday"
    assert studies.find("latest").id == "tuesday"
    with pytest.raises(RunError, match="fits 2 studies"):
        studies.find("day")
    with pytest.raises(RunError, match="There is no study 'june'"):
        studies.find("june")


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", "must be the address of a database"),
        ("oracle9://x/y", "must be the address of a database"),
    ],
)
def test_a_database_that_cannot_be_opened_is_told(storage: str, message: str) -> None:
    study = begun(small_tuning(storage=storage))
    with pytest.raises(UserError, match=message), tuning_of(study):
        pass


def test_a_study_may_keep_its_trials_in_a_database_of_your_own(tmp_path: Path) -> None:
    study = begun(small_tuning(storage=f"sqlite:///{tmp_path / 'mine.db'}", trials=1))
    search(study)
    assert (tmp_path / "mine.db").is_file()
    assert not (study.folder / "study.db").exists()
    shutil.rmtree(study.trials)
    with tuning_of(study) as tuner:
        assert states(tuner) == ["COMPLETE"]


def test_a_damaged_or_newer_record_is_told(tmp_path: Path) -> None:
    study = begun(small_tuning())
    study.update(schema_version=99)
    with pytest.raises(RunError, match="made by a newer histoflow"):
        study.read()
    record: Any = study.folder / "study.json"
    record.write_text("{")
    with pytest.raises(RunError, match="missing or damaged"):
        study.read()
