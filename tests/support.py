"""Small experiments that tests train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from histoflow import home, stages
from histoflow.experiment import Experiment, parse
from histoflow.registry import Registry
from histoflow.runs import Run
from histoflow.stages import Packed

_Contents = dict[Path, bytes]
_generated: dict[str, _Contents] = {}
"""By the name of its folder, what a packing of generated images came to."""


def small_experiment(**changes: Any) -> Experiment:
    """Trains in about a second: 180 tissue patches of 32 pixels and a tiny network; evaluated without pictures."""
    data: dict[str, Any] = {
        "name": "small",
        "dataset": {"name": "tissue", "classes": 2, "size": 32, "images": 180, "slides": 15},
        "augment": ["flips", {"name": "color_jitter", "strength": 0.1}],
        "architecture": {"name": "cnn", "widths": [8, 16], "dropout": 0.1},
        "training": {"epochs": 3, "batch_size": 32},
        "compute": {"device": "cpu"},
        "metrics": ["accuracy", "roc_auc"],
        "evaluation": {"gallery": 0, "embedding": False},
        "seed": 7,
    }
    return parse(data | changes)


def preprocessed(experiment: Experiment, registry: Registry | None = None) -> Packed:
    """Its data in the home of now. Generated images are packed once, and copied into each other home."""
    raw = stages.fetch(experiment, registry)
    folder = home.packed() / stages.recipe_of(experiment, raw, registry).folder_name
    is_new = not (raw.files or folder.exists())
    if is_new and folder.name in _generated:
        _put(_generated[folder.name], folder)
    packed = stages.preprocess(experiment, raw, registry)
    if is_new:
        _generated.setdefault(folder.name, _contents(folder))
    return packed


def prepared(
    experiment: Experiment, run_id: str = "run", registry: Registry | None = None
) -> tuple[Run, Packed]:
    """A run that can be trained at once."""
    return stages.start(experiment, run_id, registry), preprocessed(experiment, registry)


def trained(experiment: Experiment, run_id: str = "run", registry: Registry | None = None) -> Run:
    """A run that is there already goes on."""
    run, packed = prepared(experiment, run_id, registry)
    stages.train(experiment, packed, run, registry)
    return run


def _contents(folder: Path) -> _Contents:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def _put(contents: _Contents, folder: Path) -> None:
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
