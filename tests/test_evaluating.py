"""What an evaluation keeps when something fails or ends it: figures first, and never those of two models."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from histoflow import models, progress, stages
from histoflow.comparing import compare_runs
from histoflow.errors import DataError, RunError
from histoflow.evaluating import evaluate_run
from histoflow.evaluation import degraded, predictions
from histoflow.registry import Registry, installed
from histoflow.runs import Run
from support import small_experiment, trained

SECOND = torch.tensor([1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run that was evaluated, with a look at its robustness."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(tmp_path_factory.mktemp("home")))
        experiment = small_experiment(
            dataset={"name": "tissue", "classes": 2, "size": 16, "images": 90, "slides": 15},
            training={"epochs": 1, "batch_size": 32},
            metrics=["accuracy"],
            evaluation={"robustness": True, "robustness_images": 10, "gallery": 0, "embedding": False},
        )
        run = trained(experiment, "whole")
        stages.evaluate(run)
        yield run


@pytest.fixture
def run(whole: Run, tmp_path: Path) -> Run:
    """A copy of it."""
    shutil.copytree(whole.folder, tmp_path / "whole")
    return Run(tmp_path / "whole")


class At:
    """Listens, and fails as soon as this work begins."""

    def __init__(self, title: str, error: BaseException) -> None:
        self.title, self.error, self.said = title, error, list[str]()

    def track(self, title: str, total: int | None, unit: str) -> AbstractContextManager[progress.Advance]:
        if title == self.title:
            raise self.error
        return nullcontext(lambda amount=1: None)

    def tell(self, figures: progress.Figures) -> None: ...

    def say(self, message: str) -> None:
        self.said.append(message)


def figures(run: Run) -> dict[str, Any]:
    metrics = run.metrics()
    assert metrics is not None
    return metrics


def test_a_look_that_fails_leaves_a_note_and_costs_nothing_else(run: Run) -> None:
    before, at = figures(run), At("Testing robustness", RuntimeError("no deterministic form"))
    with progress.listening(at):
        told = stages.evaluate(run).metrics
    assert told == figures(run) == before | {"robustness": {"note": "no deterministic form"}}
    assert at.said == ["Robustness was not looked at: no deterministic form"]
    assert "no deterministic form" in stages.report(run)[0].read_text()


def test_figures_stand_before_anything_else_is_looked_at(run: Run) -> None:
    before = figures(run)
    (run.folder / "metrics.json").unlink()
    run.update(state="trained")
    with progress.listening(At("Testing robustness", KeyboardInterrupt())), pytest.raises(KeyboardInterrupt):
        stages.evaluate(run)
    assert run.read().state == "evaluated"
    kept = stages.evaluate(run, again=False).metrics
    assert kept["scores"] == before["scores"]
    assert "ended before this was looked at" in kept["robustness"]["note"]
    assert "histoflow evaluate whole" in kept["robustness"]["note"]
    assert len(run.openings()) == 2


def test_a_run_that_has_its_figures_is_evaluated_though_it_was_ended_before_it_said_so(run: Run) -> None:
    run.update(state="trained")
    stages.evaluate(run, again=False)
    assert run.read().state == "evaluated"
    assert len(run.openings()) == 1


def test_every_file_names_its_model_and_none_of_another_is_taken_for_its_own(run: Run) -> None:
    model, kept = figures(run)["model"], predictions.load(run.folder)
    assert {kept.model, degraded.load(run.folder).model} == {model}
    assert predictions.load(run.folder, predictions.VALIDATION).model == model
    predictions.save(
        run.folder, replace(kept, probabilities=kept.probabilities[:, ::-1].copy(), model="other")
    )
    for reading in (stages.report, models.register):
        with pytest.raises(
            DataError, match=r"predictions.npz must be of the model.*histoflow evaluate whole"
        ):
            reading(run)
    with pytest.raises(RunError, match="must be of the model whose figures the run has"):
        compare_runs(run, run)


def blind(*batches: int) -> Registry:
    """Its networks say nothing of the second image of a batch; or of those of so many images alone."""
    known = installed().components
    found = known["architecture", "cnn"]

    def said(_: nn.Module, images: tuple[Tensor], outputs: Tensor) -> Tensor:
        return outputs if batches and len(images[0]) not in batches else outputs.index_fill(0, SECOND, np.nan)

    def build(params: Any, data: Any, outputs: int) -> nn.Module:
        network: nn.Module = found.component.build(params, data, outputs)
        network.register_forward_hook(said)
        return network

    changed = replace(found, component=replace(found.component, build=build, skeleton=None))
    return Registry({**known, ("architecture", "cnn"): changed})


def test_outputs_that_are_no_numbers_are_told_with_their_image_while_the_seal_is_closed(run: Run) -> None:
    second = predictions.load(run.folder, predictions.VALIDATION).sources[1]  # type: ignore[index]
    with pytest.raises(
        DataError, match=rf"run whole must give finite.*For 1 of \d+ images.*image 1, {second}.*fp32"
    ):
        evaluate_run(stages.experiment_of(run), run, "test", blind())
    assert len(run.openings()) == 1


def test_outputs_that_are_no_numbers_under_a_condition_are_told_with_it(run: Run) -> None:
    before = figures(run)
    of_robustness = int(before["robustness"]["images"])
    told = evaluate_run(stages.experiment_of(run), run, "test", blind(of_robustness))
    note = told.pop("robustness")["note"]
    assert re.match(
        r"Under mild .+ \(.+\) the network's outputs must be finite.*Those of 1 of 10 images", note
    )
    assert told == {part: figure for part, figure in before.items() if part != "robustness"}
