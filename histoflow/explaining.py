"""Tells what an experiment comes to on this machine, and why, before anything of it is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer as TorchOptimizer

from histoflow._crosschecks import expected_data
from histoflow.components import Architecture, DataInfo, Dataset, Loss, Optimizer
from histoflow.engine import groups
from histoflow.engine.device import Machine, choose_device, machine_of
from histoflow.engine.footprint import Footprint, footprint_of
from histoflow.engine.plan import Plan, Workload, decide
from histoflow.experiment import Experiment
from histoflow.planning import USUAL_BATCH, workload, workload_of
from histoflow.registry import Registry
from histoflow.workshop import Workshop


@dataclass(frozen=True)
class Explained:
    """One decision: which setting, what was asked, what it comes to here, and the reason."""

    setting: str
    asked: str
    here: str
    why: str


def explain(experiment: Experiment, registry: Registry) -> list[Explained]:
    """Every decision about how the experiment would be computed here. No data are touched."""
    machine = machine_of(choose_device(experiment.compute.device))
    info = expected_data(experiment, registry)
    work = _expected_work(experiment, registry, info)
    plan = decide(experiment.compute, machine, work)
    asked = experiment.compute.device
    return [
        Explained("compute.device", asked, str(machine.device), machine.name),
        *_decisions(experiment, plan),
        _batch_size(experiment, machine),
        _peak_memory(experiment, registry, info, plan, work),
    ]


def _expected_work(experiment: Experiment, registry: Registry, info: DataInfo | None) -> Workload:
    """By what the data set states; an official split is taken to deal images out as our own would."""
    dataset = registry.get(Dataset, experiment.dataset.name)
    images = dataset.facts(experiment.dataset).images
    if info is None or images is None:
        return workload_of(experiment, None)
    val = round(images * experiment.split.val)
    train = images - val - round(images * experiment.split.test)
    return workload(experiment, train, val, math.prod(info.size) * info.channels)


def _decisions(experiment: Experiment, plan: Plan) -> list[Explained]:
    return [
        Explained(
            f"compute.{name}",
            _as_written(getattr(experiment.compute, name)),
            _as_written(decision.value),
            decision.why,
        )
        for name, decision in plan
    ]


def _as_written(value: Any) -> str:
    """As it would stand in an experiment's file."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "null" if value is None else str(value)


def _batch_size(experiment: Experiment, machine: Machine) -> Explained:
    asked, parts = experiment.training.batch_size, experiment.training.accumulate
    if asked != "auto":
        why = "asked for" if parts == 1 else f"asked for, in {parts} parts"
        return Explained("training.batch_size", str(asked), str(asked), why)
    trials = "the largest that fits" if machine.is_gpu else "the smallest that is about as fast as any"
    return Explained("training.batch_size", "auto", "found at the start", f"by trial steps: {trials}")


# ── Memory ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Memory:
    """What training will hold at most; None where that cannot be told."""

    peak: int | None
    why: str


def memory_line(workshop: Workshop) -> str:
    """What to say at the start of a training about the memory that it will take."""
    experiment = workshop.experiment
    found = memory_of(
        experiment,
        workshop.registry,
        workshop.info,
        workshop.plan,
        workshop.batch_size,
        workload_of(experiment, workshop.manifest),
    )
    whose = "GPU memory" if workshop.device.type == "cuda" else "memory"
    if found.peak is None:
        return f"How much {whose} training will take is unknown: {found.why}."
    return f"About {_size(found.peak)} of {whose}: {found.why}."


def memory_of(
    experiment: Experiment,
    registry: Registry,
    info: DataInfo,
    plan: Plan,
    batch_size: int,
    work: Workload,
) -> Memory:
    """On each device, of training in batches of this size."""
    try:
        footprint = network_footprint(experiment, registry, info, plan)
    except Exception as error:  # a stranger's network may do anything
        return Memory(None, f"the network cannot be measured without content ({_first_line(error)})")
    passes = math.ceil(batch_size / experiment.compute.devices / experiment.training.accumulate)
    resident = (work.image_bytes or 0) if plan.data.value == "device" else 0
    parts = {
        f"{passes} images on their way through the network": footprint.kept(passes),
        "weights": footprint.weights,
        "gradients": footprint.gradients,
        "the optimizer": footprint.optimizer,
        "the packed images": resident,
    }
    told = ", ".join(f"{_size(count)} for {what}" for what, count in parts.items() if count)
    return Memory(footprint.peak(passes) + resident, told)


def network_footprint(experiment: Experiment, registry: Registry, info: DataInfo, plan: Plan) -> Footprint:
    """It raises what the components raise where they cannot work without content."""
    choice = experiment.architecture
    architecture = registry.get(Architecture, choice.name)
    outputs = registry.get(Loss, experiment.loss.name).outputs(experiment.loss, info)
    rules = [groups.Rule(**group.model_dump()) for group in experiment.training.groups]

    def optimizer(model: nn.Module) -> TorchOptimizer:
        component = registry.get(Optimizer, experiment.optimizer.name)
        return component.build(experiment.optimizer, groups.parameter_groups(model, rules))

    return footprint_of(
        lambda: (architecture.skeleton or architecture.build)(choice, info, outputs),
        optimizer,
        (info.channels, *info.size),
        plan.dtype,
        copies=1 if experiment.training.average == "none" else 2,
    )


def _peak_memory(
    experiment: Experiment, registry: Registry, info: DataInfo | None, plan: Plan, work: Workload
) -> Explained:
    if info is None:
        found = Memory(None, "the data set tells its classes and its images' size once it is packed")
    else:
        asked = experiment.training.batch_size
        size = USUAL_BATCH if asked == "auto" else asked
        found = memory_of(experiment, registry, info, plan, size, work)
    return Explained("peak memory", "", "unknown" if found.peak is None else _size(found.peak), found.why)


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 200 else f"{lines[0][:200]}…"
