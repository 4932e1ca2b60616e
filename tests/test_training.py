"""Training that is stopped, killed, starved of memory or time, and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from histoflow import progress, registry, session, stages, stopping
from histoflow.components import Architecture, Params
from histoflow.engine import checkpoint
from histoflow.errors import DeviceMemoryError, TimeLimitError
from histoflow.experiment import Experiment, parse
from histoflow.progress import Advance
from histoflow.registry import Provider, Registered, Registry
from histoflow.runs import Run
from support import prepared, small_experiment, trained

EVERY_STEP = {"epochs": 2, "batch_size": 32, "checkpoint_seconds": 1e-6}


def weights(run: Run) -> list[str]:
    found = [checkpoint.find(run.checkpoints, which) for which in ("last", "best")]
    return [saved.model_hash for saved in found if saved is not None]


def figures(run: Run) -> list[dict[str, float]]:
    """The history without what a clock measured."""
    return [{key: value for key, value in entry.items() if "second" not in key} for entry in run.history()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run that was trained under this scheduler in one go."""
    runs: dict[str, Run] = {}
    home = tmp_path_factory.mktemp("undisturbed")

    def run(scheduler: str) -> Run:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HISTOFLOW_HOME", str(home))
            return runs.get(scheduler) or runs.setdefault(
                scheduler, trained(small_experiment(scheduler=scheduler), scheduler.replace("_", "-"))
            )

    return run


class SignalAt(progress.LogListener):
    """Raises a signal while a step of that number is worked on."""

    def __init__(self, step: int, title: str = "Epoch") -> None:
        super().__init__()
        self.left, self.title = step, title

    @contextmanager
    def track(self, title: str, total: int | None, unit: str) -> Iterator[Advance]:
        with super().track(title, total, unit) as advance:

            def count(amount: int = 1) -> None:
                self.left -= title.startswith(self.title)
                if self.left == 0:
                    signal.raise_signal(signal.SIGINT)
                    while not stopping.asked():
                        time.sleep(0.01)
                advance(amount)

            yield count


