"""``sgd``, ``adam`` and ``adamw`` from torch, in its fused form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from histoflow import Optimizer, Params, hookimpl, tunable

if TYPE_CHECKING:
    from torch.optim import Optimizer as TorchOptimizer


class SgdParams(Params):
    lr: float = Field(0.01, gt=0, le=100, json_schema_extra=tunable(low=1e-3, high=0.5, log=True))
    """Learning rate."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the last step that goes on in the next."""
    nesterov: bool = False
    """Look ahead along the momentum; needs some."""
    weight_decay: float = Field(0.0, ge=0, le=10, json_schema_extra=tunable(low=1e-6, high=1e-2, log=True))
    """L2 penalty on all weights."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> SgdParams:
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "nesterov must be false where momentum is 0. Got true. Set a momentum, such as 0.9."
            )
        return self


class AdamParams(Params):
    lr: float = Field(1e-3, gt=0, le=100, json_schema_extra=tunable(low=1e-5, high=1e-2, log=True))
    """Learning rate."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """How long the mean of the gradients remembers."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """How long the mean of the squared gradients remembers."""
    eps: float = Field(1e-8, gt=0, le=1)
    """Added to the denominator."""
    weight_decay: float = Field(0.0, ge=0, le=10, json_schema_extra=tunable(low=1e-6, high=1e-2, log=True))
    """L2 penalty on all weights, a part of the gradient."""


class AdamwParams(AdamParams):
    weight_decay: float = Field(0.01, ge=0, le=10, json_schema_extra=tunable(low=1e-4, high=1.0, log=True))
    """Share by which weights shrink in each step, times the learning rate and apart from the gradient."""


def build_sgd(params: SgdParams, parameters: Iterable[Any]) -> TorchOptimizer:
    from torch.optim import SGD

    passed_on = list(parameters)
    return SGD(
        passed_on,
        lr=params.lr,
        momentum=params.momentum,
        nesterov=params.nesterov,
        weight_decay=params.weight_decay,
        fused=_can_be_fused(passed_on),
    )


def build_adam(params: AdamParams, parameters: Iterable[Any]) -> TorchOptimizer:
    from torch.optim import Adam

    passed_on = list(parameters)
    return Adam(passed_on, **_adam_options(params), fused=_can_be_fused(passed_on))


def build_adamw(params: AdamwParams, parameters: Iterable[Any]) -> TorchOptimizer:
    from torch.optim import AdamW

    passed_on = list(parameters)
    return AdamW(passed_on, **_adam_options(params), fused=_can_be_fused(passed_on))


def _adam_options(params: AdamParams) -> dict[str, Any]:
    return {
        "lr": params.lr,
        "betas": (params.beta1, params.beta2),
        "eps": params.eps,
        "weight_decay": params.weight_decay,
    }


def _can_be_fused(parameters: list[Any]) -> bool:
    """Whether torch's fused kernels take them, which are faster on GPUs and CPUs, for tiny networks too."""
    groups = [item["params"] if isinstance(item, dict) else [item] for item in parameters]
    return all(
        parameter.device.type in ("cuda", "cpu") and parameter.is_floating_point()
        for group in groups
        for parameter in group
    )


SGD = Optimizer(
    name="sgd", summary="Stochastic gradient descent with momentum", params=SgdParams, build=build_sgd
)

ADAM = Optimizer(name="adam", summary="Adam (Kingma & Ba 2015)", params=AdamParams, build=build_adam)

ADAMW = Optimizer(
    name="adamw",
    summary="Adam with decoupled weight decay (Loshchilov & Hutter 2019)",
    params=AdamwParams,
    build=build_adamw,
)


@hookimpl
def histoflow_optimizers() -> Iterable[Optimizer[Any]]:
    return (SGD, ADAM, ADAMW)
