"""The stages of a run as plain functions: small records and paths in, small records and paths out.

The flows wrap each of them in a Prefect task; they run as well from a notebook or a test.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict

from histoflow import crossvalidation, fetched, folders, home, progress, runs, stopping
from histoflow import registry as plugins
from histoflow.components import Dataset, Reporter, Samples, Transform
from histoflow.errors import RunError, UserError
from histoflow.experiment import Experiment, parse
from histoflow.registry import Registry
from histoflow.runs import Run

if TYPE_CHECKING:
    from histoflow.data.recipe import Recipe
    from histoflow.engine.inference import Tta
    from histoflow.predicting import PredictableSplit


class RawData(BaseModel):
    """The files of a data set, as found or fetched."""

    model_config = ConfigDict(frozen=True)

    listing: Path
    """A JSON file with the path and hash of each, and when it was last changed."""
    files: int
    digest: str
    """The hash of all names and contents."""
    changes: str = ""
    """What has changed since it was last fetched, in words; empty if nothing has, or the first time."""


class Packed(BaseModel):
    """A finished packed store."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    fingerprint: str


class Trained(BaseModel):
    """A run whose training has ended."""

    model_config = ConfigDict(frozen=True)

    run: Path
    epochs: int
    best: dict[str, Any]
    """The epoch that was kept, by which figure, and the figure."""
    stopped: str
    """Why training ended."""


class Evaluated(BaseModel):
    """A run whose best model has met the test split."""

    model_config = ConfigDict(frozen=True)

    run: Path
    metrics: dict[str, Any]


class FoundRates(BaseModel):
    """What a test of learning rates came to."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    """It holds lr-find.json and lr-find.png."""
    steepest: float | None
    """Where the loss fell fastest; None where it never fell."""
    tenth_of_best: float | None
    """A tenth of where it was least."""


class Predicted(BaseModel):
    """A finished table of predictions."""

    model_config = ConfigDict(frozen=True)

    table: Path
    images: int
    problems: int
    """Images without a prediction; the table tells why."""
    kept: Path | None = None
    """The statistics of the images, which drift is told from."""


def start(experiment: Experiment, run_id: str | None = None, registry: Registry | None = None) -> Run:
    """The folder of a new run, or of the one to go on with, which must be of the same experiment."""
    registry = registry or plugins.installed()
    parse(experiment.to_data(), registry)  # a form or a notebook may not have held its fields to one another
    if crossvalidation.is_wanted(experiment):
        raise UserError(
            f"training.folds asks for {experiment.training.folds} runs, one for each fold. "
            f"For one of them name it: training.fold=1. 'histoflow train' trains them all."
        )
    run_id = run_id or runs.new_id(experiment.name)
    run = Run(home.runs() / run_id)
    if not run.folder.exists():
        return runs.create(home.runs(), run_id, experiment, registry)
    if experiment_of(run, registry).to_data() != experiment.to_data():
        raise RunError(
            f"Run {run_id} is of another experiment. "
            f"Go on with it unchanged (--resume {run_id}), or start a new run."
        )
    return run


def experiment_of(run: Run, registry: Registry | None = None) -> Experiment:
    """The experiment of a run, under the plugins that are installed now."""
    return parse(run.read().experiment, registry, source=str(run.folder / "run.json"))


def fetch(experiment: Experiment, registry: Registry | None = None) -> RawData:
    """Bring the data set's files, hash them, and tell what has changed since they were last fetched."""
    from histoflow.data import news

    choice = experiment.dataset
    dataset = (registry or plugins.installed()).get(Dataset, choice.name)
    folder = home.raw() / choice.name
    folder.mkdir(exist_ok=True)
    paths = [Path(path).absolute() for path in dataset.fetch(choice, folder)]
    found = fetched.fetched(paths)
    listing = found.write(folder)
    changes = news.since_last_fetch(dataset, choice, paths, found)
    return RawData(listing=listing, files=len(paths), digest=found.digest, changes=changes)


def untold(experiment: Experiment, raw: RawData) -> str:
    """What has changed since a server was last told of these data, in words; empty if nothing has."""
    from histoflow.data import news

    return news.untold(experiment.dataset, raw.digest)


