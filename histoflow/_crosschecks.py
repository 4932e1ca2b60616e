"""What must hold between the fields of an experiment, each of them sound by itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histoflow.components import (
    FIELD_KINDS,
    Architecture,
    Component,
    DataInfo,
    Dataset,
    Facts,
    Loss,
    Metric,
    Task,
    Transform,
)
from histoflow.errors import DataError, HistoflowError, PluginError, Problem
from histoflow.registry import Registry

if TYPE_CHECKING:
    from histoflow.experiment import Experiment


@dataclass(frozen=True)
class _Situation:
    """An experiment, and what is known of its data."""

    experiment: Experiment
    registry: Registry
    task: Task | None
    classes: tuple[str, ...] | None
    size: tuple[int, int] | None
    channels: int | None
    train_counts: tuple[int, ...] = ()
    train_images: int = 0

    @property
    def info(self) -> DataInfo | None:
        if self.task is None or self.classes is None or self.size is None or self.channels is None:
            return None
        return DataInfo(
            task=self.task,
            classes=self.classes,
            channels=self.channels,
            size=self.size,
            train_counts=self.train_counts,
            train_images=self.train_images,
        )


def cross_check(
    experiment: Experiment,
    registry: Registry,
    leave_out: Collection[str] = (),
    packed: DataInfo | None = None,
) -> list[Problem]:
    """All contradictions between fields, less those that read a field in ``leave_out``.

    Before packing the data set's own statements are believed; afterwards ``packed`` is what is true.
    """
    problems: list[Problem] = []
    if "dataset" in leave_out:
        situation = _Situation(experiment, registry, None, None, None, None)
    elif packed is not None:
        situation = _after_packing(experiment, registry, packed)
    else:
        situation, problems = _before_packing(experiment, registry)
    for reads, check in _CHECKS:
        if not reads & set(leave_out):
            problems.extend(check(situation))
    return problems


@contextmanager
def _blaming(registry: Registry, kind: type[Component[Any]], name: str) -> Iterator[None]:
    """A failure of a plugin's own function names the plugin; what it says on purpose passes."""
    try:
        yield
    except HistoflowError:
        raise
    except Exception as error:
        raise PluginError(
            f"The {kind.kind} '{name}' of {registry.provider(kind, name)} failed while the experiment was "
            f"checked: {type(error).__name__}: {error}"
        ) from error


def expected_data(experiment: Experiment, registry: Registry) -> DataInfo | None:
    """The data as the data set states them and preprocessing leaves them; None where it cannot tell yet."""
    return _before_packing(experiment, registry)[0].info


def _after_packing(experiment: Experiment, registry: Registry, packed: DataInfo) -> _Situation:
    return _Situation(
        experiment,
        registry,
        packed.task,
        packed.classes,
        packed.size,
        packed.channels,
        packed.train_counts,
        packed.train_images,
    )


def _before_packing(experiment: Experiment, registry: Registry) -> tuple[_Situation, list[Problem]]:
    problems: list[Problem] = []
    facts, size, channels = Facts(), None, None
    try:
        with _blaming(registry, Dataset, experiment.dataset.name):
            facts = registry.get(Dataset, experiment.dataset.name).facts(experiment.dataset)
    except DataError as error:
        problems.append(Problem("dataset", str(error)))
    try:
        size, channels = _shape_after(experiment, registry, facts)
    except (DataError, ValueError) as error:
        if facts.size is not None:  # else the step may only have disliked the sizes it was tried with
            problems.append(Problem("preprocess", str(error)))
    return _Situation(experiment, registry, facts.task, facts.classes, size, channels), problems


def _shape_after(
    experiment: Experiment, registry: Registry, facts: Facts
) -> tuple[tuple[int, int] | None, int | None]:
    """The shape of preprocessed images, found by sending blank ones through the chain.

    Where the data set does not know its size, a chain that makes two sizes alike settles it.
    """
    if facts.channels is None or (facts.size is None and not experiment.preprocess):
        return facts.size, facts.channels
    import numpy as np

    steps = [registry.get(Transform, choice.name).build(choice) for choice in experiment.preprocess]
    shapes = set()
    for height, width in [facts.size] if facts.size else [(1031, 1033), (2053, 2063)]:
        image: Any = np.zeros((height, width, facts.channels), np.uint8)
        for step in steps:
            image = step(image)  # type: ignore[call-arg]
        shapes.add(image.shape)
    channels = {shape[2] for shape in shapes}
    sizes = {(shape[0], shape[1]) for shape in shapes}
    return sizes.pop() if len(sizes) == 1 else None, channels.pop() if len(channels) == 1 else None


