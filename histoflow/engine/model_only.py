"""A checkpoint without what only training needs: the model, to be kept when the run is gone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from histoflow import files
from histoflow.engine import checkpoint
from histoflow.engine.checkpoint import Checkpoint


def keep_model(saved: Checkpoint, root: Path) -> None:
    """Write it under ``root``, where ``checkpoint.find(root, "best")`` finds it.

    The weights are the same file on the disk where that is possible: checkpoints are replaced, never changed.
    """
    folder = root / saved.folder.name
    folder.mkdir(parents=True)
    files.link(saved.folder / checkpoint._WEIGHTS, folder / checkpoint._WEIGHTS)
    meta = {
        "schema": checkpoint.SCHEMA,
        "position": asdict(saved.position),
        "parts": saved.parts,
        "history": list(saved.history),
        "files": {checkpoint._WEIGHTS: saved.model_hash},
    }
    files.write_json(folder / checkpoint._META, meta)
    entry = {"folder": folder.name, "sha256": files.digest_of_file(folder / checkpoint._META)}
    files.write_json(root / checkpoint._INDEX, {"best": entry})