def mark_told(experiment: Experiment, raw: RawData) -> None:
    """A server knows of what has changed."""
    from histoflow.data import news

    news.mark_told(experiment.dataset, raw.digest)


def preprocess(experiment: Experiment, raw: RawData, registry: Registry | None = None) -> Packed:
    """The packed data that the experiment trains on, unless its ``audit`` refuses them: then AuditError."""
    from histoflow.data.audit import policy
    from histoflow.data.store import read_manifest

    packed = pack(experiment, raw, registry)
    policy.refuse(read_manifest(packed.folder).findings, experiment.audit.model_dump(), packed.folder)
    return cut(experiment, packed)


def pack(experiment: Experiment, raw: RawData, registry: Registry | None = None) -> Packed:
    """Decode, preprocess, audit and lay down every image once; packed data that are there are used again."""
    from histoflow.data import packing

    registry = registry or plugins.installed()
    dataset = registry.get(Dataset, experiment.dataset.name)
    transforms = [registry.get(Transform, choice.name) for choice in experiment.preprocess]
    recipe = recipe_of(experiment, raw, registry)
    found = fetched.read(raw.listing)
    steps = [
        transform.build(choice) for transform, choice in zip(transforms, experiment.preprocess, strict=True)
    ]

    def open_samples() -> Samples:
        found.refuse_changed()  # at once, and not only after the long work
        return dataset.open(experiment.dataset, found.paths)

    folder = packing.pack(
        recipe,
        facts=dataset.facts(experiment.dataset),
        open_samples=open_samples,
        steps=cast("Any", steps),
        home=home.packed(),
        policies=experiment.audit.model_dump(),
        may_decline={
            place: transform.name for place, transform in enumerate(transforms) if transform.may_decline
        },
        refuse_changed=found.refuse_changed,
    )
    return Packed(folder=folder, fingerprint=recipe.fingerprint)


def recipe_of(experiment: Experiment, raw: RawData, registry: Registry | None = None) -> Recipe:
    """What determines the packed data, and so their fingerprint, before anything is packed."""
    from histoflow.data.recipe import Recipe

    registry = registry or plugins.installed()
    dataset = registry.get(Dataset, experiment.dataset.name)
    transforms = [registry.get(Transform, choice.name) for choice in experiment.preprocess]
    return Recipe(
        dataset=experiment.dataset.model_dump(mode="json", exclude=set(dataset.located_by)),
        dataset_version=dataset.version,
        raw_digest=raw.digest,
        preprocess=[choice.model_dump(mode="json") for choice in experiment.preprocess],
        preprocess_versions=[transform.version for transform in transforms],
        split=experiment.split.model_dump(),
        dropped=experiment.audit.dropped,
    )


def cut(experiment: Experiment, packed: Packed) -> Packed:
    """The packed data of the fold that the experiment trains, if it names one; otherwise the same."""
    folds, fold = experiment.training.folds, experiment.training.fold
    if folds is None or fold is None:
        return packed
    from histoflow.data.folds import fold_store

    store = fold_store(packed.folder, folds, fold)
    return Packed(folder=store.folder, fingerprint=store.manifest.fingerprint)


def hold_data(run: Run, packed: Packed) -> None:
    """Have the run refer to its data while it waits for a device, so that nobody clears them away."""
    folders.refuse_other_data(f"run {run.id}", run.read().data_fingerprint, packed.fingerprint)
    run.update(packed=str(packed.folder), data_fingerprint=packed.fingerprint)


def find_lr(
    experiment: Experiment,
    packed: Packed,
    folder: Path,
    *,
    steps: int = 200,
    lowest: float = 1e-6,
    highest: float = 1.0,
    registry: Registry | None = None,
) -> FoundRates:
    """Train on the training split alone while the learning rate grows; the curve goes into the folder."""
    from histoflow.data.store import PackedStore
    from histoflow.finding import find_rate, write_test

    test = find_rate(
        experiment,
        PackedStore(packed.folder),
        registry or plugins.installed(),
        steps=steps,
        lowest=lowest,
        highest=highest,
    )
    write_test(test, folder)
    return FoundRates(folder=folder, steepest=test.steepest, tenth_of_best=test.tenth_of_best)