# ── The checks, each with the fields that it reads ──────────────────────────────────────────────


def _metrics_once(situation: _Situation) -> Iterator[Problem]:
    names = [choice.name for choice in situation.experiment.metrics]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(f"metrics.{index}", f"'{name}' stands twice. Name each metric once.")


def _one_mixes_images(situation: _Situation) -> Iterator[Problem]:
    names = [choice.name for choice in situation.experiment.augment]
    mixing = [i for i, name in enumerate(names) if situation.registry.get(Transform, name).stage == "mix"]
    for index in mixing[1:]:
        yield Problem(
            f"augment.{index}",
            f"'{names[mixing[0]]}' mixes images already, and an image is mixed with one other only. "
            f"Got '{names[index]}' as well. Leave one of them out.",
        )


def _monitor_is_computed(situation: _Situation) -> Iterator[Problem]:
    monitor = situation.experiment.training.monitor
    legal = ["val_loss", *(f"val_{choice.name}" for choice in situation.experiment.metrics)]
    if monitor not in legal:
        yield Problem(
            "training.monitor",
            f"must be one of {', '.join(legal)}. Got '{monitor}'. "
            f"To monitor another metric, add it to metrics.",
        )


def _stains_can_be_shifted(situation: _Situation) -> Iterator[Problem]:
    asked, channels = situation.experiment.training.shifted_validation, situation.channels
    if asked and channels not in (None, 3):
        yield Problem(
            "training.shifted_validation",
            f"needs images of red, green and blue, which have stains. Those of data set "
            f"'{situation.experiment.dataset.name}' have {channels} "
            f"{'channel' if channels == 1 else 'channels'}. Got true. Leave it out.",
        )


def _parts_fit_batch(situation: _Situation) -> Iterator[Problem]:
    training = situation.experiment.training
    if training.batch_size != "auto" and training.accumulate > training.batch_size:
        yield Problem(
            "training.accumulate",
            f"must be at most training.batch_size, which is {training.batch_size}. "
            f"Got {training.accumulate}. A batch cannot have more parts than images.",
        )


def _fold_is_one_of_the_folds(situation: _Situation) -> Iterator[Problem]:
    folds, fold = situation.experiment.training.folds, situation.experiment.training.fold
    if fold is not None and folds is None:
        yield Problem(
            "training.fold", f"needs training.folds, the number of all of them. Got fold {fold} and no folds."
        )
    elif fold is not None and folds is not None and fold > folds:
        yield Problem("training.fold", f"must be at most training.folds, which is {folds}. Got {fold}.")


def _devices_share_batches(situation: _Situation) -> Iterator[Problem]:
    training, devices = situation.experiment.training, situation.experiment.compute.devices
    if devices == 1:
        return
    if training.batch_size == "auto":
        yield Problem(
            "training.batch_size",
            f"must be a number where compute.devices is more than 1. Got auto. Let one device find it, "
            f"and multiply that by {devices}.",
        )
    elif training.batch_size < 2 * devices:
        yield Problem(
            "training.batch_size",
            f"must be at least {2 * devices}: two images, which batch norm needs, for each of the {devices} "
            f"devices. Got {training.batch_size}. Raise it, or use fewer devices.",
        )
    if training.on_out_of_memory == "split":
        yield Problem(
            "training.on_out_of_memory",
            "must be stop where several devices train together: one of them cannot part a batch without the "
            "others. Got split. Use training.accumulate, which parts the batches of all.",
        )


def _devices_are_numbered_from_the_first(situation: _Situation) -> Iterator[Problem]:
    compute = situation.experiment.compute
    if compute.devices > 1 and ":" in compute.device:
        yield Problem(
            "compute.device",
            f"must be auto, cpu or cuda where compute.devices is {compute.devices}: GPUs are taken from the "
            f"first one on. Got {compute.device}. Choose among them with CUDA_VISIBLE_DEVICES.",
        )


def _start_side_fits(situation: _Situation) -> Iterator[Problem]:
    start = situation.experiment.training.start_side
    choice = situation.experiment.architecture
    if start is None or situation.size is None:
        return
    least = situation.registry.get(Architecture, choice.name).smallest_side(choice)
    if not least <= start < min(situation.size):
        yield Problem(
            "training.start_side",
            f"must be at least {least}, the least that '{choice.name}' takes, and below "
            f"{min(situation.size)}, the images' shorter side. Got {start}. "
            f"Leave it out to train on full size throughout.",
        )


