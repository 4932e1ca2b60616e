"""The command that trains a run again, and what it needs to come to the same model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def reproduce_content(run: Mapping[str, Any]) -> dict[str, str]:
    """``run`` is the content of run.json; ``needs`` is empty where the experiment is enough."""
    founder = run.get("warm_from")
    if not founder:
        return {"command": "histoflow train experiment.yaml", "needs": ""}
    name = str(founder).partition("@")[0]
    return {
        "command": f"histoflow retrain experiment.yaml --name {name} --warm-start --force",
        "needs": f"Training began with the weights of {founder}, which the folder start holds; the "
        f"experiment alone begins from scratch, and comes to another model. The command begins with the "
        f"champion of {name}, which must be {founder} then.",
    }