def training(
    experiment: Experiment,
    packed: Packed,
    run: Run,
    registry: Registry | None = None,
    *,
    profile: bool = False,
) -> Generator[dict[str, Any], None, None]:
    """Train, or go on training, epoch by epoch: yields the entry of history.json for each.

    Whoever asks for no more epochs ends training; one that was not ended goes on another time. Ctrl-C and
    SIGTERM end it after the step under way, with a last checkpoint. With ``profile``, the run's folder
    ``profile`` tells where the time of the first epoch went. With ``compute.devices`` above 1, processes of
    their own train it, which know the plugins that are installed and not the ``registry``.
    """
    from histoflow.data.store import PackedStore
    from histoflow.engine.profile import prepare
    from histoflow.team.lead import train_together
    from histoflow.training import train_run

    if profile:
        prepare()

    def work() -> Generator[dict[str, Any], None, None]:
        with run.lock():  # in the thread that works: the run is free when that has ended
            if experiment.compute.devices > 1:
                yield from train_together(experiment, packed.folder, run, profile=profile)
                return
            store = PackedStore(packed.folder)
            installed = registry or plugins.installed()
            yield from train_run(experiment, store, run, installed, profile=profile)

    yield from stopping.politely(work())


def train(experiment: Experiment, packed: Packed, run: Run, registry: Registry | None = None) -> Trained:
    """Train, or go on training, until the last epoch or another reason to stop."""
    for _ in training(experiment, packed, run, registry):
        pass
    return trained(run)


def trained(run: Run) -> Trained:
    """What the training of this run came to."""
    record = run.read()
    return Trained(
        run=run.folder, epochs=len(run.history()), best=record.best or {}, stopped=record.stopped or ""
    )


def evaluate(
    run: Run,
    reason: str = "evaluation",
    again: bool = True,
    device: str | None = None,
    registry: Registry | None = None,
) -> Evaluated:
    """Open the sealed test split for the run's best model, and keep figures and predictions.

    With ``again=False`` a model that has been evaluated keeps its figures, and the seal stays closed.
    ``device`` takes the place of the experiment's.
    """
    from histoflow.evaluating import evaluate_run, figures_of_best, mark_evaluated

    registry = registry or plugins.installed()
    experiment = experiment_of(run, registry)
    with run.lock():
        known = None if again else figures_of_best(run)
        if known is not None:
            mark_evaluated(run)
            return Evaluated(run=run.folder, metrics=known)
        return Evaluated(run=run.folder, metrics=evaluate_run(experiment, run, reason, registry, device))


def report(run: Run, registry: Registry | None = None) -> list[Path]:
    """Write what the experiment's reporters have to say about an evaluated run."""
    from histoflow.evaluating import results_of

    registry = registry or plugins.installed()
    experiment = experiment_of(run, registry)
    results = results_of(run)
    return [
        Path(path)
        for choice in experiment.reports
        for path in registry.get(Reporter, choice.name).write(choice, results)
    ]


def predict(
    run: Run,
    images: Sequence[Path] = (),
    *,
    out: Path,
    split: PredictableSplit | None = None,
    tta: Tta = "none",
    device: str | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
    raw: bool = False,
    registry: Registry | None = None,
) -> Predicted:
    """Predict image files, those in folders or those of a list, with the run's best model, into a table.

    ``split`` takes the images of that packed split instead. ``tta`` averages the probabilities over the image
    and its flips, or all eight ways to lay a square. ``device`` takes the place of the experiment's. ``raw``
    leaves probabilities as the network gives them, without what was fitted on validation.
    """
    from histoflow import drifting
    from histoflow.predicting import Wanted, predict_run

    registry = registry or plugins.installed()
    wanted = Wanted(
        out=out,
        images=images,
        split=split,
        tta=tta,
        device=device,
        batch_size=batch_size,
        overwrite=overwrite,
        raw=raw,
    )
    done = predict_run(experiment_of(run, registry), run, wanted, registry)
    if done.problems:
        progress.say(
            f"{done.problems:,} of {done.images:,} images have no prediction; "
            f"column 'problem' of {out} tells why."
        )
    if done.kept and (drift := drifting.look_at(run, done.kept)).outside:
        progress.say(drift.words)
    return Predicted(table=out, images=done.images, problems=done.problems, kept=done.kept)
