"""Evaluated runs for the registry of models: one that was trained, and others made of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from histoflow import files, stages
from histoflow.runs import Run
from support import prepared, small_experiment


def trained(name: str, **changes: Any) -> Run:
    """A run that was really trained and evaluated."""
    tissue = {"name": "tissue", "classes": 2, "size": 16, "images": 135, "slides": 45}
    data = {"name": "colon", "dataset": tissue, "training": {"epochs": 1, "batch_size": 32}, **changes}
    experiment = small_experiment(**data)
    run, packed = prepared(experiment, name)
    stages.train(experiment, packed, run)
    stages.evaluate(run)
    return run


Columns = dict[str, Any]
"""Of predictions.npz."""


def variant(run: Run, name: str, change: Callable[[Columns], Columns] | None = None) -> Run:
    """A copy of a run with weights of its own, whose columns of predictions are changed to those given."""
    folder = run.folder.with_name(name)
    shutil.copytree(run.folder, folder)
    edit(folder / "run.json", id=name)
    model = _change_weights(folder / "checkpoints", sum(name.encode()))
    edit(folder / "metrics.json", model=model)
    edit(folder / "fitted.json", model=model)
    _edit_columns(folder / "validation.npz", lambda columns: {"model": np.array(model)})
    _edit_columns(
        folder / "predictions.npz",
        lambda columns: {"model": np.array(model), **(change(columns) if change else {})},
    )
    return Run(folder)


def _edit_columns(path: Path, change: Callable[[Columns], Columns]) -> None:
    with np.load(path) as kept:
        columns = dict(kept)
    np.savez(path, **(columns | change(columns)))


def _change_weights(checkpoints: Path, by: int) -> str:
    """Returns the hash of the new ones."""
    index = json.loads((checkpoints / "index.json").read_text())
    folder = checkpoints / index["best"]["folder"]
    weights = folder / "weights.safetensors"
    save_file({name: np.asarray(tensor + by) for name, tensor in load_file(weights).items()}, weights)
    model = files.digest_of_file(weights)
    hashes = json.loads((folder / "meta.json").read_text())["files"]
    edit(folder / "meta.json", files=hashes | {weights.name: model})
    entry = {"folder": folder.name, "sha256": files.digest_of_file(folder / "meta.json")}
    edit(checkpoints / "index.json", best=entry, last=entry)
    return model


def edit(path: Path, **changes: Any) -> None:
    """Set these keys of a JSON file."""
    files.write_json(path, files.read_json(path) | changes)
