"""``--set`` changes one value of an experiment's data."""

from __future__ import annotations

from typing import Any

import pytest

from histoflow._overrides import apply_override
from histoflow.errors import UserError


def data() -> dict[str, Any]:
    return {
        "architecture": {"name": "resnet", "depth": 34},
        "augment": ["flips", {"name": "rotation", "degrees": 10}],
        "loss": "focal",
        "seed": 0,
    }


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=3", ["seed"], 3),
        ("training.epochs=5", ["training"], {"epochs": 5}),
        ("optimizer.lr=1e-4", ["optimizer", "lr"], 1e-4),
        ("architecture.depth=50", ["architecture"], {"name": "resnet", "depth": 50}),
        ("architecture.name=cnn", ["architecture"], {"name": "cnn"}),
        ("architecture.name=resnet", ["architecture"], {"name": "resnet", "depth": 34}),
        ("architecture=cnn", ["architecture"], "cnn"),
        ("augment.1.degrees=20", ["augment", 1, "degrees"], 20),
        ("augment.0.name=rotation", ["augment", 0], {"name": "rotation"}),
        ("augment.0.horizontal=0", ["augment", 0], {"name": "flips", "horizontal": 0}),
        ("augment=[flips, rotation]", ["augment"], ["flips", "rotation"]),
        ("loss.gamma=1", ["loss"], {"name": "focal", "gamma": 1}),
        ("training.patience=null", ["training"], {"patience": None}),
    ],
)
def test_an_override_sets_one_value(override: str, path: list[Any], value: Any) -> None:
    changed: Any = data()
    apply_override(changed, override)
    for step in path:
        changed = changed[step]
    assert changed == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "must look like training.epochs=3. Got 'seed'"),
        ("=3", "must look like"),
        ("a..b=3", "must look like"),
        ("augment.7=flips", "by 0 to 1. Got '7'"),
        ("augment.first=flips", "by 0 to 1. Got 'first'"),
        ("seed.x=1", "holds 0, which has no parts"),
        ("loss={", "is not valid YAML"),
    ],
)
def test_an_override_that_cannot_be_made_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_override(data(), override)
