"""Finds a batch size and a learning rate for an experiment, by trial steps that leave no trace in a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import cast

import torch

from histoflow import files, progress
from histoflow._crosschecks import cross_check
from histoflow.data.batches import TrainBatches
from histoflow.data.store import PackedStore
from histoflow.engine.batch import Batch
from histoflow.engine.device import choose_device, machine_of
from histoflow.engine.finders import (
    FEWEST,
    Found,
    RangeTest,
    doubling,
    fastest,
    give_back_memory,
    growing,
    largest_that_fits,
    range_test,
)
from histoflow.engine.modes import computing
from histoflow.engine.plan import Decision
from histoflow.engine.step import Manner, Step, Trainee
from histoflow.engine.team import ALONE
from histoflow.errors import ExperimentError, UserError
from histoflow.experiment import Experiment
from histoflow.explaining import network_footprint
from histoflow.planning import USUAL_BATCH, plan_for
from histoflow.registry import Registry
from histoflow.workshop import Workshop

_LARGEST_ON_CPU = 1024
_SECONDS_ON_CPU = 20.0
_OF_FREE_MEMORY = 0.5
"""What trial steps on a CPU may take: where a GPU refuses, a host begins to swap."""

# ── The batch size ──────────────────────────────────────────────────────────────────────────────


def largest_batch(workshop: Workshop, store: PackedStore) -> int:
    """The batch size for ``training.batch_size: auto``, found by trial steps.

    On a GPU the largest power of two that fits; on a CPU, where nothing ends growth, the smallest that is
    about as fast as any.
    """
    with _computing(workshop):
        found = _find_largest(_lean(workshop), store)
    give_back_memory()
    progress.say(f"Batch size {found.size}: {found.why}.")
    return found.size


def _find_largest(workshop: Workshop, store: PackedStore) -> Found:
    most = max(1, round(len(store.split("train")) * workshop.experiment.training.share))
    if workshop.device.type != "cuda":
        trials = _Trials(workshop, store)
        sizes = _within_free_memory(workshop, doubling(min(most, _LARGEST_ON_CPU)))
        return fastest(trials.speed, sizes, _SECONDS_ON_CPU)
    memory = machine_of(workshop.device).memory
    # Validation brings its images to the device, too.
    later = _val_bytes(workshop) if workshop.plan.data.value == "device" else 0
    return largest_that_fits(_Trials(workshop, store).peak, doubling(most), memory - later)


class _Trials:
    """Training steps on real batches, of a trainee of their own that learns nothing."""

    def __init__(self, workshop: Workshop, store: PackedStore) -> None:
        self._workshop, self._store = workshop, store
        self._resident: TrainBatches | None = None

    @cached_property
    def _step(self) -> Step:
        """Made within the first trial, for it may be what does not fit."""
        trainee = _without_learning(self._workshop.trainee(steps_per_epoch=1))
        trainee.prepare(self._workshop.experiment.training.epochs)
        return Step(trainee, _manner(self._workshop))

    def speed(self, size: int) -> float:
        """Images a second, in the faster of two steps after a first."""
        batch = self._batch(size)
        self._step(batch)
        return len(batch.labels) / min(_seconds(self._step, batch) for _ in range(2))

    def peak(self, size: int) -> int:
        """Bytes of the GPU that are taken while a step is, by others as well."""
        device = self._workshop.device
        batch = self._batch(size)
        self._step(batch)  # makes the optimizer's state, and chooses algorithms
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        self._step(batch)
        torch.cuda.synchronize(device)
        peak, lasting = torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
        # Recorded steps take memory that no other step can use.
        again = peak - lasting if self._workshop.plan.graphs.value else 0
        free, total = torch.cuda.mem_get_info(device)
        beside_torch = total - free - torch.cuda.memory_reserved(device)
        return peak + again + beside_torch

    def _batch(self, size: int) -> Batch:
        """In the last epoch, when images have their full size and nothing is frozen any more."""
        epoch = self._workshop.experiment.training.epochs
        if self._resident is not None:
            return self._made(self._resident, size, epoch)
        batches = replace(self._workshop, batch_size=size).train_batches(self._store)
        if not batches.is_resident:
            with closing(cast("Generator[Batch, None, None]", batches.epoch(epoch))) as drawn:
                return next(drawn)
        self._resident = batches  # brought to the device once, for all sizes
        return self._made(batches, size, epoch)

    def _made(self, batches: TrainBatches, size: int, epoch: int) -> Batch:
        device = self._workshop.device
        chance = torch.Generator(device).manual_seed(0)
        return batches.make(torch.arange(size, device=device), chance, batches.side(epoch))


def _seconds(step: Step, batch: Batch) -> float:
    begun = time.perf_counter()
    step(batch)
    return time.perf_counter() - begun


def _without_learning(trainee: Trainee) -> Trainee:
    """Steps of the same work that leave the weights as they are, so that they stay numbers."""
    for group in trainee.optimizer.param_groups:
        if "lr" in group:
            group["lr"] = 0.0
    return trainee


def _val_bytes(workshop: Workshop) -> int:
    facts, (height, width) = workshop.manifest, workshop.manifest.size
    return facts.splits["val"].images * height * width * facts.channels


def _within_free_memory(workshop: Workshop, sizes: Iterable[int]) -> Iterator[int]:
    """At least the first; all where the network cannot be measured."""
    import psutil

    free = _OF_FREE_MEMORY * psutil.virtual_memory().available
    parts = workshop.experiment.training.accumulate
    peak = _peak_of(workshop)
    for number, size in enumerate(sizes):
        if number and peak(size // parts) > free:
            return
        yield size


def _peak_of(workshop: Workshop) -> Callable[[int], int]:
    try:
        footprint = network_footprint(workshop.experiment, workshop.registry, workshop.info, workshop.plan)
    except Exception:  # a stranger's network may do anything
        return lambda _: 0
    return footprint.peak


# ── The learning rate ───────────────────────────────────────────────────────────────────────────


def find_rate(
    experiment: Experiment,
    store: PackedStore,
    registry: Registry,
    *,
    steps: int = 200,
    lowest: float = 1e-6,
    highest: float = 1.0,
) -> RangeTest:
    """Train on the training split alone while the learning rate grows, and tell how the loss went."""
    refuse_bad_range(steps, lowest, highest)
    problems = cross_check(experiment, registry, packed=store.manifest.info)
    if problems:
        raise ExperimentError(problems, f"the experiment, now that its data are packed in {store.folder}")
    store.verify(["train"])
    workshop = _workshop(experiment, store, registry)
    with _computing(workshop), progress.track("Testing learning rates", total=steps, unit="steps") as done:
        batches = workshop.train_batches(store)
        trainee = workshop.trainee(len(batches))
        return range_test(
            trainee,
            batches,
            growing(lowest, highest, steps),
            _base(experiment, trainee),
            seed=experiment.seed,
            manner=_manner(workshop),
            done=done,
        )


def refuse_bad_range(steps: int, lowest: float, highest: float) -> None:
    """Told in the words of the command line, where it is checked before data are fetched."""
    if steps < FEWEST:
        raise UserError(
            f"--steps must be at least {FEWEST}: fewer show nothing but chance. Got {steps}. Use 100 or more."
        )
    if not 0 < lowest < highest:
        raise UserError(
            f"--from must be above 0 and below --to, which is {highest:g}. Got {lowest:g}. "
            f"Use the learning rates between which to look, such as --from 1e-6 --to 1."
        )


def _workshop(experiment: Experiment, store: PackedStore, registry: Registry) -> Workshop:
    device = choose_device(experiment.compute.device)
    plan = plan_for(experiment, machine_of(device), store.manifest)
    size = experiment.training.batch_size
    workshop = Workshop(
        experiment, registry, store.manifest, device, plan, USUAL_BATCH if size == "auto" else size
    )
    if size == "auto":
        workshop = replace(workshop, batch_size=largest_batch(workshop, store))
    return _lean(workshop)


def _base(experiment: Experiment, trainee: Trainee) -> float:
    """The learning rate that ``optimizer.lr`` sets; of parameter groups, the last is that of all the rest."""
    last = trainee.optimizer.param_groups[-1]
    return float(getattr(experiment.optimizer, "lr", last.get("initial_lr", last.get("lr", 1.0))))


def write_test(test: RangeTest, folder: Path) -> None:
    """The curve as a figure and as numbers."""
    from histoflow.report.lr_figure import lr_curve
    from histoflow.report.style import to_png

    marks = {"steepest": test.steepest, "tenth_of_best": test.tenth_of_best}
    data = {"rates": test.rates, "losses": test.losses, "smoothed": test.smoothed, **marks}
    files.write_json(folder / "lr-find.json", data)
    with files.atomic_file(folder / "lr-find.png") as path:
        path.write_bytes(to_png(lr_curve(test.rates, test.losses, test.smoothed, marks)))


# ── Both ────────────────────────────────────────────────────────────────────────────────────────


def _lean(workshop: Workshop) -> Workshop:
    """Alone, without what a few steps have no use for, and with images of their full size.

    The other processes of a team wait for what is found here, and exchange no gradients meanwhile.
    """
    experiment = workshop.experiment
    training = experiment.training.model_copy(update={"average": "none", "start_side": None})
    return replace(
        workshop,
        experiment=experiment.model_copy(update={"training": training}),
        plan=replace(workshop.plan, compile=Decision(False, "a few steps do not repay it")),
        team=ALONE,
    )


def _manner(workshop: Workshop) -> Manner:
    training = workshop.experiment.training
    return Manner(dtype=workshop.plan.dtype, parts=training.accumulate, clip=training.clip)


@contextmanager
def _computing(workshop: Workshop) -> Iterator[None]:
    """As in training; torch's own chance is afterwards what it was before."""
    device = workshop.device
    deterministic = workshop.experiment.compute.deterministic
    cuda = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=cuda),
        computing(workshop.plan, device, deterministic=deterministic),
    ):
        yield
