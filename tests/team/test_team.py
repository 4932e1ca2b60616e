"""Two processes that train together: to the weights of one, through stops and kills, and no orphan stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from histoflow import progress, registry, stages, stopping
from histoflow.engine import checkpoint
from histoflow.errors import DataError, ExperimentError, Stopped, TeamError
from histoflow.experiment import Experiment
from histoflow.progress import Advance
from histoflow.runs import Run
from histoflow.team.lead import LOG, _how_it_died
from support import prepared, small_experiment

PLAIN_NETWORK = """
from histoflow import Architecture, Params, hookimpl

def build(params, data, outputs):
    from torch import nn
    side = (data.size[0] - 3) // 2 + 1
    return nn.Sequential(
        nn.Conv2d(data.channels, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * side * side, outputs)
    )

@hookimpl
def histoflow_architectures():
    return [Architecture(name="plain", summary="No batch norm", params=Params, build=build)]
"""


def last(run: Run) -> checkpoint.Checkpoint:
    found = checkpoint.find(run.checkpoints, "last")
    assert found is not None
    return found


def weights(run: Run) -> dict[str, Tensor]:
    return load_file(last(run).folder / "weights.safetensors")


def figures(run: Run) -> list[dict[str, Any]]:
    """The history without what a clock measured."""
    return [{key: value for key, value in entry.items() if "second" not in key} for entry in run.history()]


def by(devices: int) -> Experiment:
    """Parts of unequal size, and each in parts again; a layer that rests at first."""
    return small_experiment(
        dataset={"name": "tissue", "classes": 2, "size": 32, "images": 240, "slides": 15},
        architecture="plain",
        augment=[],
        optimizer={"name": "sgd", "lr": 0.01},
        training={
            "epochs": 3,
            "batch_size": 9,
            "accumulate": 2,
            "clip": 1.0,
            "average": "ema",
            "groups": [{"match": "0.*", "frozen_epochs": 1}],
        },
        compute={"device": "cpu", "devices": devices},
    )


@pytest.fixture(scope="module")
def plain_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A plugin that is installed for this process and those that it starts."""
    place = tmp_path_factory.mktemp("plain")
    (place / "plain_network.py").write_text(PLAIN_NETWORK)
    facts = place / "plain_network-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-network\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[histoflow]\nplain = plain_network\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        patch.setenv("PYTHONPATH", str(place))
        registry.installed.cache_clear()
        yield
    registry.installed.cache_clear()


@pytest.fixture(scope="module")
def undisturbed(plain_network: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained by two processes without a break."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(tmp_path_factory.mktemp("undisturbed")))
        run, packed = prepared(by(2), "undisturbed")
        stages.train(by(2), packed, run)
    return run


def test_two_processes_train_to_the_weights_and_figures_of_one(undisturbed: Run) -> None:
    run, packed = prepared(by(1), "alone")
    stages.train(by(1), packed, run)
    torch.testing.assert_close(weights(undisturbed), weights(run), rtol=1e-4, atol=1e-6)
    for together, alone in zip(figures(undisturbed), figures(run), strict=True):
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-6)
    assert undisturbed.read().stopped == run.read().stopped == "all 3 epochs trained"
    assert not (undisturbed.folder / LOG).exists(), "what went well leaves no log"


class AskingToStop(progress.LogListener):
    """Asks the work to stop where a piece of it of that title begins."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    @contextmanager
    def track(self, title: str, total: int | None, unit: str) -> Iterator[Advance]:
        with super().track(title, total, unit) as advance:
            if title == self.title:
                stopping.ask()
            yield advance


def test_a_team_that_is_stopped_and_then_loses_a_member_goes_on_to_the_same_weights(
    undisturbed: Run,
) -> None:
    experiment = by(2)
    run, packed = prepared(experiment, "disturbed")
    with pytest.raises(Stopped), progress.listening(AskingToStop("Epoch 1 of 3")):
        stages.train(experiment, packed, run)
    assert last(run).epoch == 0, "it ended within the epoch"
    assert last(run).position.step > 0
    assert not (run.folder / LOG).exists()

    with closing(stages.training(experiment, packed, run)) as epochs:
        next(epochs)
        member(1).kill()
        with pytest.raises(TeamError, match=r"process 1 was ended by SIGKILL.*--resume disturbed"):
            list(epochs)
    assert (run.folder / LOG).exists()

    stages.train(experiment, packed, run)
    assert last(run).model_hash == last(undisturbed).model_hash
    assert figures(run) == figures(undisturbed)
    assert len(run.read().sessions) == 3


def member(rank: int) -> psutil.Process:
    """That one of the processes which this one had started."""
    return next(
        process
        for process in psutil.Process().children(recursive=True)
        if "histoflow.team.member" in process.cmdline()
        and "torch.distributed.run" not in process.cmdline()
        and process.environ()["RANK"] == str(rank)
    )


def test_a_process_that_is_killed_leaves_no_team_behind(home: Path) -> None:
    script = """
        import time
        from histoflow import stages
        from support import small_experiment

        experiment = small_experiment(compute={"device": "cpu", "devices": 2})
        packed = stages.preprocess(experiment, stages.fetch(experiment))
        for _ in stages.training(experiment, packed, stages.start(experiment, "left")):
            print("an epoch", flush=True)
            time.sleep(600)
    """
    leader = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
    )
    with leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"an epoch\n"
        team = psutil.Process(leader.pid).children(recursive=True)
        assert len(team) >= 3, "a launcher and two members"
        leader.send_signal(signal.SIGKILL)
    _, left = psutil.wait_procs(team, timeout=30)
    assert not left


def test_an_error_of_a_member_comes_up_as_it_is_and_the_others_do_not_wait_for_it() -> None:
    experiment = small_experiment(compute={"device": "cpu", "devices": 2})
    run, packed = prepared(experiment, "damaged")
    shard = packed.folder / "train" / "images-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"images-00000\.npy is missing or damaged"):
        stages.train(experiment, packed, run)
    family = psutil.Process().children(recursive=True)
    assert not [process for process in family if "histoflow.team.member" in process.cmdline()]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"training": {"batch_size": "auto"}}, "training.batch_size: must be a number"),
        ({"training": {"batch_size": 7}}, "training.batch_size: must be at least 8"),
        ({"training": {"on_out_of_memory": "split"}}, "training.on_out_of_memory: must be stop"),
        ({"compute": {"devices": 4, "device": "cuda:1"}}, "compute.device: must be auto, cpu or cuda"),
    ],
)
def test_what_several_devices_cannot_do_is_refused_before_anything_starts(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ExperimentError, match=complaint):
        small_experiment(**{"compute": {"devices": 4}} | changes)


REPORT = """
histoflow.team.member FAILED
Failures:
[1]:
  rank      : 1 (local_rank: 1)
  exitcode  : {other} (pid: 12)
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : {first} (pid: 11)
"""


@pytest.mark.parametrize(
    ("first", "other", "told"),
    [
        (1, -9, "process 1 was ended by SIGKILL, as the system does where memory runs out"),
        (-11, -15, "process 0 was ended by SIGSEGV"),
        (3, 3, "process 1 ended with exit code 3"),
    ],
)
def test_the_process_that_died_of_itself_is_named(first: int, other: int, told: str, tmp_path: Path) -> None:
    (tmp_path / LOG).write_text(REPORT.format(first=first, other=other))
    assert _how_it_died(tmp_path / LOG, 1, []) == told
