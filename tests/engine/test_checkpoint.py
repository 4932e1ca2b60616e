"""Checkpoints are whole or not there; what was changed or belongs elsewhere is refused."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from histoflow.engine import checkpoint
from histoflow.engine.average import Average
from histoflow.engine.fit import Position
from histoflow.engine.step import Trainee
from histoflow.errors import CheckpointError, StorageError

SCHEDULERS = {
    "step": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2),
    "cosine": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9),
    "one_cycle": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9),
}


def trainee(width: int = 3, scheduler: str = "step", seed: int = 0) -> Trainee:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(4 * width, 2)
    )
    optimizer = torch.optim.Adam(model.parameters())
    return Trainee(model, nn.CrossEntropyLoss(), optimizer, SCHEDULERS[scheduler](optimizer))


def work(trained: Trainee) -> None:
    trained.optimizer.zero_grad()
    trained.loss(trained.model(torch.ones(2, 1, 4, 4)), torch.tensor([0, 1])).backward()
    trained.optimizer.step()
    trained.scheduler.step()


def history(epochs: int) -> list[dict[str, Any]]:
    return [{"epoch": epoch, "val_loss": 1 / epoch} for epoch in range(1, epochs + 1)]


def after(epochs: int) -> Position:
    return Position(epoch=epochs + 1)


def save(
    root: Path,
    trained: Trainee,
    entries: list[dict[str, Any]],
    position: Position,
    *,
    best: bool,
    parts: int = 1,
) -> None:
    checkpoint.write(root, checkpoint.snapshot(trained, entries, position, parts), best=best)


def found(root: Path, which: checkpoint.Which = "last") -> checkpoint.Checkpoint:
    result = checkpoint.find(root, which)
    assert result is not None
    return result


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_training_goes_on_as_if_it_had_not_been_saved(tmp_path: Path, scheduler: str) -> None:
    ours, other = trainee(scheduler=scheduler), trainee(scheduler=scheduler, seed=5)
    work(ours)
    save(tmp_path, ours, history(1), after(1), best=True)
    checkpoint.load_training(found(tmp_path), other, torch.device("cpu"))
    for trained in (ours, other):
        work(trained)
        work(trained)
    for name, tensor in ours.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name
    assert ours.scheduler.get_last_lr() == other.scheduler.get_last_lr()


def test_last_and_best_are_kept_and_the_others_removed(tmp_path: Path) -> None:
    for epoch, best in ((1, True), (2, True), (3, False), (4, False)):
        save(tmp_path, trainee(seed=epoch), history(epoch), after(epoch), best=best)
    assert sorted(os.listdir(tmp_path)) == ["epoch-0002", "epoch-0004", "index.json"]
    assert found(tmp_path, "best").epoch == 2
    assert found(tmp_path).epoch == 4
    assert len(found(tmp_path).history) == 4
    assert found(tmp_path, "best").model_hash != found(tmp_path).model_hash


def test_a_position_within_an_epoch_takes_the_place_of_the_last_and_leaves_the_best(tmp_path: Path) -> None:
    save(tmp_path, trainee(), history(1), after(1), best=True)
    for step in (10, 20):
        position = Position(epoch=2, step=step, loss=0.1 + 0.2, images=64, seconds=1.5, lr=1e-3)
        save(tmp_path, trainee(seed=step), history(1), position, best=False, parts=4)
    assert sorted(os.listdir(tmp_path)) == ["epoch-0001", "epoch-0002-step-000020", "index.json"]
    last = found(tmp_path)
    assert (last.epoch, last.position, last.parts) == (1, position, 4)
    assert found(tmp_path, "best").epoch == 1


def test_the_same_position_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a disk that is full, or a kill, would take the last checkpoint with it."""
    position = Position(epoch=2, step=5, loss=1.0, images=20)
    save(tmp_path, trainee(), history(1), after(1), best=True)
    save(tmp_path, trainee(), history(1), position, best=False)
    before = found(tmp_path)

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "safetensors_bytes", full)
    save(tmp_path, trainee(), history(1), position, best=False)
    assert found(tmp_path) == before


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.find(tmp_path, "last") is None


def test_what_a_process_killed_while_saving_left_is_cleared_away(tmp_path: Path) -> None:
    save(tmp_path, trainee(), history(1), after(1), best=True)
    (tmp_path / ".epoch-0002.killed").mkdir()  # killed while writing the folder
    save(tmp_path, trainee(seed=2), history(2), after(2), best=False)
    assert not (tmp_path / ".epoch-0002.killed").exists()


