"""What is light stays light: listing plugins and reading experiments needs neither torch nor prefect."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "prefect", "sklearn", "matplotlib", "medmnist")


@pytest.mark.parametrize(
    "statement",
    [
        "import histoflow",
        "from histoflow.registry import installed; assert installed().components",
        "from histoflow.experiment import load; load('demo')",
        "from histoflow.experiment import json_schema; json_schema()",
        "from histoflow import stages",
        "import histoflow_flows.cli",
    ],
)
def test_no_heavy_library_is_imported(statement: str) -> None:
    script = f"{statement}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
