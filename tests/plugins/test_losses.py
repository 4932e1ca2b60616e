"""The built-in losses agree with torch, scikit-learn and figures computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from histoflow import DataError, DataInfo, Loss
from histoflow.testing import check_component
from histoflow_plugins.losses import (
    BCE,
    CROSS_ENTROPY,
    FOCAL,
    BceParams,
    CrossEntropyParams,
    FocalParams,
)

TWO = DataInfo(task="binary", classes=("no", "yes"), channels=3, size=(8, 8), train_counts=(90, 10))
THREE = DataInfo(
    task="multiclass", classes=("a", "b", "c"), channels=3, size=(8, 8), train_counts=(50, 30, 20)
)
SEVERAL = DataInfo(
    task="multilabel",
    classes=("a", "b", "c"),
    channels=3,
    size=(8, 8),
    train_counts=(50, 20, 10),
    train_images=100,
)
LABELS_OF_SEVERAL = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1]], dtype=torch.uint8)
LABELS_OF_TWO = torch.tensor([0, 1, 1, 0])
LABELS_OF_THREE = torch.tensor([0, 1, 2, 1])


@pytest.fixture
def outputs() -> torch.Tensor:
    return 3 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("loss", "params"),
    [
        (BCE, BceParams()),
        (BCE, BceParams(class_weights="balanced")),
        (BCE, BceParams(class_weights=(1.0, 3.0))),
        (CROSS_ENTROPY, CrossEntropyParams()),
        (CROSS_ENTROPY, CrossEntropyParams(label_smoothing=0.1, class_weights="balanced")),
        (FOCAL, FocalParams()),
        (FOCAL, FocalParams(gamma=0.5, class_weights="balanced")),
    ],
)
def test_contract(loss: Loss[Any], params: Any) -> None:
    check_component(loss, params)


# ── Against references ──────────────────────────────────────────────────────────────────────────


def test_bce_is_minus_the_log_of_the_labels_probability() -> None:
    outputs = torch.tensor([[0.0], [2.0], [-1.0], [4.0]])
    losses = BCE.build(BceParams(), TWO)(outputs, LABELS_OF_TWO)
    expected = [math.log(2), math.log(1 + math.exp(-2)), math.log(1 + math.e), math.log(1 + math.exp(4))]
    torch.testing.assert_close(losses, torch.tensor(expected))


def test_bce_gives_the_probability_of_both_classes() -> None:
    probabilities = BCE.probabilities(BceParams(), torch.tensor([[0.0], [2.0], [-40.0]]))
    expected = torch.tensor([[0.5, 0.5], [0.119203, 0.880797], [1.0, math.exp(-40)]])
    torch.testing.assert_close(probabilities, expected, rtol=1e-5, atol=0)


def test_bce_asks_one_question_of_two_classes_and_one_for_each_of_several_labels() -> None:
    assert BCE.tasks == {"binary", "multilabel"}
    assert BCE.outputs(BceParams(), TWO) == 1
    assert BCE.outputs(BceParams(), SEVERAL) == 3


def test_bce_of_several_labels_is_the_mean_over_the_classes(outputs: torch.Tensor) -> None:
    losses = BCE.build(BceParams(), SEVERAL)(outputs, LABELS_OF_SEVERAL)
    p = BCE.probabilities(BceParams(), outputs)
    torch.testing.assert_close(p, outputs.sigmoid())
    of_class = [log_loss(LABELS_OF_SEVERAL[:, place], p[:, place].double()) for place in range(3)]
    assert losses.mean().item() == pytest.approx(np.mean(of_class), rel=1e-5)


def test_balanced_weights_of_several_labels_give_those_that_show_a_class_the_sum_of_the_others() -> None:
    weighted = BCE.build(BceParams(class_weights="balanced"), SEVERAL)
    outputs, one, none = torch.zeros(1, 3), torch.eye(3, dtype=torch.uint8), torch.zeros(1, 3)
    plain = weighted(outputs, none)
    shown = [3 * (weighted(outputs, one[[place]]) - plain) / math.log(2) + 1 for place in range(3)]
    assert [round(float(weight), 4) for weight in shown] == [1.0, 4.0, 9.0]


def test_a_class_that_all_images_show_cannot_be_balanced() -> None:
    balanced = BceParams(class_weights="balanced")
    everywhere = DataInfo(**{**vars(SEVERAL), "train_counts": (100, 20, 0)})
    assert [complaint.split(". ")[1] for complaint in BCE.check(balanced, everywhere)] == [
        "Got none of c",
        "Got none without a",
    ]
    with pytest.raises(DataError, match="packed"):
        BCE.build(balanced, DataInfo(**{**vars(SEVERAL), "train_counts": (), "train_images": 0}))


def test_cross_entropy_is_that_of_torch(outputs: torch.Tensor) -> None:
    params = CrossEntropyParams(label_smoothing=0.2, class_weights=(1.0, 2.0, 0.5))
    losses = CROSS_ENTROPY.build(params, THREE)(outputs, LABELS_OF_THREE)
    weights = torch.tensor([1.0, 2.0, 0.5])
    expected = functional.cross_entropy(
        outputs, LABELS_OF_THREE, weights, label_smoothing=0.2, reduction="none"
    )
    torch.testing.assert_close(losses, expected)


def test_focal_follows_its_formula(outputs: torch.Tensor) -> None:
    losses = FOCAL.build(FocalParams(gamma=2), THREE)(outputs, LABELS_OF_THREE)
    p = outputs.double().softmax(dim=1)[torch.arange(4), LABELS_OF_THREE]
    torch.testing.assert_close(losses.double(), -((1 - p) ** 2) * p.log(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("data", [TWO, THREE], ids=["binary", "multiclass"])
@pytest.mark.parametrize("class_weights", [None, "balanced"])
def test_focal_without_gamma_is_cross_entropy(data: DataInfo, class_weights: Any) -> None:
    outputs = torch.randn(6, FOCAL.outputs(FocalParams(), data), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(6) % len(data.classes)
    focal = FOCAL.build(FocalParams(gamma=0, class_weights=class_weights), data)
    plain = CROSS_ENTROPY.build(CrossEntropyParams(class_weights=class_weights), data)
    torch.testing.assert_close(focal(outputs, labels), plain(outputs, labels))


def test_focal_has_a_slope_where_it_is_certain() -> None:
    outputs = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    losses = FOCAL.build(FocalParams(gamma=0.5), TWO)(outputs, torch.tensor([0, 0]))
    losses.sum().backward()
    assert outputs.grad is not None
    torch.testing.assert_close(outputs.grad, torch.tensor([[0.0, 0.0], [-1.0, 1.0]]))


def test_probabilities_are_exact_in_half_precision() -> None:
    outputs = torch.randn(50, 3, generator=torch.Generator().manual_seed(2)).bfloat16()
    for loss, given in ((CROSS_ENTROPY, outputs), (BCE, outputs[:, :1])):
        probabilities = loss.probabilities(loss.params(), given)
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(50))


# ── Class weights ───────────────────────────────────────────────────────────────────────────────

EVERY_LOSS = [
    pytest.param(BCE, BceParams, TWO, id="bce"),
    pytest.param(CROSS_ENTROPY, CrossEntropyParams, THREE, id="cross_entropy"),
    pytest.param(FOCAL, FocalParams, THREE, id="focal"),
]


def _factors(loss: Loss[Any], params: Any, data: DataInfo) -> torch.Tensor:
    """What the class weights multiply the loss of an image of each class with."""
    labels = torch.arange(len(data.classes))
    outputs = torch.randn(len(labels), loss.outputs(params, data), generator=torch.Generator().manual_seed(3))
    plain = loss.build(loss.params(), data)
    factors: torch.Tensor = loss.build(params, data)(outputs, labels) / plain(outputs, labels)
    return factors


@pytest.mark.parametrize(("loss", "params", "data"), EVERY_LOSS)
def test_balanced_weights_are_those_of_scikit_learn(loss: Loss[Any], params: Any, data: DataInfo) -> None:
    labels = np.repeat(np.arange(len(data.classes)), data.train_counts)
    expected = compute_class_weight("balanced", classes=np.arange(len(data.classes)), y=labels)
    found = _factors(loss, params(class_weights="balanced"), data)
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=1e-5, atol=0)
    assert found[torch.from_numpy(labels)].mean().item() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(("loss", "params", "data"), EVERY_LOSS)
def test_listed_weights_are_taken_as_they_are(loss: Loss[Any], params: Any, data: DataInfo) -> None:
    weights = (0.5, 2.0, 7.0)[: len(data.classes)]
    torch.testing.assert_close(_factors(loss, params(class_weights=weights), data), torch.tensor(weights))


@pytest.mark.parametrize(("loss", "params", "data"), EVERY_LOSS)
def test_a_list_of_wrong_length_is_a_complaint(loss: Loss[Any], params: Any, data: DataInfo) -> None:
    wrong = params(class_weights=(1.0, 2.0, 3.0, 4.0))
    (complaint,) = loss.check(wrong, data)
    assert f"must have {len(data.classes)} weights" in complaint
    assert "Got 4" in complaint
    with pytest.raises(DataError, match="Got 4"):
        loss.build(wrong, data)


@pytest.mark.parametrize(("loss", "params", "data"), EVERY_LOSS)
def test_balancing_a_class_without_images_is_an_error(loss: Loss[Any], params: Any, data: DataInfo) -> None:
    balanced = params(class_weights="balanced")
    empty = DataInfo(**{**vars(data), "train_counts": (0, *data.train_counts[1:])})
    (complaint,) = loss.check(balanced, empty)
    assert f"Got none of {data.classes[0]}" in complaint
    with pytest.raises(DataError, match=f"Got none of {data.classes[0]}"):
        loss.build(balanced, empty)


def test_balancing_needs_packed_data() -> None:
    unpacked = DataInfo(**{**vars(THREE), "train_counts": ()})
    balanced = CrossEntropyParams(class_weights="balanced")
    assert not list(CROSS_ENTROPY.check(balanced, unpacked))
    with pytest.raises(DataError, match="packed"):
        CROSS_ENTROPY.build(balanced, unpacked)


@pytest.mark.parametrize(("loss", "params", "data"), EVERY_LOSS)
def test_weights_move_with_the_module(loss: Loss[Any], params: Any, data: DataInfo) -> None:
    module = loss.build(params(class_weights="balanced"), data).to("meta")
    assert [buffer.device.type for buffer in module.buffers()] == ["meta"]


@pytest.mark.parametrize("wrong", ["even", (1.0, 0.0), (1.0, -2.0), (1.0, math.inf), (1.0, math.nan), 3.0])
def test_weights_must_be_positive_numbers(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        CrossEntropyParams(class_weights=wrong)


@pytest.mark.parametrize(
    ("params", "wrong"),
    [(FocalParams, {"gamma": -1}), (CrossEntropyParams, {"label_smoothing": 1}), (BceParams, {"gamma": 1})],
)
def test_parameters_have_bounds(params: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        params(**wrong)
