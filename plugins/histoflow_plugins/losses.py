"""``bce``, ``cross_entropy`` and ``focal``, each with optional class weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from histoflow import DataError, DataInfo, Loss, Params, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class WeightedParams(Params):
    """What the three losses share."""

    class_weights: Literal["balanced"] | tuple[Weight, ...] | None = None
    """balanced: each class counts alike in sum, however rare. Or one weight per class. null: images count
    alike. Where images have several labels: how much an image counts that shows the class beside one that
    does not; balanced gives both kinds the same sum."""


class BceParams(WeightedParams):
    """Binary cross-entropy has no parameter of its own."""


class CrossEntropyParams(WeightedParams):
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread evenly over all classes, against overconfidence."""


class FocalParams(WeightedParams):
    gamma: float = Field(2.0, ge=0, le=10)
    """How much less an image counts that is already recognised; 0 is cross-entropy."""


# ── Class weights ───────────────────────────────────────────────────────────────────────────────


def complaints(params: WeightedParams, data: DataInfo) -> Iterator[str]:
    """What stands between these class weights and these data."""
    given = params.class_weights
    if isinstance(given, tuple) and len(given) != len(data.classes):
        yield (
            f"class_weights must have {len(data.classes)} weights, one each for {', '.join(data.classes)}. "
            f"Got {len(given)}. Give one weight per class, or set class_weights: balanced."
        )
    if given == "balanced":
        counted = list(zip(data.classes, data.train_counts, strict=False))
        empty = [name for name, count in counted if count == 0]
        if empty:
            yield (
                f"class_weights: balanced needs training images of all classes. "
                f"Got none of {', '.join(empty)}. Give a list of weights, or set class_weights: null."
            )
        every = data.train_images if data.task == "multilabel" else 0
        full = [name for name, count in counted if count and count == every]
        if full:
            yield (
                f"class_weights: balanced needs training images without each class, too. "
                f"Got none without {', '.join(full)}. Give a list of weights, or set class_weights: null."
            )


def weights_of(params: WeightedParams, data: DataInfo) -> Tensor | None:
    """One weight per class; balanced ones are 1 in the mean over the training images.

    In ``multilabel`` tasks, balanced ones are how many images lack the class for each that shows it.
    """
    import torch

    for complaint in complaints(params, data):
        raise DataError(complaint)
    if params.class_weights is None:
        return None
    if isinstance(params.class_weights, tuple):
        return torch.tensor(params.class_weights)
    if not data.train_counts or (data.task == "multilabel" and not data.train_images):
        raise DataError(
            "class_weights: balanced needs the data to be packed, for it counts the training images."
        )
    counts = torch.tensor(data.train_counts, dtype=torch.float64)
    if data.task == "multilabel":
        return ((data.train_images - counts) / counts).float()
    return (counts.sum() / (len(counts) * counts)).float()


# ── Builders ────────────────────────────────────────────────────────────────────────────────────


def build_bce(params: BceParams, data: DataInfo) -> nn.Module:
    from histoflow_plugins._loss_modules import BinaryCrossEntropy, ManyBinaryCrossEntropies

    module = ManyBinaryCrossEntropies if data.task == "multilabel" else BinaryCrossEntropy
    return module(weights_of(params, data))


def build_cross_entropy(params: CrossEntropyParams, data: DataInfo) -> nn.Module:
    from torch import nn

    weights = weights_of(params, data)
    return nn.CrossEntropyLoss(weights, label_smoothing=params.label_smoothing, reduction="none")


def build_focal(params: FocalParams, data: DataInfo) -> nn.Module:
    from histoflow_plugins._loss_modules import Focal

    return Focal(params.gamma, weights_of(params, data))


# ── Links ───────────────────────────────────────────────────────────────────────────────────────


def output_per_question(params: BceParams, data: DataInfo) -> int:
    """Which of two classes an image belongs to is one question; which of several it shows, one for each."""
    return len(data.classes) if data.task == "multilabel" else 1


def output_per_class(params: WeightedParams, data: DataInfo) -> int:
    return len(data.classes)


def sigmoid(params: BceParams, outputs: Tensor) -> Tensor:
    import torch

    if outputs.shape[1] > 1:
        return outputs.float().sigmoid()
    # sigmoid(-x) rather than 1 - sigmoid(x), which rounds small probabilities away.
    return torch.cat([-outputs, outputs], dim=1).float().sigmoid()


def softmax(params: WeightedParams, outputs: Tensor) -> Tensor:
    return outputs.float().softmax(dim=1)


BCE = Loss(
    name="bce",
    summary="Binary cross-entropy: on one output, or on one per class where images have several labels",
    params=BceParams,
    build=build_bce,
    outputs=output_per_question,
    probabilities=sigmoid,
    tasks=frozenset(("binary", "multilabel")),
    check=complaints,
)

CROSS_ENTROPY = Loss(
    name="cross_entropy",
    summary="Cross-entropy on one output per class, with optional label smoothing",
    params=CrossEntropyParams,
    build=build_cross_entropy,
    outputs=output_per_class,
    probabilities=softmax,
    check=complaints,
)

FOCAL = Loss(
    name="focal",
    summary="Focal loss (Lin et al. 2017): cross-entropy that turns to what is not yet recognised",
    params=FocalParams,
    build=build_focal,
    outputs=output_per_class,
    probabilities=softmax,
    check=complaints,
)


@hookimpl
def histoflow_losses() -> Iterable[Loss[Any]]:
    return (BCE, CROSS_ENTROPY, FOCAL)
