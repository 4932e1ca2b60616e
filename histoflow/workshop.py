"""Puts the chosen components together into something that the engine can train."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer

from histoflow import progress, stopping
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
from histoflow.data.batches import Augment, EvalBatches, Mix, TrainBatches
from histoflow.data.pixels import Pixels
from histoflow.data.store import Manifest, PackedStore, SplitReader
from histoflow.engine import checkpoint, groups
from histoflow.engine.average import Average
from histoflow.engine.fit import Values
from histoflow.engine.graphs import make_plain, make_recordable
from histoflow.engine.plan import Plan, Residence
from histoflow.engine.predict import predict
from histoflow.engine.step import Trainee
from histoflow.engine.team import ALONE, Team
from histoflow.errors import DeviceError
from histoflow.evaluation.scores import score_all
from histoflow.experiment import Experiment, Training, higher_is_better
from histoflow.registry import Registry
from histoflow.robustness import shifted
from histoflow.seeds import Stream, derive
from histoflow.watchdog import Watchdog

Validate = Callable[[nn.Module], dict[str, float | None] | None]
Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Workshop:
    """An experiment, its plugins, the facts of its data and the plan: builds each part on demand."""

    experiment: Experiment
    registry: Registry
    manifest: Manifest
    device: torch.device
    plan: Plan
    batch_size: int
    team: Team = ALONE
    start: checkpoint.Checkpoint | None = None
    """Whose weights training begins with, in the place of those that follow from the seed."""

    @property
    def info(self) -> DataInfo:
        return self.manifest.info

    @property
    def loss(self) -> Loss[Any]:
        return self.registry.get(Loss, self.experiment.loss.name)

    # ── The network, and what trains it ──

    def model(self, *, weights_follow: bool = False) -> nn.Module:
        """The network with its initial weights, which follow from the seed alone, or are those of ``start``.

        Where a checkpoint's ``weights_follow``, none are fetched.
        """
        choice = self.experiment.architecture
        architecture = self.registry.get(Architecture, choice.name)
        start = None if weights_follow else self.start
        build = ((weights_follow or start) and architecture.skeleton) or architecture.build
        torch.manual_seed(derive(self.experiment.seed, Stream.INITIAL_WEIGHTS))
        outputs = self.loss.outputs(self.experiment.loss, self.info)
        model = build(choice, self.info, outputs)
        if start is not None:
            checkpoint.load_weights(start, model)
        model = model.to(self.device)
        last = torch.channels_last if self.plan.channels_last.value else torch.contiguous_format
        return model.to(memory_format=last)

    def trainee(self, steps_per_epoch: int, *, weights_follow: bool = False) -> Trainee:
        experiment = self.experiment
        model = self.team.prepared(self.model(weights_follow=weights_follow))
        rules = _rules(experiment.training)
        optimizer = self._optimizer(model, rules)
        scheduler = self.registry.get(Scheduler, experiment.scheduler.name)
        span = Span(epochs=experiment.training.epochs, steps_per_epoch=steps_per_epoch)
        trainee = Trainee(
            model=model,
            loss=self.loss.build(experiment.loss, self.info).to(self.device),
            optimizer=optimizer,
            scheduler=scheduler.build(experiment.scheduler, optimizer, span),
            scheduler_every=scheduler.every,
            average=_average(model, experiment.training),
            scaler=torch.amp.GradScaler(self.device.type) if self.plan.precision.value == "fp16" else None,
            freezing=groups.Freezing(model, rules) if rules else None,
        )
        if self.plan.compile.value:
            model.compile()
        return trainee

    def make_ready(self, trainee: Trainee) -> None:
        """Let the optimizer be recorded, or not, as planned; once saved states have been put back."""
        if not self.plan.graphs.value:
            make_plain(trainee.optimizer)
            return
        trainee.recordable = make_recordable(trainee.optimizer, self.device)
        if trainee.recordable:
            return
        name = self.experiment.optimizer.name
        why = f"the optimizer '{name}' is neither fused nor capturable, so its steps cannot be recorded"
        if self.experiment.compute.graphs == "on":
            raise DeviceError(f"compute.graphs cannot be on: {why}. Use compute.graphs=auto.")
        progress.say(f"Steps are taken kernel by kernel, and not as a CUDA graph: {why}.")

    def _optimizer(self, model: nn.Module, rules: list[groups.Rule]) -> TorchOptimizer:
        grouped = groups.parameter_groups(model, rules)
        component = self.registry.get(Optimizer, self.experiment.optimizer.name)
        optimizer = component.build(self.experiment.optimizer, grouped)
        groups.scale(optimizer, grouped)
        return optimizer

    # ── The data ──

    def train_batches(self, store: PackedStore) -> TrainBatches:
        training = self.experiment.training
        early, late, mix = self._augmentations()
        return TrainBatches(
            store.split("train"),
            self._pixels,
            batch_size=self.batch_size,
            seed=self.experiment.seed,
            sampler=training.sampler,
            share=training.share,
            drop_last=training.drop_last,
            early=early,
            augment=late,
            mix=mix,
            side=partial(side_of, training, min(self.manifest.size)),
            residence=self.plan.data.value,
            rank=self.team.rank,
            ranks=self.team.ranks,
        )

    def _augmentations(self) -> tuple[list[Augment], list[Augment], Mix | None]:
        """Those that go before the conversion to floats, those after it, and the one that mixes images."""
        early: list[Augment] = []
        late: list[Augment] = []
        mix: Mix | None = None
        for choice in self.experiment.augment:
            transform = self.registry.get(Transform, choice.name)
            built = cast("Any", transform.build(choice))
            if transform.stage == "mix":
                mix = built
            elif transform.takes_bytes and not late:
                early.append(built)
            else:
                late.append(built)
        return early, late, mix

    def eval_batches(
        self, split: SplitReader, parts: int = 1, residence: Residence | None = None
    ) -> EvalBatches:
        """The images lie where the plan has those of training, or at another ``residence``."""
        # Without a gradient to come, a GPU holds many more images.
        larger = 4 if self.device.type == "cuda" and parts == 1 else 1
        size = max(1, larger * self.batch_size // parts)
        lie = residence or self.plan.data.value
        return EvalBatches(split, self._pixels, size, lie, rank=self.team.rank, ranks=self.team.ranks)

    @property
    def _pixels(self) -> Pixels:
        return Pixels(self.manifest.mean, self.manifest.std, self.device)

    # ── Figures ──

    @property
    def metrics(self) -> dict[str, tuple[Metric[Any], Any]]:
        return {c.name: (self.registry.get(Metric, c.name), c) for c in self.experiment.metrics}

    def validator(self, store: PackedStore, loss: nn.Module, watchdog: Watchdog, parts: int = 1) -> Validate:
        """Computes val_loss and every metric on the validation split; val_loss alone if it is not finite.

        For ``training.shifted_validation``, also the worse of each under shifted stains. A process that
        trains alone ends it when asked to; several go on to its end, where all have the same figures.
        """
        batches, team = self.eval_batches(store.split("val"), parts), self.team
        training, rises = self.experiment.training, partial(higher_is_better, registry=self.registry)

        def look(model: nn.Module, seen: Batches) -> dict[str, float | None] | None:
            watched = watchdog.watched(_until_asked(seen) if team.is_alone else seen)
            found = predict(model, watched, self.plan.dtype)
            if team.is_alone and stopping.asked():
                return None
            return self.figures(team.gathered(found.outputs), team.gathered(found.labels), loss)

        def validate(model: nn.Module) -> dict[str, float | None] | None:
            team.align(model)
            clean = look(model, batches)
            if clean is None or not training.shifted_validation or not shifted.is_sound(clean):
                return clean
            under = shifted.each_way(lambda change: look(model, batches.changed(change)))
            return None if under is None else shifted.together(clean, under, training.monitor, rises)

        return validate

    def figures(self, outputs: Tensor, labels: Tensor, loss: nn.Module) -> dict[str, float | None]:
        """val_loss and every metric of these outputs."""
        if not outputs.isfinite().all():
            return {"val_loss": math.nan}
        with torch.no_grad():
            losses = loss(outputs.to(self.device), labels.to(self.device))
        scores = score_all(self.metrics, self.probabilities(outputs), labels.numpy())
        return {
            "val_loss": float(losses.double().mean()),
            **{f"val_{name}": score.value for name, score in scores.items()},
        }

    def probabilities(self, outputs: Tensor) -> NDArray[np.float64]:
        """Images × classes, from the network's raw outputs."""
        linked: NDArray[np.float64] = self.loss.probabilities(self.experiment.loss, outputs).double().numpy()
        return linked

    def higher_is_better(self) -> bool:
        """Which way the monitored figure should go."""
        return higher_is_better(self.experiment.training.monitor, self.registry)

    def monitored(self, values: Values) -> float | None:
        """The monitored figure, turned so that smaller is better."""
        value = values[self.experiment.training.monitored]
        return value if value is None or not self.higher_is_better() else -value


def side_of(training: Training, full: int, epoch: int) -> int | None:
    """The images' shorter side in this epoch; None where it is the full one.

    It grows in steps of eight pixels: a network's halvings of them stay whole.
    """
    last = math.ceil(training.full_side_from * training.epochs)
    if training.start_side is None or epoch > last:
        return None
    grown = training.start_side + (full - training.start_side) * (epoch - 1) / last
    side = max(training.start_side, int(grown) // 8 * 8)
    return side if side < full else None


def _rules(training: Training) -> list[groups.Rule]:
    return [groups.Rule(**group.model_dump()) for group in training.groups]


def _average(model: nn.Module, training: Training) -> Average | None:
    if training.average == "none":
        return None
    begin = int(training.average_from * training.epochs)
    return Average(model, training.average, decay=training.average_decay, begin=begin)


def _until_asked(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, of which no more come once the process is asked to end."""
    for batch in batches:
        yield batch
        if stopping.asked():
            return
