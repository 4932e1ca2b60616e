"""A batch size and a learning rate for an experiment, on packed data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from histoflow import finding, progress, registry, stages
from histoflow.data.store import PackedStore
from histoflow.engine.device import choose_device, machine_of
from histoflow.engine.plan import Decision
from histoflow.engine.team import Team
from histoflow.errors import UserError
from histoflow.experiment import Experiment
from histoflow.finding import find_rate, largest_batch
from histoflow.planning import plan_for
from histoflow.stages import Packed
from histoflow.workshop import Workshop
from support import preprocessed, small_experiment


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """The same small data for all of these tests."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HISTOFLOW_HOME", str(tmp_path_factory.mktemp("packed")))
    experiment = small_experiment()
    try:
        return preprocessed(experiment)
    finally:
        patch.undo()


@pytest.fixture
def store(packed: Packed) -> PackedStore:
    return PackedStore(packed.folder)


def auto(**training: Any) -> Experiment:
    return small_experiment(training={"batch_size": "auto", **training})


def workshop_of(experiment: Experiment, store: PackedStore) -> Workshop:
    device = choose_device("cpu")
    plan = plan_for(experiment, machine_of(device), store.manifest)
    return Workshop(experiment, registry.installed(), store.manifest, device, plan, 128)


class Heard(progress.LogListener):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


# ── The batch size ──────────────────────────────────────────────────────────────────────────────


def test_a_batch_size_is_found_and_told_with_the_reason(store: PackedStore) -> None:
    heard = Heard()
    with progress.listening(heard):
        size = largest_batch(workshop_of(auto(), store), store)
    assert size in (16, 32, 64)
    assert len(store.split("train")) < 128
    assert heard.lines == [line for line in heard.lines if line.startswith(f"Batch size {size}: ")]
    assert "images/s" in heard.lines[0]


def test_a_share_of_the_images_bounds_the_batch(store: PackedStore) -> None:
    share = 10 / len(store.split("train"))
    assert largest_batch(workshop_of(auto(share=share), store), store) == 10


def test_each_of_several_devices_gets_a_share_of_the_images(store: PackedStore) -> None:
    experiment = auto(share=10 / len(store.split("train")))
    two = experiment.model_copy(update={"compute": experiment.compute.model_copy(update={"devices": 2})})
    assert largest_batch(workshop_of(two, store), store) == 10


def test_the_leader_of_a_team_searches_without_the_others(store: PackedStore) -> None:
    class Busy(Team):
        """Its others wait for the leader, and would answer nothing."""

        ranks = 2

        def prepared(self, model: nn.Module) -> nn.Module:
            raise AssertionError("the others were asked")

    two = replace(workshop_of(auto(), store), team=Busy())
    assert largest_batch(two, store) in (16, 32, 64)


def test_the_search_leaves_no_trace_in_chance_or_in_torchs_settings(store: PackedStore) -> None:
    experiment = auto()
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    largest_batch(workshop_of(experiment, store), store)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_what_does_not_fit_into_free_memory_is_not_tried(
    store: PackedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "_OF_FREE_MEMORY", 0.0)
    assert largest_batch(workshop_of(auto(), store), store) == 16


def test_a_gpu_takes_the_largest_power_of_two_that_fits(
    store: PackedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's answers are made up; the steps are not."""
    workshop = workshop_of(auto(), store)
    trials = finding._Trials(workshop, store)

    def peak(self: object, size: int) -> int:
        trials.speed(size)
        if size > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return size

    monkeypatch.setattr(finding._Trials, "peak", peak)
    gpu = replace(machine_of(torch.device("cpu")), device=torch.device("cuda"), memory=10**9)
    monkeypatch.setattr(finding, "machine_of", lambda device: gpu)
    found = finding._find_largest(replace(workshop, device=torch.device("cuda")), store)
    assert found.size == 32


def test_a_run_with_the_size_that_was_found_is_the_run_with_that_size(packed: Packed) -> None:
    def trained(experiment: Experiment) -> tuple[Any, list[Any]]:
        run = stages.start(experiment)
        stages.train(experiment, packed, run)
        return run.read().plan, [entry["train_loss"] for entry in run.history()]

    plan, losses = trained(auto(epochs=2))
    assert plan is not None
    explicit, same = trained(small_experiment(training={"batch_size": plan["batch_size"], "epochs": 2}))
    assert plan == explicit
    assert losses == same


@pytest.mark.parametrize(("graphs", "bytes_"), [(False, 700), (True, 1200)])
def test_the_peak_counts_others_and_a_recorded_steps_own_memory(
    store: PackedStore, monkeypatch: pytest.MonkeyPatch, graphs: bool, bytes_: int
) -> None:
    """A GPU's figures are made up: 600 at most in a step, of which 100 last, and 100 of other processes."""
    figures = {"max_memory_allocated": 600, "memory_allocated": 100, "memory_reserved": 650}
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, figure=figure: figure)
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (250, 1000))
    workshop = workshop_of(auto(), store)
    plan = replace(workshop.plan, graphs=Decision(graphs, "for this test"))
    assert finding._Trials(replace(workshop, plan=plan), store).peak(16) == bytes_


# ── The learning rate ───────────────────────────────────────────────────────────────────────────


def test_a_test_of_learning_rates_writes_its_curve(packed: Packed, tmp_path: Path) -> None:
    found = stages.find_lr(small_experiment(), packed, tmp_path / "out", steps=60, lowest=1e-5, highest=10)
    told = json.loads((tmp_path / "out" / "lr-find.json").read_text())
    assert told["steepest"] == found.steepest
    assert len(told["rates"]) == len(told["losses"]) == len(told["smoothed"]) <= 60
    assert told["rates"][0] == pytest.approx(1e-5)
    assert (tmp_path / "out" / "lr-find.png").read_bytes().startswith(b"\x89PNG")


def test_it_needs_neither_validation_nor_test_images(packed: Packed, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "packed"
    shutil.copytree(packed.folder, copy)
    for split in ("val", "test"):
        shutil.rmtree(copy / split)
    test = find_rate(small_experiment(), PackedStore(copy), registry.installed(), steps=20)
    assert len(test.losses) == 20


def test_the_same_experiment_finds_the_same_curve(store: PackedStore) -> None:
    first, second = (find_rate(small_experiment(), store, registry.installed(), steps=20) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"batch_size": "auto", "accumulate": 2, "clip": 1.0, "average": "ema"}},
        {"training": {"batch_size": 32, "groups": [{"match": "0.*", "lr": 0.1, "frozen_epochs": 1}]}},
        {"scheduler": "one_cycle", "optimizer": "sgd"},
    ],
)
def test_it_works_with_what_training_works_with(store: PackedStore, changes: dict[str, Any]) -> None:
    test = find_rate(small_experiment(**changes), store, registry.installed(), steps=20)
    assert len(test.rates) == 20


@pytest.mark.parametrize(
    ("steps", "lowest", "highest", "message"),
    [
        (19, 1e-6, 1, "--steps must be at least 20.* Got 19. Use 100 or more"),
        (100, 1, 1, "--from must be above 0 and below --to, which is 1. Got 1."),
        (100, 0, 1, "--from must be above 0"),
    ],
)
def test_a_range_that_shows_nothing_is_refused(
    store: PackedStore, steps: int, lowest: float, highest: float, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        find_rate(
            small_experiment(), store, registry.installed(), steps=steps, lowest=lowest, highest=highest
        )
