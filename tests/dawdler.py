"""Has a process sleep after each step of training: a test can come between, and nothing is computed meanwhile."""

from __future__ import annotations

from pathlib import Path

PLUGIN = """
import os
import time

from histoflow import hookimpl
from torch.optim.optimizer import register_optimizer_step_post_hook

register_optimizer_step_post_hook(lambda *_: time.sleep(float(os.environ["DAWDLE"])))


@hookimpl
def histoflow_optimizers():
    return []
"""


def environment(place: Path, seconds: float) -> dict[str, str]:
    """Variables with which a process finds, as a plugin without components, what makes it sleep so long."""
    (place / "dawdling.py").write_text(PLUGIN)
    facts = place / "dawdling-1.0.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: dawdling\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[histoflow]\ndawdling = dawdling\n")
    return {"PYTHONPATH": str(place), "DAWDLE": str(seconds)}