@pytest.mark.parametrize("scheduler", ["step", "one_cycle"])
@pytest.mark.parametrize("step", [2, 5])
def test_training_ends_after_a_checkpoint_when_asked_and_goes_on_to_the_same_weights(
    scheduler: str, step: int, undisturbed: Callable[[str], Run]
) -> None:
    experiment, whole = small_experiment(scheduler=scheduler), undisturbed(scheduler)
    run, packed = prepared(experiment, "stopped")
    with pytest.raises(KeyboardInterrupt), progress.listening(SignalAt(step)):
        stages.train(experiment, packed, run)
    saved = checkpoint.find(run.checkpoints, "last")
    assert saved is not None
    assert saved.position.step > 0, "it ended within an epoch"
    assert run.read().state == "training"
    stages.train(experiment, packed, run)
    assert weights(run) == weights(whole)
    assert figures(run) == figures(whole)
    assert [session["after_step"] for session in run.read().sessions] == [0, saved.position.step]


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_a_kill_costs_no_more_than_the_work_since_the_last_checkpoint(
    killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = small_experiment(training=EVERY_STEP)
    undisturbed = trained(small_experiment(training=EVERY_STEP | {"checkpoint_seconds": 30}), "undisturbed")
    run, packed = prepared(experiment, "killed")
    write, writes = checkpoint.write, []

    def write_then_die(*arguments: object, **named: object) -> None:
        write(*arguments, **named)  # type: ignore[arg-type]
        writes.append(1)
        if len(writes) == killed_at:
            raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", write_then_die)
        patch.setattr(session, "_SAVING_MAY_TAKE", 1e9)  # as often as can be, slow copies or not
        with pytest.raises(SystemExit):
            stages.train(experiment, packed, run)
    stages.train(experiment, packed, run)
    assert weights(run) == weights(undisturbed)
    assert figures(run) == figures(undisturbed)


def test_a_slow_disk_gets_fewer_checkpoints_and_no_step_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = checkpoint.write, []

    def slowly(root: Path, saved: checkpoint.Snapshot, *, best: bool) -> None:
        time.sleep(1)
        written.append(saved.position)
        write(root, saved, best=best)

    monkeypatch.setattr(checkpoint, "write", slowly)
    monkeypatch.setattr(session, "_SAVING_MAY_TAKE", 1e9)
    trained(small_experiment(training=EVERY_STEP | {"epochs": 1, "batch_size": 4}), "slow")
    within = [position.step for position in written if position.step]
    assert 1 <= len(within) <= 3, "of the thirty steps, which take less than a second"
    assert (written[-1].epoch, written[-1].step) == (2, 0)


def test_a_copy_that_takes_long_is_made_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, positions = checkpoint.snapshot, []

    def slowly(*arguments: object, **named: object) -> checkpoint.Snapshot:
        time.sleep(0.05)  # and so the next may come after a second, when this training is over
        positions.append(arguments[2])
        return snapshot(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "snapshot", slowly)
    trained(small_experiment(training=EVERY_STEP), "slow")
    assert [position.step for position in positions if position.step][1:] == []  # type: ignore[attr-defined]


def test_a_share_of_the_training_images_is_trained_on() -> None:
    settings = {"epochs": 1, "batch_size": 16}
    run, packed = prepared(small_experiment(training=settings | {"share": 0.25}), "share")
    seen = []

    class Totals(progress.LogListener):
        @contextmanager
        def track(self, title: str, total: int | None, unit: str) -> Iterator[Advance]:
            if title.startswith("Epoch"):
                seen.append(total)
            with super().track(title, total, unit) as advance:
                yield advance

    with progress.listening(Totals()):
        stages.train(small_experiment(training=settings | {"share": 0.25}), packed, run)
    images = 180 * 0.7
    assert seen[0] == pytest.approx(images / 4, abs=images * 0.06)


# ── Time and memory ─────────────────────────────────────────────────────────────────────────────


def test_the_time_limit_ends_training_with_the_best_epoch_so_far() -> None:
    settings = {"epochs": 100_000, "batch_size": 32, "time_limit": 1 / 60}
    run = trained(small_experiment(training=settings), "limited")
    record = run.read()
    assert record.stopped == "the time limit of 0.0166667 minutes"
    assert record.state == "trained"
    assert record.best is not None
    epochs = len(run.history())
    assert epochs < 100_000
    assert stages.evaluate(run).metrics["epoch"] == record.best["epoch"]
    assert stages.trained(trained(small_experiment(training=settings), "limited")).epochs == epochs


def test_a_time_limit_without_a_single_epoch_is_told() -> None:
    settings = {"epochs": 3, "batch_size": 32, "time_limit": 1e-9}
    with pytest.raises(TimeLimitError, match=r"time_limit of 1e-09 minutes ended before the first epoch"):
        trained(small_experiment(training=settings), "limited")


@pytest.fixture
def small_device(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry whose networks fit 8 images into memory, no more."""

    installed = registry.installed()
    cnn = installed.get(Architecture, "cnn")

    def build(params: Params, data: object, outputs: int) -> torch.nn.Module:
        model = cnn.build(params, data, outputs)  # type: ignore[arg-type]

        def refuse(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if module.training and len(inputs[0]) > 8:
                raise torch.OutOfMemoryError(f"Tried to allocate {len(inputs[0])} images")

        model.register_forward_pre_hook(refuse)
        return model

    hungry = Architecture(name="hungry", summary="Takes much memory", params=cnn.params, build=build)
    here = Registered(hungry, Provider("hungry", "tests", "1"))
    return Registry({**installed.components, ("architecture", "hungry"): here})


def hungry(registry: Registry, **training: object) -> Experiment:
    data = small_experiment().to_data() | {
        "architecture": {"name": "hungry", "widths": [8]},
        "training": {"epochs": 1, "batch_size": 32, **training},
    }
    return parse(data, registry)


def test_too_small_a_memory_is_told_with_what_can_be_done(small_device: Registry) -> None:
    experiment = hungry(small_device)
    run, packed = prepared(experiment, "hungry", small_device)
    with pytest.raises(
        DeviceMemoryError,
        match=r"Batches of 32 images in 1 part do not fit .*Tried to allocate 32 images.*on_out_of_memory=split",
    ):
        stages.train(experiment, packed, run, small_device)


def test_batches_are_parted_until_they_fit_where_that_is_allowed(small_device: Registry) -> None:
    experiment = hungry(small_device, on_out_of_memory="split")
    run, packed = prepared(experiment, "hungry", small_device)
    assert stages.train(experiment, packed, run, small_device).epochs == 1
    assert [session["parts"] for session in run.read().sessions] == [1, 2, 4]
    saved = checkpoint.find(run.checkpoints, "last")
    assert saved is not None
    assert saved.parts == 4, "going on, it does not run out of memory again"


def test_a_memory_that_validation_exceeds_is_met_by_smaller_batches_too(small_device: Registry) -> None:
    architecture = small_device.get(Architecture, "hungry")
    build = architecture.build

    def stricter(params: Params, data: object, outputs: int) -> torch.nn.Module:
        model = build(params, data, outputs)  # type: ignore[arg-type]

        def refuse(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not module.training and len(inputs[0]) > 4:
                raise torch.OutOfMemoryError("in validation")

        model.register_forward_pre_hook(refuse)
        return model

    here = Registered(replace(architecture, build=stricter), Provider("hungry", "tests", "1"))
    registry = Registry({**small_device.components, ("architecture", "hungry"): here})
    experiment = hungry(registry, on_out_of_memory="split")
    run, packed = prepared(experiment, "hungry", registry)
    assert stages.train(experiment, packed, run, registry).epochs == 1
    assert [session["parts"] for session in run.read().sessions] == [1, 2, 4, 8]


def test_who_takes_long_over_an_epoch_does_not_count_as_hung() -> None:
    experiment = small_experiment(training=EVERY_STEP | {"checkpoint_seconds": 30, "stall_limit": 0.1})
    run, packed = prepared(experiment, "slow-reader")
    epochs = stages.training(experiment, packed, run)
    next(epochs)
    time.sleep(2.5)  # longer than the limit and the watchdog's rest
    assert len(list(epochs)) == 1


def test_a_process_that_hangs_is_given_up_and_leaves_word_where(tmp_path: Path, home: Path) -> None:
    script = textwrap.dedent("""
        import time
        from histoflow import progress, stages
        from support import prepared, small_experiment
        from test_training import SignalAt

        class Hang(SignalAt):
            def say(self, message):
                if message.startswith("Epoch 1/"):
                    time.sleep(1000)

        experiment = small_experiment(training={"epochs": 3, "batch_size": 32, "stall_limit": 1})
        run, packed = prepared(experiment, "hung")
        with progress.listening(Hang(-1)):
            stages.train(experiment, packed, run)
    """)
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(here), "HISTOFLOW_HOME": str(home)},
        timeout=120,
    )
    assert done.returncode == 1
    run = Run(home / "runs" / "hung")
    assert "in _keep" in (run.folder / "stalled.txt").read_text(), "where it hung"
    assert len(checkpoint.find(run.checkpoints, "last").history) == 1  # type: ignore[union-attr]


def test_training_that_ends_well_leaves_no_record_of_a_hang(undisturbed: Callable[[str], Run]) -> None:
    assert not (undisturbed("step").folder / "stalled.txt").exists()
