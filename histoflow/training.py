"""Trains a run: drives the engine, keeps checkpoints, stops when patience ends, goes on where it was."""

from __future__ import annotations

import gc
from collections.abc import Generator
from dataclasses import replace
from typing import Literal

import torch

from histoflow import folders, progress
from histoflow._crosschecks import cross_check
from histoflow.best import best_of
from histoflow.data.batches import TrainBatches
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.engine.device import choose_device, machine_of
from histoflow.engine.modes import computed
from histoflow.engine.team import ALONE, Team
from histoflow.errors import DeviceError, DeviceMemoryError, ExperimentError
from histoflow.experiment import Experiment
from histoflow.explaining import memory_line
from histoflow.finding import largest_batch
from histoflow.planning import USUAL_BATCH, plan_for
from histoflow.registry import Registry
from histoflow.runs import Run
from histoflow.session import Entry, Session
from histoflow.watchdog import Watchdog, watching
from histoflow.workshop import Workshop


def train_run(
    experiment: Experiment,
    store: PackedStore,
    run: Run,
    registry: Registry,
    *,
    profile: bool = False,
    team: Team = ALONE,
) -> Generator[Entry, None, None]:
    """Train until the last epoch or another reason to stop, yielding each epoch as its checkpoint is written.

    The caller holds the run's lock. Once ``stopping.asked()``, it ends after a last checkpoint. With
    ``profile``, the run's folder ``profile`` tells where the time of the first epoch went. Each process of
    a ``team`` does this at the same time.
    """
    with team.leader_first():  # the others plan as it has written down
        folders.refuse_other_data(f"run {run.id}", run.read().data_fingerprint, store.manifest.fingerprint)
        _refuse_misfit(experiment, store, registry)
        if team.leads:
            store.verify(["train", "val"])
        run.update(packed=str(store.folder), data_fingerprint=store.manifest.fingerprint)
        workshop = _workshop(experiment, store, run, registry, team)
        if team.leads:
            progress.say(memory_line(workshop))
    deterministic, limit = experiment.compute.deterministic, experiment.training.stall_limit
    with watching(limit, run.folder / _stalled(team)) as watchdog:
        work = _in_as_many_parts_as_it_takes(workshop, store, run, watchdog, profile)
        history, stopped = yield from computed(
            work, workshop.plan, workshop.device, deterministic=deterministic
        )
        if run.read().stopped is None:
            run.update(state="trained", best=best_of(history, workshop), stopped=stopped)


def _stalled(team: Team) -> str:
    """The file that tells where a process hung."""
    return "stalled.txt" if team.leads else f"stalled-{team.rank}.txt"


def _workshop(
    experiment: Experiment, store: PackedStore, run: Run, registry: Registry, team: Team
) -> Workshop:
    """Everything decided about how to compute, and written down for sessions to come."""
    device = team.device or choose_device(experiment.compute.device)
    former = run.read().plan
    plan = plan_for(experiment, machine_of(device), store.manifest, former)
    wanted = experiment.training.batch_size
    found = former and former["batch_size"]
    batch_size, start = found or _usable(wanted), checkpoint.find(run.start, "best")
    workshop = Workshop(experiment, registry, store.manifest, device, plan, batch_size, team, start)
    if wanted == "auto" and not found:
        workshop = replace(workshop, batch_size=largest_batch(workshop, store))
    run.update(plan={**plan.values(), "batch_size": workshop.batch_size})
    return workshop


def _usable(batch_size: int | Literal["auto"]) -> int:
    return USUAL_BATCH if batch_size == "auto" else batch_size


def _refuse_misfit(experiment: Experiment, store: PackedStore, registry: Registry) -> None:
    problems = cross_check(experiment, registry, packed=store.manifest.info)
    if problems:
        raise ExperimentError(problems, f"the experiment, now that its data are packed in {store.folder}")


def _in_as_many_parts_as_it_takes(
    workshop: Workshop, store: PackedStore, run: Run, watchdog: Watchdog, profile: bool
) -> Generator[Entry, None, tuple[list[Entry], str]]:
    """Train; where memory runs out and the experiment allows it, go on with batches in smaller parts."""
    parts = workshop.experiment.training.accumulate
    while True:
        session = None
        try:
            session = _begin(workshop, store, run, watchdog, parts)
            if profile and workshop.team.leads:
                session.be_profiled()
            stopped = yield from session.train()
        except torch.OutOfMemoryError as error:
            parts = _more_parts(session.parts if session else parts, workshop, error)
        except RuntimeError as error:
            _explain_if_not_deterministic(error)
            raise
        else:
            return session.history, stopped
        finally:
            if session is not None:
                session.end()
        del session  # and with it all that lies in the device's memory
        gc.collect()
        torch.cuda.empty_cache()


def _explain_if_not_deterministic(error: RuntimeError) -> None:
    told = str(error)
    if "does not have a deterministic implementation" in told or "CUBLAS_WORKSPACE_CONFIG" in told:
        raise DeviceError(
            f"compute.deterministic cannot be true with these components on a GPU ({told.split('.')[0]}). "
            f"Use compute.deterministic=false, or components without that operation."
        ) from error


def _more_parts(parts: int, workshop: Workshop, error: torch.OutOfMemoryError) -> int:
    may_split = workshop.experiment.training.on_out_of_memory == "split"
    if not workshop.team.is_alone:
        raise DeviceMemoryError(
            f"Batches of {workshop.batch_size} images on {workshop.team.ranks} devices do not fit into their "
            f"memory: {error}. Lower training.batch_size or the images' size, or let a batch pass in more "
            f"parts (training.accumulate)."
        ) from error
    if not may_split or parts * 2 > workshop.batch_size:
        other = "" if may_split else ", or let batches be halved by training.on_out_of_memory=split"
        raise DeviceMemoryError(
            f"Batches of {workshop.batch_size} images in {parts} {'part' if parts == 1 else 'parts'} do not "
            f"fit into the device's memory: {error}. Lower training.batch_size or the images' size{other}."
        ) from error
    progress.say(f"The device's memory is too small: batches go through it in {parts * 2} parts from now on.")
    return parts * 2


def _bring(batches: TrainBatches, workshop: Workshop) -> None:
    """Images that are to lie on the device are brought there before anything else takes its memory."""
    try:
        batches.bring()
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"The packed images do not fit into the memory that is free on {workshop.device}: {error}. "
            f"Let them lie elsewhere: compute.data=host."
        ) from error


def _begin(workshop: Workshop, store: PackedStore, run: Run, watchdog: Watchdog, parts: int) -> Session:
    """Everything as the last checkpoint left it, or as it is before the first step."""
    saved = checkpoint.find(run.checkpoints, "last")
    batches = workshop.train_batches(store)
    _bring(batches, workshop)
    trainee = workshop.trainee(len(batches), weights_follow=saved is not None)
    writer = checkpoint.Writer(run.checkpoints)
    session = Session(workshop, store, run, watchdog, batches, trainee, parts, writer)
    if saved is not None:
        session.go_on_from(saved)
    workshop.make_ready(trainee)
    exact = workshop.device.type == "cpu" or workshop.experiment.compute.deterministic
    workshop.team.join(trainee, exact=exact)
    return session
