"""Each switch of training through a whole run: it is stopped in the middle, goes on, and is evaluated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from histoflow import progress, stages
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.engine.device import machine_of
from histoflow.errors import DataError, DeviceError, RunError
from histoflow.experiment import Experiment
from histoflow.runs import Run
from histoflow.stages import Packed
from support import prepared, small_experiment, trained
from test_training import SignalAt, figures, weights

BF16 = machine_of(torch.device("cpu")).bf16
USUAL = {"epochs": 3, "batch_size": 32}

SWITCHES: dict[str, dict[str, Any]] = {
    "ema": {"training": USUAL | {"average": "ema", "average_decay": 0.9}},
    "swa": {"training": USUAL | {"average": "swa", "average_from": 0.4}},
    "accumulate": {"training": USUAL | {"accumulate": 2}},
    "clip": {"training": USUAL | {"clip": 0.1}},
    "drop_last": {"training": USUAL | {"drop_last": True}},
    "balanced": {"training": USUAL | {"sampler": "balanced"}},
    "growing": {"training": USUAL | {"start_side": 16, "full_side_from": 1.0}},
    "groups": {
        "training": USUAL | {"groups": [{"match": "[01].*", "lr": 0.1, "frozen_epochs": 1}]},
        "scheduler": {"name": "cosine", "warm_up": 0.2},
    },
    "plateau": {"scheduler": {"name": "plateau", "patience": 1}},
    "mixup": {"augment": ["flips", "right_angles", "mixup"]},
    "cutmix": {"augment": [{"name": "color_jitter"}, "flips", "cutmix"]},
    "streamed": {"compute": {"device": "cpu", "data": "stream"}},
    "in memory": {"compute": {"device": "cpu", "data": "device"}},
    "contiguous": {"compute": {"device": "cpu", "channels_last": "off"}},
    "bf16": {"compute": {"device": "cpu", "precision": "bf16"}},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """The run that was trained with these changes in one go."""
    home = tmp_path_factory.mktemp("undisturbed")
    runs: dict[str, Run] = {}

    def run(name: str, **changes: Any) -> Run:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HISTOFLOW_HOME", str(home))
            return runs.get(name) or runs.setdefault(
                name, trained(small_experiment(**changes), f"run-{len(runs)}")
            )

    return run


def stopped(experiment: Experiment, at: int) -> tuple[Run, Packed]:
    """A run that was interrupted at this step."""
    run, packed = prepared(experiment, "stopped")
    with pytest.raises(KeyboardInterrupt), progress.listening(SignalAt(at)):
        stages.train(experiment, packed, run)
    return run, packed


@pytest.mark.parametrize("name", SWITCHES)
def test_a_run_with_this_switch_goes_on_to_the_same_weights_and_is_evaluated(
    name: str, undisturbed: Callable[..., Run]
) -> None:
    if name == "bf16" and not BF16:
        pytest.skip("this CPU has no bf16")
    experiment, whole = small_experiment(**SWITCHES[name]), undisturbed(name, **SWITCHES[name])
    run, packed = stopped(experiment, at=6)
    stages.train(experiment, packed, run)
    assert weights(run) == weights(whole)
    assert figures(run) == figures(whole)
    assert stages.evaluate(run).metrics == stages.evaluate(whole).metrics


def test_the_switches_change_what_is_trained(undisturbed: Callable[..., Run]) -> None:
    """None of them is merely accepted. Where images lie, and how, changes nothing but rounding."""
    same = {"in memory", "contiguous"} | (set() if BF16 else {"bf16"})
    plain = weights(undisturbed("plain"))
    for name in SWITCHES.keys() - same:
        assert weights(undisturbed(name, **SWITCHES[name])) != plain, name
    assert weights(undisturbed("in memory", **SWITCHES["in memory"])) == plain


def test_frozen_parameters_stay_as_they_were_and_then_train() -> None:
    frozen = {"epochs": 2, "batch_size": 32, "groups": [{"match": "[01].*", "frozen_epochs": 1}]}
    experiment = small_experiment(training=frozen, augment=[])
    run, packed = prepared(experiment, "frozen")
    seen = []
    for _ in stages.training(experiment, packed, run):
        saved = checkpoint.find(run.checkpoints, "last")
        while saved is None or saved.epoch < len(seen) + 1:  # it is written in the background
            saved = checkpoint.find(run.checkpoints, "last")
        seen.append(checkpoint.load_file(saved.folder / "weights.safetensors"))
    first = "0.weight"
    last = list(seen[0])[-1]
    assert not torch.equal(seen[0][first], seen[1][first]), "it trains in the second epoch"
    assert not torch.equal(seen[0][last], seen[1][last])
    whole = trained(small_experiment(training={"epochs": 1, "batch_size": 32}, augment=[]), "whole")
    saved = checkpoint.find(whole.checkpoints, "last")
    assert saved is not None
    assert not torch.equal(checkpoint.load_file(saved.folder / "weights.safetensors")[first], seen[0][first])


def test_how_a_run_is_computed_is_decided_once_and_kept_to() -> None:
    experiment = small_experiment()
    run, packed = stopped(experiment, at=2)
    plan = run.read().plan
    assert plan is not None
    assert (plan["precision"], plan["batch_size"], plan["data"]) == ("fp32", 32, "host")
    run.update(plan=plan | {"threads": plan["threads"] + 1})  # as if begun on a machine with a core more
    stages.train(experiment, packed, run)
    assert [session["plan"]["threads"] for session in run.read().sessions] == [
        plan["threads"], plan["threads"] + 1,
    ]  # fmt: skip


def test_a_machine_that_cannot_go_on_in_the_same_way_says_so(caplog: pytest.LogCaptureFixture) -> None:
    experiment = small_experiment()
    run, packed = stopped(experiment, at=2)
    run.update(plan=(run.read().plan or {}) | {"precision": "tf32"})  # begun on a GPU
    with caplog.at_level("INFO"):
        stages.train(experiment, packed, run)
    assert "Computed with other arithmetic than before" in caplog.text
    assert run.read().state == "trained"


def test_what_cannot_be_computed_here_is_refused_before_anything_is_trained() -> None:
    experiment = small_experiment(compute={"device": "cpu", "precision": "fp16"})
    run, packed = prepared(experiment, "impossible")
    with pytest.raises(DeviceError, match="compute.precision must be one of auto, fp32"):
        stages.train(experiment, packed, run)
    assert not run.checkpoints.exists()


def test_weighted_drawing_of_images_without_weights_is_refused() -> None:
    with pytest.raises(DataError, match="training.sampler may be weighted only where"):
        trained(small_experiment(training=USUAL | {"sampler": "weighted"}), "weighted")


def test_a_batch_larger_than_the_set_is_the_whole_set() -> None:
    run = trained(small_experiment(training={"epochs": 1, "batch_size": 5000}), "large")
    assert len(run.history()) == 1


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_a_class_that_training_lacks_is_found_and_the_others_are_trained(
    sampler: str, tmp_path: Path
) -> None:
    for split, label, count in (("train", "a", 12), ("val", "a", 3), ("val", "b", 3), ("test", "b", 3)):
        (tmp_path / split / label).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng([number, len(split), ord(label)]).integers(
                0, 256, (32, 32, 3), np.uint8
            )
            Image.fromarray(pixels).save(tmp_path / split / label / f"{number}.png")
    for split, label in (("train", "b"), ("test", "a")):
        (tmp_path / split / label).mkdir()
        (tmp_path / split / label / "damaged.png").write_bytes(b"no image")
    experiment = small_experiment(
        dataset={"name": "image_folder", "path": str(tmp_path)},
        training={"epochs": 1, "batch_size": 4, "sampler": sampler},
        metrics=["accuracy"],
    )
    run = trained(experiment, "lacking")
    assert len(run.history()) == 1
    findings = " ".join(
        finding.message for finding in PackedStore(Path(str(run.read().packed))).manifest.findings
    )
    assert "b" in findings
    assert "train" in findings


def test_a_run_that_another_process_trains_is_not_touched(home: Path) -> None:
    run, packed = prepared(small_experiment(), "held")
    script = "import sys; from pathlib import Path; from histoflow.runs import Run\nwith Run(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(run.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="Run held"):
            stages.train(small_experiment(), packed, run)
        holder.stdin.close()
    assert run.history() == []
