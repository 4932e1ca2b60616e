"""A profile tells where the time went, and changes nothing that is trained."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from histoflow.engine.batch import Batch
from histoflow.engine.fit import Epoch, Position, fit
from histoflow.engine.profile import Profile, Unprofiled, prepare
from histoflow.engine.profile_table import Costs, Operator, table
from histoflow.engine.step import Manner, Trainee

CPU = torch.device("cpu")
BEGIN = Position()
PHASES = ("data", "forward and loss", "backward", "optimizer", "rest of the step")


class Slow:
    """Batches that take a millisecond each."""

    is_resident = False

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        for step in range(first_step, self.steps):
            time.sleep(0.001)
            images = torch.randn(8, 3, generator=torch.Generator().manual_seed(100 * epoch + step))
            yield Batch(images, (images.sum(dim=1) > 0).long())


def trainee() -> Trainee:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    return Trainee(network, nn.CrossEntropyLoss(reduction="none"), optimizer, scheduler)


def validate(network: nn.Module) -> dict[str, float | None]:
    time.sleep(0.02)
    return {"val_loss": 1.0}


def train(
    profile: Unprofiled, *, steps: int, epochs: int = 1, start: Position = BEGIN, parts: int = 1
) -> Trainee:
    prepare()
    ours = trainee()
    moments = fit(
        profile.trainee(ours),
        profile.batches(Slow(steps)),
        profile.validate(validate),
        seed=9,
        epochs=epochs,
        start=start,
        manner=Manner(parts=parts),
    )
    for moment in moments:
        assert isinstance(moment, Epoch)
        with profile.copying():
            pass
        profile.epoch_ended()
    profile.end()
    return ours


def rows(folder: Path) -> dict[str, list[str]]:
    """The cells of the table's rows, by the name that each begins with."""
    lines = (folder / "summary.txt").read_text().splitlines()
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines]
    return {row[0]: row[1:] for row in cells if len(row) > 2}


def trace(folder: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads((folder / "trace.json").read_text())["traceEvents"]
    return events


def named(events: list[dict[str, Any]], name: str) -> int:
    return sum(event.get("name") == name and event.get("cat") == "user_annotation" for event in events)


def test_the_table_tells_each_phase_and_the_trace_holds_ten_steps(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    train(Profile(folder, "tiny, batches of 8", CPU), steps=32)
    told = rows(folder)
    assert set(PHASES) <= set(told)
    assert "tiny, batches of 8, 32 steps\nMeans of 14 steps without" in (folder / "summary.txt").read_text()
    assert float(told["data"][2]) >= 1.0, "a batch takes a millisecond"
    assert float(told["validation"][1]) >= 0.02
    assert "checkpoint copies" in told
    whole = sum(float(told[name][1]) for name in (*PHASES, "validation", "checkpoint copies"))
    assert whole == pytest.approx(float(told["an epoch"][1]), abs=0.01)
    assert "aten::addmm" in told
    events = trace(folder)
    assert [named(events, name) for name in ("data", "forward", "loss")] == [10, 10, 10]


def test_a_profiled_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    profiled = train(Profile(tmp_path / "profile", "", CPU), steps=20, epochs=2)
    plain = train(Unprofiled(), steps=20, epochs=2)
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, profiled.model.state_dict()[name]), name
    assert set(profiled.model.state_dict()) == set(plain.model.state_dict())


def test_of_short_epochs_the_first_is_recorded_and_later_ones_make_the_means(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    train(Profile(folder, "", CPU), steps=4, epochs=9)
    assert named(trace(folder), "forward") == 4
    assert "4 steps\nMeans of 12 steps without the profiler" in (folder / "summary.txt").read_text()


def test_a_training_too_short_to_tell_apart_says_what_its_means_are_of(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    train(Profile(folder, "", CPU), steps=1)
    assert named(trace(folder), "forward") == 1
    assert "Means of 1 steps partly under the profiler" in (folder / "summary.txt").read_text()


def test_a_training_that_goes_on_within_an_epoch_is_profiled_from_there(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    train(Profile(folder, "", CPU), steps=30, start=Position(step=28, images=1), parts=2)
    assert named(trace(folder), "forward") == 4, "two steps in two parts"
    assert ", 30 steps\n" in (folder / "summary.txt").read_text()


def test_one_that_goes_on_at_the_very_end_of_an_epoch_is_profiled_from_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    start = Position(step=3, images=24, loss=1.0, seconds=1.0)
    train(Profile(folder, "", CPU), steps=3, epochs=2, start=start)
    assert named(trace(folder), "forward") == 3


def test_an_interruption_leaves_what_was_measured_and_no_step_nothing(tmp_path: Path) -> None:
    folder, none = tmp_path / "profile", tmp_path / "none"
    profile = Profile(folder, "", CPU)
    moments = fit(
        profile.trainee(trainee()), profile.batches(Slow(30)), validate, seed=9, epochs=1, pause=lambda: True
    )
    for _ in range(4):
        next(moments)
    profile.end()
    assert {"data", "backward"} <= set(rows(folder))
    Profile(none, "", CPU).end()
    assert list(none.iterdir()) == []


def test_when_it_is_over_the_optimizer_is_as_it_was(tmp_path: Path) -> None:
    ours = train(Profile(tmp_path / "profile", "", CPU), steps=2)
    assert not ours.optimizer._optimizer_step_pre_hooks
    assert not ours.optimizer._optimizer_step_post_hooks


def test_steps_that_the_device_takes_from_a_recording_are_one_row(tmp_path: Path) -> None:
    class Resident(Slow):
        is_resident = True

        def places(self, epoch: int, first_step: int = 0) -> Iterator[range]:
            yield from (range(8) for _ in range(first_step, self.steps))

    profile = Profile(tmp_path / "profile", "", CPU)
    batches = profile.batches(Resident(12))
    assert batches.is_resident
    assert [len(places) for places in batches.places(1, 2)] == [8] * 10
    profile.end()
    assert {"data", "whole step as one CUDA graph"} <= set(rows(tmp_path / "profile"))


def test_only_the_largest_operators_are_told_and_a_gpus_silence_is_explained() -> None:
    costs = Costs(phases={"data": 0.001}, aside={"validation": 0.5}, steps=500, measured=10, undisturbed=True)
    operators = [Operator(name=f"op{n}", on_gpu=False, seconds=n, calls=n) for n in range(40)]
    told = table("about", costs, operators, kernels=True)
    assert re.findall(r"^op(\d+)", told, re.M) == [str(n) for n in range(39, 24, -1)]
    assert re.search(r"^an epoch +100.0% +1.000 +1.000$", told, re.M)
    assert re.search(r"^data +50.0% +0.500 +1.000$", told, re.M)
    assert "No GPU kernel was recorded" in told
    assert "No GPU kernel" not in table("about", costs, operators, kernels=False)
    assert max(len(line) for line in told.splitlines()) <= 80