@pytest.mark.parametrize("writes", range(1, 6))
def test_killed_between_any_two_writes_last_and_best_are_of_one_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Epoch 2 is the best; going on from what is left must end as if nothing had happened."""
    save(tmp_path, trainee(), history(1), after(1), best=True)
    replace, done = Path.replace, []

    def replace_then_die(path: Path, target: Path) -> None:
        if len(done) == writes - 1:
            raise KeyboardInterrupt
        replace(path, target)
        done.append(target)

    monkeypatch.setattr(Path, "replace", replace_then_die)
    try:
        save(tmp_path, trainee(seed=2), history(2), after(2), best=True)
        survived = True
    except KeyboardInterrupt:
        survived = False
    monkeypatch.undo()
    assert found(tmp_path).epoch == found(tmp_path, "best").epoch == (2 if survived else 1)
    save(tmp_path, trainee(seed=3), history(2), after(2), best=True)
    assert found(tmp_path, "best").epoch == 2


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    what = trainee(), history(1), after(1)
    most, no_more = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, no_more))
    try:
        with pytest.raises(StorageError, match="No room to write"):
            save(tmp_path, *what, best=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, no_more))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.pt", "meta.json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, damage: str) -> None:
    save(tmp_path, trainee(), history(1), after(1), best=True)
    path = tmp_path / "epoch-0001" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "changed" else content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=f"{name} is missing or was changed"):
        checkpoint.find(tmp_path, "last")


def test_a_damaged_pointer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"index\.json is missing or damaged"):
        checkpoint.find(tmp_path, "last")


def test_the_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save(tmp_path, trainee(), history(1), after(1), best=True)
    with pytest.raises(CheckpointError, match="belongs to another network: 7 tensors are missing"):
        checkpoint.load_weights(found(tmp_path), trainee(width=4).model)


def test_a_checkpoint_of_a_later_histoflow_is_refused(tmp_path: Path) -> None:
    save(tmp_path, trainee(), history(1), after(1), best=True)
    meta = tmp_path / "epoch-0001" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"schema": 99}))
    entry = {"folder": "epoch-0001", "sha256": checkpoint.files.digest_of_file(meta)}
    (tmp_path / "index.json").write_text(json.dumps({"last": entry}))
    with pytest.raises(CheckpointError, match="made by a newer histoflow"):
        checkpoint.find(tmp_path, "last")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """Even with a right hash, a pickled object in the optimizer's file is refused by torch itself."""
    save(tmp_path, trainee(), history(1), after(1), best=True)
    saved = found(tmp_path)
    torch.save({"optimizer": Path("/"), "scheduler": {}}, saved.folder / "optimizer.pt")
    with pytest.raises(CheckpointError, match="not plain data"):
        checkpoint.load_training(saved, trainee(), torch.device("cpu"))


def test_a_snapshot_is_of_its_moment_whatever_training_does_meanwhile(tmp_path: Path) -> None:
    ours, other = trainee(), trainee(seed=5)
    work(ours)
    before = {name: tensor.clone() for name, tensor in ours.model.state_dict().items()}
    momenta = [state["exp_avg"].clone() for state in ours.optimizer.state.values()]
    saved = checkpoint.snapshot(ours, history(1), after(1))
    work(ours)
    checkpoint.write(tmp_path, saved, best=True)
    checkpoint.load_training(found(tmp_path), other, torch.device("cpu"))
    for name, tensor in before.items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name
    for momentum, state in zip(momenta, other.optimizer.state.values(), strict=True):
        assert torch.equal(momentum, state["exp_avg"])
    assert other.scheduler.last_epoch == 1


def test_the_writer_writes_in_order_and_waits_on_demand(tmp_path: Path) -> None:
    writer = checkpoint.Writer(tmp_path)
    for epoch in (1, 2, 3):
        writer.write(checkpoint.snapshot(trainee(seed=epoch), history(epoch), after(epoch)), best=epoch == 2)
    writer.wait()
    assert (found(tmp_path).epoch, found(tmp_path, "best").epoch) == (3, 2)
    assert not writer.is_busy


def test_what_goes_wrong_while_writing_reaches_whoever_trains(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("where a folder should be")
    writer = checkpoint.Writer(file)
    writer.write(checkpoint.snapshot(trainee(), history(1), after(1)), best=True)
    with pytest.raises(OSError, match="file"):
        writer.wait()
    writer.wait()  # told once


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_averaged_weights_are_what_is_kept_and_training_goes_on_with_the_others(
    tmp_path: Path, kind: Literal["ema", "swa"]
) -> None:
    def averaging(seed: int) -> Trainee:
        made = trainee(seed=seed)
        made.average = Average(made.model, kind)
        return made

    def further(trained: Trainee) -> None:
        work(trained)
        assert trained.average is not None
        trained.average.after_step()
        trained.average.after_epoch(1)

    ours, other, judged = averaging(0), averaging(5), trainee(seed=6)
    further(ours)
    further(ours)
    save(tmp_path, ours, history(1), after(1), best=True)
    checkpoint.load_training(found(tmp_path), other, torch.device("cpu"))
    checkpoint.load_weights(found(tmp_path), judged.model)
    assert ours.average is not None
    assert not torch.equal(judged.model[3].weight, ours.model[3].weight)  # type: ignore[index]
    assert torch.equal(judged.model[3].weight, ours.average.model[3].weight)  # type: ignore[index]
    for trained in (ours, other):
        further(trained)
    for first, second in ((ours.model, other.model), (ours.kept, other.kept)):
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, second.state_dict()[name]), name
