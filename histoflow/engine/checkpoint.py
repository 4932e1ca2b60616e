"""Checkpoints: weights as safetensors, optimizer state without pickled objects, the rest as JSON.

    checkpoints/epoch-0007/weights.safetensors   the model: where weights are averaged, the averaged one
    checkpoints/epoch-0007/trained.safetensors   there, the model that training goes on with
    checkpoints/epoch-0007/optimizer.pt          optimizer and scheduler, read with weights_only=True
    checkpoints/epoch-0007/meta.json             position, history, hashes of the other files
    checkpoints/epoch-0008-step-000120/…         the same, in the middle of an epoch
    checkpoints/index.json                       which folders are last and best, and their hashes

A checkpoint's folder is complete before the index names it, and the index is one file that is replaced
whole, so a process killed at any moment leaves the last and the best of one and the same moment.

Training waits only while its state is copied in memory; a thread writes the copy.
"""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from histoflow import files
from histoflow.engine.fit import Position
from histoflow.engine.step import Trainee
from histoflow.errors import CheckpointError

SCHEMA = 1
Which = Literal["last", "best"]
_WEIGHTS, _TRAINED = "weights.safetensors", "trained.safetensors"
_OPTIMIZER, _META = "optimizer.pt", "meta.json"
_INDEX = "index.json"


@dataclass(frozen=True)
class Checkpoint:
    """A saved state whose files have been found whole."""

    folder: Path
    epoch: int
    """How many epochs were complete."""
    history: tuple[Mapping[str, Any], ...]
    position: Position
    """Where training goes on."""
    parts: int
    """In how many parts each batch passed through the network."""
    model_hash: str
    """SHA-256 of the weights file: the name by which results refer to this very model."""


@dataclass(frozen=True)
class Snapshot:
    """A consistent copy of all that training changes, in memory of its own."""

    weights: Mapping[str, Mapping[str, Tensor]]
    """By the name of their file."""
    states: Mapping[str, Any]
    """Of the optimizer and whatever else has one."""
    history: tuple[Mapping[str, Any], ...]
    position: Position
    parts: int


def snapshot(
    trainee: Trainee, history: Iterable[Mapping[str, Any]], position: Position, parts: int = 1
) -> Snapshot:
    """Copy the state at this position."""
    weights = {_WEIGHTS: _own_memory(trainee.kept.state_dict())}
    if trainee.kept is not trainee.model:
        weights[_TRAINED] = _own_memory(trainee.model.state_dict())
    states = {name: _copied(part.state_dict()) for name, part in _with_state(trainee).items()}
    return Snapshot(weights, states, tuple(dict(entry) for entry in history), position, parts)


def write(root: Path, saved: Snapshot, *, best: bool) -> None:
    """Write a snapshot; make it last, and best if it is."""
    folder = root / _folder_name(saved.position)
    former = _read_index(root)
    if not best and former.get("last", {}).get("folder") == folder.name:
        return  # this very state is the last one already
    if folder.exists():  # left by a process killed before it could name it the last one
        shutil.rmtree(folder)
    with files.atomic_folder(folder) as temporary:
        # Written by Python itself, which tells a full disk as an OSError; the libraries' own writers do not.
        for name, tensors in saved.weights.items():
            (temporary / name).write_bytes(safetensors_bytes(dict(tensors)))
        (temporary / _OPTIMIZER).write_bytes(_torch_bytes(saved.states))
        names = (*saved.weights, _OPTIMIZER)
        meta = {
            "schema": SCHEMA,
            "position": asdict(saved.position),
            "parts": saved.parts,
            "history": list(saved.history),
            "files": {name: files.digest_of_file(temporary / name) for name in names},
        }
        files.write_json(temporary / _META, meta)
    entry = {"folder": folder.name, "sha256": files.digest_of_file(folder / _META)}
    index = {**former, "last": entry, **({"best": entry} if best else {})}
    files.write_json(root / _INDEX, index)
    _prune(root, kept={entry["folder"] for entry in index.values()})


