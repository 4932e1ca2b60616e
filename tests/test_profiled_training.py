"""A run that is profiled: what lies in its folder, and that it is trained as any other."""

from __future__ import annotations

import json
from contextlib import closing

from histoflow import stages
from histoflow.engine import checkpoint
from histoflow.runs import Run
from support import prepared, small_experiment


def trained(name: str, *, profile: bool, interrupted: bool = False) -> Run:
    experiment = small_experiment(training={"epochs": 2, "batch_size": 6})
    run, packed = prepared(experiment, name)
    if interrupted:
        with closing(stages.training(experiment, packed, run)) as epochs:
            next(epochs)
    for _ in stages.training(experiment, packed, run, profile=profile):
        pass
    return run


def weights(run: Run) -> str:
    saved = checkpoint.find(run.checkpoints, "last")
    assert saved is not None
    return saved.model_hash


def test_it_is_trained_to_the_same_weights_and_tells_where_the_time_went() -> None:
    profiled = trained("profiled", profile=True)
    assert weights(profiled) == weights(trained("plain", profile=False))
    summary = (profiled.folder / "profile" / "summary.txt").read_text()
    assert summary.startswith("Where the time of an epoch goes: cnn, batches of 6, ")
    for row in ("data", "backward", "validation", "checkpoint copies", "aten::convolution_backward"):
        assert f"\n{row} " in summary
    assert json.loads((profiled.folder / "profile" / "trace.json").read_text())["traceEvents"]


def test_one_that_goes_on_can_be_profiled_and_one_that_is_over_has_nothing_to_tell() -> None:
    resumed = trained("resumed", profile=True, interrupted=True)
    assert (resumed.folder / "profile" / "summary.txt").is_file()
    assert weights(resumed) == weights(trained("plain", profile=False))
    over = trained("plain", profile=True)
    assert not (over.folder / "profile" / "summary.txt").exists()
