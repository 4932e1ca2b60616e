"""Checkpoints: weights as safetensors, optimizer state without pickled objects, the rest as JSON.

    checkpoints/epoch-0007/weights.safetensors   the model
    checkpoints/epoch-0007/optimizer.pt          optimizer and scheduler, read with weights_only=True
    checkpoints/epoch-0007/meta.json             epoch, history, hashes of the two files
    checkpoints/last.json, best.json             which folder, and the hash of its meta.json

A checkpoint's folder is complete before its name is written into ``last.json``, so a process killed
at any moment leaves the one before.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from histoflow import files
from histoflow.engine.fit import Trainee
from histoflow.errors import CheckpointError

SCHEMA = 1
Which = Literal["last", "best"]
_WEIGHTS, _OPTIMIZER, _META = "weights.safetensors", "optimizer.pt", "meta.json"


@dataclass(frozen=True)
class Checkpoint:
    """A saved state whose files have been found whole."""

    folder: Path
    epoch: int
    history: tuple[Mapping[str, Any], ...]
    model_hash: str
    """SHA-256 of the weights file: the name by which results refer to this very model."""


def save(root: Path, trainee: Trainee, history: Iterable[Mapping[str, Any]], *, best: bool) -> None:
    """Write the state after the last epoch of the history; make it last, and best if it is."""
    history = list(history)
    epoch = history[-1]["epoch"]
    folder = root / f"epoch-{epoch:04d}"
    if folder.exists():  # left by a process killed before it could name it the last one
        shutil.rmtree(folder)
    with files.atomic_folder(folder) as temporary:
        save_file(_own_memory(trainee.model.state_dict()), temporary / _WEIGHTS)
        states = {"optimizer": trainee.optimizer.state_dict(), "scheduler": trainee.scheduler.state_dict()}
        torch.save(states, temporary / _OPTIMIZER)
        hashes = {name: files.digest_of_file(temporary / name) for name in (_WEIGHTS, _OPTIMIZER)}
        meta = {"schema": SCHEMA, "epoch": epoch, "history": history, "files": hashes}
        files.write_json(temporary / _META, meta)
    _point(root, "last", folder)
    if best:
        _point(root, "best", folder)
    _prune(root)


def find(root: Path, which: Which) -> Checkpoint | None:
    """The last or the best checkpoint, checked against its hashes; None if none was written."""
    pointer = root / f"{which}.json"
    if not pointer.is_file():
        return None
    target = _read_json(pointer)
    folder = root / str(target.get("folder"))
    _expect_hash(folder / _META, target.get("sha256"))
    meta = _read_json(folder / _META)
    files.refuse_newer(folder / _META, meta.get("schema"), SCHEMA, CheckpointError)
    for name, expected in meta["files"].items():
        _expect_hash(folder / name, expected)
    return Checkpoint(folder, meta["epoch"], tuple(meta["history"]), meta["files"][_WEIGHTS])


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put the saved weights into the model, which must have the very same tensors."""
    path = checkpoint.folder / _WEIGHTS
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}.") from error
    _expect_same_tensors(path, model.state_dict(), weights)
    model.load_state_dict(weights)


def load_training(checkpoint: Checkpoint, trainee: Trainee, device: torch.device) -> None:
    """Put back all that training changes."""
    load_weights(checkpoint, trainee.model)
    path = checkpoint.folder / _OPTIMIZER
    try:
        states = torch.load(path, map_location=device, weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(f"{path} holds what is not plain data, and is not loaded: {error}") from error
    try:
        trainee.optimizer.load_state_dict(states["optimizer"])
        trainee.scheduler.load_state_dict(states["scheduler"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"The optimizer state in {checkpoint.folder} does not fit: {error}.") from error


def _own_memory(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory or are not laid out in order.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _point(root: Path, which: Which, folder: Path) -> None:
    target = {"folder": folder.name, "sha256": files.digest_of_file(folder / _META)}
    files.write_json(root / f"{which}.json", target)


def _prune(root: Path) -> None:
    """Keep what last and best point at."""
    kept = {
        _read_json(pointer)["folder"]
        for pointer in (root / "last.json", root / "best.json")
        if pointer.exists()
    }
    for folder in root.glob("epoch-*"):
        if folder.name not in kept:
            shutil.rmtree(folder)
    for leftover in root.glob(".epoch-*"):
        shutil.rmtree(leftover)


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