class Writer:
    """Writes snapshots in a thread, one after the other; an error of one comes up with the next call."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def write(self, saved: Snapshot, *, best: bool) -> None:
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(saved, best), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return once all that was handed in lies on the disk."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, saved: Snapshot, best: bool) -> None:
        try:
            write(self._root, saved, best=best)
        except BaseException as error:  # whoever trains must hear of it
            self._error = error


def _folder_name(position: Position) -> str:
    if position.step:
        return f"epoch-{position.epoch:04d}-step-{position.step:06d}"
    return f"epoch-{position.epoch - 1:04d}"


def find(root: Path, which: Which) -> Checkpoint | None:
    """The last or the best checkpoint, checked against its hashes; None if none was written."""
    target = _read_index(root).get(which)
    if target is None:
        return None
    folder = root / str(target.get("folder"))
    _expect_hash(folder / _META, target.get("sha256"))
    meta = _read_json(folder / _META)
    files.refuse_newer(folder / _META, meta.get("schema"), SCHEMA, CheckpointError)
    for name, expected in meta["files"].items():
        _expect_hash(folder / name, expected)
    return Checkpoint(
        folder=folder,
        epoch=meta["position"]["epoch"] - 1,
        history=tuple(meta["history"]),
        position=Position(**meta["position"]),
        parts=meta["parts"],
        model_hash=meta["files"][_WEIGHTS],
    )


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put the saved weights into the model, which must have the very same tensors."""
    _load(checkpoint.folder / _WEIGHTS, model)


def _load(path: Path, model: nn.Module) -> None:
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}.") from error
    put(weights, model, path)


def put(weights: Mapping[str, Tensor], model: nn.Module, source: Path) -> None:
    """Put these weights into the model, which must have the very same tensors."""
    _expect_same_tensors(source, model.state_dict(), weights)
    model.load_state_dict(weights)


def load_training(checkpoint: Checkpoint, trainee: Trainee, device: torch.device) -> None:
    """Put back all that training changes."""
    averaged = (checkpoint.folder / _TRAINED).is_file()
    _load(checkpoint.folder / (_TRAINED if averaged else _WEIGHTS), trainee.model)
    if averaged and trainee.average:
        load_weights(checkpoint, trainee.average.model)
    path = checkpoint.folder / _OPTIMIZER
    try:
        states = torch.load(path, map_location="cpu", weights_only=True)  # whoever takes a state moves it
    except UnpicklingError as error:
        raise CheckpointError(f"{path} holds what is not plain data, and is not loaded: {error}") from error
    try:
        for name, part in _with_state(trainee).items():
            part.load_state_dict(states[name])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"The optimizer state in {checkpoint.folder} does not fit: {error}.") from error


def _with_state(trainee: Trainee) -> dict[str, Any]:
    """What has a state beside the weights."""
    parts = {
        "optimizer": trainee.optimizer,
        "scheduler": trainee.scheduler,
        "average": trainee.average,
        "scaler": trainee.scaler,
    }
    return {name: part for name, part in parts.items() if part is not None}


def _torch_bytes(states: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(states, buffer)
    return buffer.getvalue()


def _own_memory(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory or are not laid out in order.
    return {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
        for name, tensor in state.items()
    }


def _copied(state: Any) -> Any:
    """The same state with tensors of its own; optimizers hand out those that they go on changing."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(_copied(value) for value in state))
    if isinstance(state, list | tuple):
        return type(state)(_copied(value) for value in state)
    return state


def _prune(root: Path, kept: Collection[str]) -> None:
    for folder in root.glob("epoch-*"):
        if folder.name not in kept:
            shutil.rmtree(folder)
    for leftover in root.glob(".epoch-*"):
        shutil.rmtree(leftover)


def _read_index(root: Path) -> dict[str, dict[str, str]]:
    path = root / _INDEX
    return dict(_read_json(path)) if path.is_file() else {}


def _read_json(path: Path) -> Any:
    try:
        return files.read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The checkpoint file {path} is missing or damaged: {error}.") from error


def _expect_hash(path: Path, expected: Any) -> None:
    if not path.is_file() or files.digest_of_file(path) != expected:
        raise CheckpointError(
            f"The checkpoint file {path} is missing or was changed after it was written (its hash differs). "
            f"Put the original back, or train again."
        )


def _expect_same_tensors(path: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    differing = sorted(
        name
        for name in {*wanted, *found}
        if name not in wanted or name not in found or wanted[name].shape != found[name].shape
    )
    if differing:
        raise CheckpointError(
            f"{path} belongs to another network: {len(differing)} tensors are missing, extra or of another "
            f"shape, such as {', '.join(differing[:3])}."
        )