def _loss_fits_task(situation: _Situation) -> Iterator[Problem]:
    name = situation.experiment.loss.name
    tasks = situation.registry.get(Loss, name).tasks
    if situation.task and situation.task not in tasks:
        fitting = [n for n, loss in situation.registry.of_kind(Loss).items() if situation.task in loss.tasks]
        yield Problem("loss", _misfit("loss", name, tasks, situation, fitting))


def _metrics_fit_task(situation: _Situation) -> Iterator[Problem]:
    for index, choice in enumerate(situation.experiment.metrics):
        tasks = situation.registry.get(Metric, choice.name).tasks
        if situation.task and situation.task not in tasks:
            fitting = [n for n, m in situation.registry.of_kind(Metric).items() if situation.task in m.tasks]
            yield Problem(f"metrics.{index}", _misfit("metric", choice.name, tasks, situation, fitting))


def _misfit(
    kind: str, name: str, tasks: Collection[Task], situation: _Situation, fitting: Sequence[str]
) -> str:
    classes = f" with {len(situation.classes)} classes" if situation.classes else ""
    choice = fitting[0] if len(fitting) == 1 else f"one of {', '.join(fitting)}"
    return (
        f"the {kind} '{name}' is for {' and '.join(sorted(tasks))} tasks, and data set "
        f"'{situation.experiment.dataset.name}' is {situation.task}{classes}. "
        f"Use {choice}."
    )


def _classes_can_be_balanced(situation: _Situation) -> Iterator[Problem]:
    if situation.task == "multilabel" and situation.experiment.training.sampler == "balanced":
        yield Problem(
            "training.sampler",
            f"may not be balanced where images have several labels, as in data set "
            f"'{situation.experiment.dataset.name}': to draw one class more often is to draw those it comes "
            f"with. Use shuffle and the loss's class_weights, or weighted with weights of your own.",
        )


def _threshold_fits_task(situation: _Situation) -> Iterator[Problem]:
    threshold = situation.experiment.evaluation.threshold
    if situation.task == "multiclass" and threshold != "likeliest":
        yield Problem(
            "evaluation.threshold",
            f"must be likeliest where each image is of one of more than two classes, as in data set "
            f"'{situation.experiment.dataset.name}': a threshold tells one class from the rest. "
            f"Got {threshold}. Leave it out.",
        )


def _size_fits_network(situation: _Situation) -> Iterator[Problem]:
    choice = situation.experiment.architecture
    smallest = situation.registry.get(Architecture, choice.name).smallest_side(choice)
    if situation.size and min(situation.size) < smallest:
        height, width = situation.size
        yield Problem(
            "architecture",
            f"'{choice.name}' takes images of {smallest}×{smallest} pixels or more. Got {height}×{width}. "
            f"Add {{name: resize, size: {smallest}}} to preprocess, or choose another architecture.",
        )


def _complaints(field: str, kind: Any) -> Callable[[_Situation], Iterator[Problem]]:
    """What the component of this field itself has to say about its parameters and the data."""

    def check(situation: _Situation) -> Iterator[Problem]:
        if situation.info is None:
            return
        chosen = getattr(situation.experiment, field)
        for choice in chosen if isinstance(chosen, tuple) else (chosen,):
            component = situation.registry.get(kind, choice.name)
            with _blaming(situation.registry, kind, choice.name):
                complaints = list(component.check(choice, situation.info))
            for complaint in complaints:
                yield Problem(field, complaint)

    return check


_CHECKS: tuple[tuple[frozenset[str], Callable[[_Situation], Iterator[Problem]]], ...] = (
    (frozenset({"augment"}), _one_mixes_images),
    (frozenset({"metrics"}), _metrics_once),
    (frozenset({"metrics", "training"}), _monitor_is_computed),
    (frozenset({"dataset", "loss"}), _loss_fits_task),
    (frozenset({"dataset", "metrics"}), _metrics_fit_task),
    (frozenset({"dataset", "training"}), _classes_can_be_balanced),
    (frozenset({"dataset", "evaluation"}), _threshold_fits_task),
    (frozenset({"dataset", "preprocess", "architecture"}), _size_fits_network),
    (frozenset({"dataset", "preprocess", "training"}), _stains_can_be_shifted),
    (frozenset({"training"}), _parts_fit_batch),
    (frozenset({"training"}), _fold_is_one_of_the_folds),
    (frozenset({"training", "compute"}), _devices_share_batches),
    (frozenset({"compute"}), _devices_are_numbered_from_the_first),
    (frozenset({"dataset", "preprocess", "architecture", "training"}), _start_side_fits),
    *(
        (frozenset({"dataset", "preprocess", field}), _complaints(field, kind))
        for field, kind in FIELD_KINDS.items()
    ),
)
