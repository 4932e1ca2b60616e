"""Every hook that a plugin can implement: the whole plugin surface.

A plugin is a module named by an entry point of the group ``histoflow``. Each hook returns records
from ``histoflow.components``; each docstring below holds a complete plugin. Import heavy libraries
inside the functions, so that listing plugins stays fast.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from histoflow.components import (
    Architecture,
    Dataset,
    Loss,
    Metric,
    Optimizer,
    Reporter,
    Scheduler,
    Transform,
)

GROUP = "histoflow"
"""The entry-point group that plugins register under."""

API_VERSION = "1.0"
"""The version of this contract; a plugin may demand ``HISTOFLOW_API_REQUIRES = ">=1,<2"``."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def histoflow_datasets() -> Iterable[Dataset[Any]]:
    """Sets of labelled images.

    ::

        from histoflow import Dataset, Facts, Params, Row, Samples, hookimpl

        class SquaresParams(Params):
            images: int = 300

        def facts(params):
            return Facts(task="binary", classes=("dark", "light"), channels=3, size=(32, 32),
                         images=params.images)

        def open_(params, files):
            import numpy as np

            def read(index):
                return np.full((32, 32, 3), 60 + 120 * (index % 2) + index % 50, np.uint8)

            rows = [Row(label=index % 2, source=str(index)) for index in range(params.images)]
            return Samples(classes=("dark", "light"), rows=rows, read=read)

        SQUARES = Dataset(name="squares", summary="Dark and light squares", params=SquaresParams,
                          facts=facts, open=open_)

        @hookimpl
        def histoflow_datasets():
            return (SQUARES,)
    """
    return ()


@hookspec
def histoflow_transforms() -> Iterable[Transform[Any]]:
    """Changes to images, before packing (``preprocess``) or in each batch (``augment``, ``mix``).

    ::

        from histoflow import Params, Transform, hookimpl
        from pydantic import Field

        class DimParams(Params):
            most: float = Field(0.2, ge=0, le=1, description="How much darker an image may get")

        def build(params):
            def dim(images, generator):
                import torch

                amount = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)
                return images * (1 - params.most * amount)
            return dim

        DIM = Transform(name="dim", summary="Darken a little", params=DimParams, stage="augment", build=build)

        @hookimpl
        def histoflow_transforms():
            return (DIM,)
    """
    return ()


@hookspec
def histoflow_architectures() -> Iterable[Architecture[Any]]:
    """Networks that turn a batch of images into raw outputs.

    The report shows where a network looks, at the last layer that has a place for each part of the image.
    Where that is not the right one, name it: ``spatial_layer="blocks.2"``, or a function of the parameters.

    ::

        from histoflow import Architecture, DataInfo, Params, hookimpl

        class TinyParams(Params):
            width: int = 16

        def build(params: TinyParams, data: DataInfo, outputs: int):
            from torch import nn
            return nn.Sequential(
                nn.Conv2d(data.channels, params.width, 3), nn.ReLU(),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(params.width, outputs),
            )

        TINY = Architecture(name="tiny", summary="One convolution, for a start", params=TinyParams,
                            build=build, min_size=3)

        @hookimpl
        def histoflow_architectures():
            return (TINY,)
    """
    return ()


@hookspec
def histoflow_losses() -> Iterable[Loss[Any]]:
    """Losses, each with the link from raw outputs to probabilities.

    They are for one label an image unless ``tasks`` says otherwise.

    ::

        from histoflow import Loss, Params, hookimpl
        from pydantic import Field

        class SmoothParams(Params):
            smoothing: float = Field(0.1, ge=0, lt=1)

        def build(params, data):
            from torch import nn
            return nn.CrossEntropyLoss(label_smoothing=params.smoothing, reduction="none")

        SMOOTH = Loss(name="smooth", summary="Cross-entropy with soft labels", params=SmoothParams,
                      build=build, outputs=lambda params, data: len(data.classes),
                      probabilities=lambda params, outputs: outputs.softmax(dim=1))

        @hookimpl
        def histoflow_losses():
            return (SMOOTH,)
    """
    return ()


@hookspec
def histoflow_metrics() -> Iterable[Metric[Any]]:
    """Figures computed from a whole split's probabilities and labels.

    They are for one label an image unless ``tasks`` says otherwise. Test figures get an interval from
    2,000 resamples of the split. A metric that computes them at once, from how often each holds each image,
    says so by ``resampled``; of another, ``score`` is called on 200 of them.

    ::

        from histoflow import Metric, Params, Score, hookimpl

        def top2(params, probabilities, labels):
            best = probabilities.argsort(axis=1)[:, -2:]
            return Score(value=float((best == labels[:, None]).any(axis=1).mean()))

        TOP2 = Metric(name="top2", summary="The label is among the two likeliest", params=Params, score=top2)

        @hookimpl
        def histoflow_metrics():
            return (TOP2,)
    """
    return ()


@hookspec
def histoflow_optimizers() -> Iterable[Optimizer[Any]]:
    """Optimizers.

    ::

        from histoflow import Optimizer, Params, hookimpl
        from pydantic import Field

        class RMSpropParams(Params):
            lr: float = Field(1e-3, gt=0)

        def build(params, parameters):
            from torch.optim import RMSprop
            return RMSprop(parameters, lr=params.lr)

        RMSPROP = Optimizer(name="rmsprop", summary="RMSprop", params=RMSpropParams, build=build)

        @hookimpl
        def histoflow_optimizers():
            return (RMSPROP,)
    """
    return ()


@hookspec
def histoflow_schedulers() -> Iterable[Scheduler[Any]]:
    """Learning-rate schedules, stepped after each step, epoch or validation.

    ::

        from histoflow import Params, Scheduler, hookimpl

        def build(params, optimizer, span):
            from torch.optim.lr_scheduler import LinearLR
            return LinearLR(optimizer, 1.0, 0.01, total_iters=span.epochs * span.steps_per_epoch)

        LINEAR = Scheduler(name="linear", summary="Down to a hundredth in a line", params=Params,
                           build=build, every="step")

        @hookimpl
        def histoflow_schedulers():
            return (LINEAR,)
    """
    return ()


@hookspec
def histoflow_reporters() -> Iterable[Reporter[Any]]:
    """Writers of reports about a finished evaluation.

    ::

        from histoflow import Params, Reporter, hookimpl

        def write(params, results):
            path = results.folder / "summary.txt"
            path.write_text("\\n".join(f"{name} {score.value}" for name, score in results.metrics.items()))
            return [path]

        TEXT = Reporter(name="text", summary="The figures as plain text", params=Params, write=write)

        @hookimpl
        def histoflow_reporters():
            return (TEXT,)
    """
    return ()
