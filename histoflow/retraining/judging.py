"""A challenger and the champion: is there anything new, which of the two is better, who is champion now.

In the folder of the challenger's run:

gate.json      the verdict with all that it rests on
champion.npz   what the champion says of the test images that both are compared on
CHANGE.md      the change record: what changed in the data, the figures, the checks, who decided what
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from histoflow import files, models, progress, stages
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
    models.refuse_bad_name(name)
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
    champion, known = models.champion(name), _decided_before(name, run)
    same = champion is not None and champion.record.model == _model_of(run)
    bare = Judged(
        name=name,
        run=run.id,
        time=now(),
        gate=settings,
        champion=champion and champion.number,
        champion_model=champion and champion.record.model,
        same_as=known and known.number,
        data_changes=_data_changes(run, champion, raw),
        verdict=gate.the_same(),
    )
    if same:
        return bare
    if known is not None:
        return bare.model_copy(update={"verdict": gate.decided_before(known.reference, known.stage)})
    if champion is None:
        return bare.model_copy(update={"verdict": _first(run, settings)})
    try:
        told = _against(run, champion, settings, raw, registry, device)
    except UserError as error:  # no fault of the challenger: whoever decides must know the reason
        told = {"verdict": gate.incomparable(str(error), settings)}
    return bare.model_copy(update=told)


def _decided_before(name: str, run: Run) -> Version | None:
    """The version that this run is already, if anything was decided about it."""
    fitted = files.digest_of_file(run.folder / "fitted.json")
    told = (_model_of(run), run.read().data_fingerprint, fitted)
    for version in _versions(name):
        record = version.record
        if (record.model, record.data_fingerprint, record.files["fitted.json"].sha256) == told:
            return None if version.stage == "candidate" else version
    return None


def _data_changes(run: Run, champion: Version | None, raw: RawData) -> str:
    if champion is None:
        return raw.changes
    from histoflow.evaluating import store_of
    from histoflow.retraining import data_changes

    return data_changes.beside(champion, store_of(run).folder)


def _first(run: Run, settings: Gate) -> gate.Verdict:
    from histoflow.evaluation import predictions

    classes = run.metrics() or {}
    return gate.first(predictions.load(run.folder), classes["classes"], settings)


def _against(
    run: Run, champion: Version, settings: Gate, raw: RawData, registry: Registry, device: str | None
) -> dict[str, Any]:
    """The verdict of a comparison with the champion, and what it rests on."""
    from histoflow.retraining.challenge import calibrated, meet

    experiment = stages.experiment_of(run, registry)
    metrics, main = metrics_of(experiment, settings, registry)
    met = meet(run, champion, experiment, raw, registry, device or experiment.compute.device)
    theirs, ours = calibrated(met.champion, champion.run), calibrated(met.challenger, run)
    found = gate.compared(theirs, ours, metrics=metrics, main=main, registry=registry)
    verdict = gate.weigh(theirs, ours, found, champion.record.classes, settings, met.pace)
    return {"verdict": verdict, **_told(found), "notes": met.notes}


def kept_verdict(version: Version, champion: Version) -> gate.Verdict | None:
    """What the gate found when it compared this version with this champion; None where it did not."""
    found = verdict_record.read(version.folder)
    if found is None or found.images is None:
        return None
    compared_with = (found.name, found.champion, found.champion_model)
    return found.verdict if compared_with == (champion.name, champion.number, champion.record.model) else None


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
