"""Plans how an experiment is computed here: what was asked, the machine and the data become one plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from histoflow import progress
from histoflow.data.store import Manifest
from histoflow.engine.device import Machine
from histoflow.engine.plan import Plan, Workload, decide
from histoflow.errors import DeviceError
from histoflow.experiment import Compute, Experiment

USUAL_BATCH = 128
"""Stands for a batch size that is yet to be found."""


def plan_for(
    experiment: Experiment,
    machine: Machine,
    manifest: Manifest | None = None,
    former: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan for this machine. What a ``former`` session of the run did is done again, so that it goes on
    to the same weights; where the machine cannot, the plan is made anew."""
    work = workload_of(experiment, manifest)
    if former:
        try:
            return decide(_settled(experiment.compute, former), machine, work)
        except DeviceError as error:
            progress.say(f"Computed with other arithmetic than before, so that figures may differ: {error}")
    return decide(experiment.compute, machine, work)


def workload_of(experiment: Experiment, manifest: Manifest | None) -> Workload:
    if manifest is None:
        return Workload(epochs=experiment.training.epochs, steps_per_epoch=None, image_bytes=None)
    images = {name: facts.images for name, facts in manifest.splits.items()}
    return workload(experiment, images["train"], images["val"], math.prod(manifest.size) * manifest.channels)


def workload(experiment: Experiment, train: int, val: int, image_bytes: int) -> Workload:
    """That of so many images in these splits, of so many bytes each."""
    settings = experiment.training
    batch = USUAL_BATCH if settings.batch_size == "auto" else settings.batch_size
    return Workload(
        epochs=settings.epochs,
        steps_per_epoch=math.ceil(train * settings.share / batch),
        image_bytes=(train + val) * image_bytes,
    )


def _settled(compute: Compute, former: Mapping[str, Any]) -> Compute:
    """The wishes, with what was decided before in the place of every ``auto``."""
    switches = {name: "on" if former[name] else "off" for name in ("channels_last", "compile", "graphs")}
    same = {name: former[name] for name in ("precision", "data", "threads")}
    return compute.model_copy(update=switches | same)
