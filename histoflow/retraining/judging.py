"""A challenger and the champion: is there anything new, which of the two is better, who is champion now.

In the folder of the challenger's run:

gate.json      the verdict with all that it rests on
champion.npz   what the champion says of the test images that both are compared on
CHANGE.md      the change record: what changed in the data, the figures, the checks, who decided what
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from histoflow import files, folders, models, progress, stages
from histoflow import registry as plugins
from histoflow.components import Dataset, Metric
from histoflow.errors import RunError, UserError
from histoflow.retraining import gate, verdict_record
from histoflow.retraining.gate import Gate
from histoflow.retraining.verdict_record import Judged
from histoflow.runs import now

if TYPE_CHECKING:
    from histoflow.evaluation.comparison import Differences
    from histoflow.evaluation.scores import Metrics
    from histoflow.experiment import Experiment
    from histoflow.models import Version
    from histoflow.registry import Registry
    from histoflow.runs import Run
    from histoflow.stages import RawData

_ASIDE = ("name", "dataset", "split", "preprocess", "audit", "evaluation", "reports")
"""Parts of an experiment that the data's fingerprint speaks of, or that make no other model."""


# ── Before training ─────────────────────────────────────────────────────────────────────────────


def refuse_early(name: str, experiment: Experiment, settings: Gate, registry: Registry | None = None) -> None:
    """What would fail after the training is better refused before it."""
    folders.refuse_bad_id("model", name, longest=60)
    registry = registry or plugins.installed()
    if settings.metric is not None:
        task = registry.get(Dataset, experiment.dataset.name).facts(experiment.dataset).task
        fitting = [name for name, one in registry.of_kind(Metric).items() if task in (None, *one.tasks)]
        if settings.metric not in fitting:
            raise UserError(
                f"The gate's metric must be one for {task or 'these'} data: {', '.join(fitting)}. "
                f"Got {settings.metric}."
            )
    if experiment.training.folds is not None:
        raise UserError(
            f"training.folds must be null for a retraining, which trains one model on all training images. "
            f"Got {experiment.training.folds}. Use 'histoflow train' for a cross-validation."
        )


def nothing_new(name: str, experiment: Experiment, raw: RawData, registry: Registry | None = None) -> str:
    """In words, if the model has a version of these data and this experiment; empty where it has none."""
    fingerprint = stages.recipe_of(experiment, raw, registry).fingerprint
    for version in reversed(_versions(name)):
        same_data = version.record.data_fingerprint == fingerprint
        if same_data and _core(version.run.read().experiment) == _core(experiment.to_data()):
            return (
                f"Nothing new: {version.reference} ({version.stage}) was trained on these data in this way."
            )
    return ""


def _versions(name: str) -> list[Version]:
    return next((line.versions for line in models.listing() if line.name == name), [])


def _core(experiment: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in experiment.items() if field not in _ASIDE}


def warm_start(run: Run, name: str, packed: stages.Packed) -> None:
    """Have the run begin with the champion's weights, if there is a champion and training has not begun."""
    from histoflow.data.store import read_manifest
    from histoflow.engine import checkpoint
    from histoflow.engine.model_only import keep_model

    champion = models.champion(name)
    if champion is None or run.start.is_dir() or checkpoint.find(run.checkpoints, "last") is not None:
        return
    models.verify(champion)
    _refuse_other_kind(champion, run.read().experiment, read_manifest(packed.folder).classes)
    best = checkpoint.find(champion.run.checkpoints, "best")
    assert best is not None, "verified"
    files.remove_unfinished(run.start)
    with files.atomic_folder(run.start) as temporary:
        keep_model(best, temporary)
    run.update(warm_from=champion.reference)
    progress.say(f"Training begins with the weights of {champion.reference}.")


def _refuse_other_kind(champion: Version, experiment: dict[str, Any], classes: tuple[str, ...]) -> None:
    former = champion.run.read().experiment
    differing = [part for part in ("architecture", "loss", "split") if former[part] != experiment[part]]
    differing += ["classes"] if champion.record.classes != classes else []
    if differing:
        raise UserError(
            f"A warm start begins with the weights of the champion {champion.reference}, so these must be as "
            f"they were for it: {', '.join(differing)}. Make them so, or start without its weights."
        )


# ── Judging ─────────────────────────────────────────────────────────────────────────────────────


def judge(
    run: Run,
    name: str,
    settings: Gate,
    raw: RawData,
    registry: Registry | None = None,
    device: str | None = None,
) -> Judged:
    """The gate's verdict on an evaluated run; one that was given already stands."""
    registry = registry or plugins.installed()
    with run.lock():
        found = verdict_record.read(run.folder)
        if found is None:
            found = _judge(run, name, settings, raw, registry, device)
            found.write(run.folder)
    progress.say(f"The gate: {found.verdict.decision}. {found.verdict.why}")
    return found


def _judge(
    run: Run, name: str, settings: Gate, raw: RawData, registry: Registry, device: str | None
) -> Judged:
    champion = models.champion(name)
    same = champion is not None and champion.record.model == _model_of(run)
    bare = Judged(
        name=name,
        run=run.id,
        time=now(),
        gate=settings,
        champion=champion and champion.number,
        champion_model=champion and champion.record.model,
        data_changes=raw.changes,
        verdict=gate.the_same() if same else gate.first_of_its_line(),
    )
    if champion is None or same:
        return bare
    from histoflow.retraining.challenge import calibrated, meet

    experiment = stages.experiment_of(run, registry)
    metrics, main = metrics_of(experiment, settings, registry)
    try:
        met = meet(run, champion, experiment, raw, registry, device or experiment.compute.device)
    except UserError as error:  # no fault of the challenger: whoever decides must know the reason
        return bare.model_copy(update={"verdict": gate.incomparable(str(error), settings)})
    theirs, ours = calibrated(met.champion, champion.run), calibrated(met.challenger, run)
    found = gate.compared(theirs, ours, metrics=metrics, main=main, registry=registry)
    verdict = gate.weigh(theirs, ours, found, champion.record.classes, settings, met.pace)
    return bare.model_copy(update={"verdict": verdict, **_told(found), "notes": met.notes})


def _model_of(run: Run) -> str:
    metrics = run.metrics()
    if metrics is None:
        raise RunError(f"Run {run.id} has not been evaluated. Do that first: histoflow evaluate {run.id}")
    return str(metrics["model"])


def metrics_of(experiment: Experiment, settings: Gate, registry: Registry) -> tuple[Metrics, str]:
    """Those of the experiment and the one that decides."""
    metrics: dict[str, Any] = {one.name: (registry.get(Metric, one.name), one) for one in experiment.metrics}
    main = settings.metric or next(iter(metrics))
    if main not in metrics:
        metric = registry.get(Metric, main)
        metrics[main] = (metric, metric.params())
    return metrics, main


def _told(found: Differences) -> dict[str, Any]:
    """What a reader wants to know of the comparison beside the verdict."""
    figures = {**found.metrics, **found.calibration}
    return {
        "images": found.images,
        "groups": found.groups,
        "metric": found.main,
        "figures": {name: asdict(one) for name, one in figures.items()},
    }
