"""Small experiments that tests train."""

from __future__ import annotations

from typing import Any

from histoflow.experiment import Experiment, parse


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
