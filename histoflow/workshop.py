"""Puts the chosen components together into something that the engine can train."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from histoflow import stopping
from histoflow.components import (
    Architecture,
    DataInfo,
    Loss,
    Metric,
    Optimizer,
    Scheduler,
    Span,
    Transform,
)
from histoflow.data.batches import Augment, EvalBatches, Pixels, TrainBatches
from histoflow.data.store import Manifest, PackedStore, SplitReader
from histoflow.engine.fit import Trainee, Validate
from histoflow.engine.predict import predict
from histoflow.evaluation.scores import score_all
from histoflow.experiment import Experiment, higher_is_better
from histoflow.registry import Registry
from histoflow.seeds import Stream, derive
from histoflow.watchdog import Watchdog


@dataclass(frozen=True)
class Workshop:
    """An experiment, its plugins and the facts of its data: builds each part on demand."""

    experiment: Experiment
    registry: Registry
    manifest: Manifest
    device: torch.device

    @property
    def info(self) -> DataInfo:
        return self.manifest.info

    @property
    def loss(self) -> Loss[Any]:
        return self.registry.get(Loss, self.experiment.loss.name)

    def model(self, *, weights_follow: bool = False) -> nn.Module:
        """The network with its initial weights, which follow from the seed alone.

        Where a checkpoint's ``weights_follow``, none are fetched.
        """
        choice = self.experiment.architecture
        architecture = self.registry.get(Architecture, choice.name)
        build = (weights_follow and architecture.skeleton) or architecture.build
        torch.manual_seed(derive(self.experiment.seed, Stream.INITIAL_WEIGHTS))
        outputs = self.loss.outputs(self.experiment.loss, self.info)
        return build(choice, self.info, outputs).to(self.device)

    def trainee(self, steps_per_epoch: int, *, weights_follow: bool = False) -> Trainee:
        experiment, model = self.experiment, self.model(weights_follow=weights_follow)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = self.registry.get(Optimizer, experiment.optimizer.name).build(
            experiment.optimizer, trainable
        )
        scheduler = self.registry.get(Scheduler, experiment.scheduler.name)
        span = Span(epochs=experiment.training.epochs, steps_per_epoch=steps_per_epoch)
        return Trainee(
            model=model,
            loss=self.loss.build(experiment.loss, self.info).to(self.device),
            optimizer=optimizer,
            scheduler=scheduler.build(experiment.scheduler, optimizer, span),
            scheduler_every=scheduler.every,
        )

    def train_batches(self, store: PackedStore) -> TrainBatches:
        augment = [self.registry.get(Transform, c.name).build(c) for c in self.experiment.augment]
        return TrainBatches(
            store.split("train"),
            self._pixels,
            batch_size=self.experiment.training.batch_size,
            seed=self.experiment.seed,
            sampler=self.experiment.training.sampler,
            share=self.experiment.training.share,
            augment=cast("Sequence[Augment]", augment),
        )

    def eval_batches(self, split: SplitReader, parts: int = 1) -> EvalBatches:
        return EvalBatches(split, self._pixels, max(1, self.experiment.training.batch_size // parts))

    @property
    def _pixels(self) -> Pixels:
        return Pixels(self.manifest.mean, self.manifest.std, self.device)

    @property
    def metrics(self) -> dict[str, tuple[Metric[Any], Any]]:
        return {c.name: (self.registry.get(Metric, c.name), c) for c in self.experiment.metrics}

    def validator(self, store: PackedStore, loss: nn.Module, watchdog: Watchdog, parts: int = 1) -> Validate:
        """Computes val_loss and every metric on the validation split; val_loss alone if it is not finite."""
        batches = self.eval_batches(store.split("val"), parts)

        def validate(model: nn.Module) -> dict[str, float | None] | None:
            outputs, labels = predict(model, watchdog.watched(_until_asked(batches)))
            if stopping.asked():
                return None
            if not outputs.isfinite().all():
                return {"val_loss": math.nan}
            losses = loss(outputs.to(self.device), labels.to(self.device))
            scores = score_all(self.metrics, self.probabilities(outputs), labels.numpy())
            return {
                "val_loss": float(losses.double().mean()),
                **{f"val_{name}": score.value for name, score in scores.items()},
            }

        return validate

    def probabilities(self, outputs: Tensor) -> NDArray[np.float64]:
        """Images × classes, from the network's raw outputs."""
        linked: NDArray[np.float64] = self.loss.probabilities(self.experiment.loss, outputs).double().numpy()
        return linked

    def higher_is_better(self) -> bool:
        """Which way the monitored figure should go."""
        return higher_is_better(self.experiment.training.monitor, self.registry)


def _until_asked(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, of which no more come once the process is asked to end."""
    for batch in batches:
        yield batch
        if stopping.asked():
            return
