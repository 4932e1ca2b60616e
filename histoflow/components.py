"""The records that plugins hand over: one class per kind of component.

A record is plain, frozen data around one or two functions, so a plugin can be tested by calling
them. This module and the plugins' own are imported to *list* components, so nothing here imports
torch or numpy at run time: do that inside the functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, field_validator

from histoflow.errors import PluginError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer as TorchOptimizer
    from torch.optim.lr_scheduler import LRScheduler

    ImageArray = NDArray[np.uint8]

Task = Literal["binary", "multiclass", "multilabel"]
SplitName = Literal["train", "val", "test"]
Interval = tuple[float, float]
"""The lower and the upper end."""
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
ONE_LABEL: frozenset[Task] = frozenset(("binary", "multiclass"))
"""The tasks in which each image belongs to one class, and its probabilities sum to one."""


Sampler = Literal["shuffle", "balanced", "weighted"]


def task_of(classes: Sequence[str]) -> Task:
    """The task that these classes make."""
    return "binary" if len(classes) == 2 else "multiclass"


class Params(BaseModel):
    """Base of a component's parameters; each field validates the YAML and documents the option.

    Give every field a default, and a bound and a description where they help:
    ``depth: Literal[18, 34, 50] = Field(18, description="Layers")``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @field_validator("*")
    @classmethod
    def _mean_the_same_file_from_anywhere(cls, value: Any) -> Any:
        """A run may go on from another folder, or on another machine where the path means something else."""
        if not isinstance(value, Path):
            return value
        absolute = value.expanduser().absolute()
        return absolute if absolute.exists() else value


P = TypeVar("P", bound=Params)


# ── What components are told, and what they tell ────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What a network, a loss or a check needs to know of the packed data."""

    task: Task
    classes: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    """Height and width in pixels."""
    train_counts: tuple[int, ...] = ()
    """Training images per class; empty while the data have not been packed."""
    train_images: int = 0
    """All of them; fewer than the sum of the counts where an image shows several classes."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a data set states about itself before any file is touched; None is 'not known yet'."""

    task: Task | None = None
    classes: tuple[str, ...] | None = None
    channels: int | None = None
    size: tuple[int, int] | None = None
    images: int | None = None
    official_split: bool = False
    groups: bool = False
    """Whether images carry the id of the patient, slide or photo that they come from."""
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a data set, without its pixels."""

    label: int | tuple[int, ...]
    """Its class; in a ``multilabel`` data set all classes that it shows, perhaps none."""
    source: str
    """Where it came from, readable by a person: a file name, or an index into an array."""
    split: SplitName | None = None
    group: str | None = None
    weight: float = 1.0
    """How often it is drawn for training by ``sampler: weighted``, beside the others; finite and above 0."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """An opened data set: a table, and a function that reads the image of one of its rows.

    ``read`` returns H×W×C uint8 and raises ``histoflow.UnreadableImage`` for an image that is
    damaged; that image is quarantined with the reason, and the rest go on.
    """

    classes: tuple[str, ...]
    rows: Sequence[Row]
    read: Callable[[int], ImageArray]
    """Where it can be pickled (a function of a module, an instance of a class with ``__call__``), images are
    read by several processes at once."""
    task: Task | None = None
    """None: as many classes as there are make it, see ``task_of``."""
    files: Sequence[Path] | None = None
    """The file of each row, where an image is a file: the audit asks whether files give labels away."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a metric found: one figure, one per class where that means something, or why there is none."""

    value: float | None
    per_class: tuple[float | None, ...] | None = None
    undefined: str = ""
    """The reason, where ``value`` or a class's figure is None."""
    interval: Interval | None = None
    """Around ``value``. A metric leaves this and what follows to histoflow, which fills them in."""
    per_class_intervals: tuple[Interval | None, ...] | None = None
    interval_note: str = ""
    """Where a figure has no interval, why; and in how many resamples one was undefined."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """How long a training is, for a scheduler that must know."""

    epochs: int
    steps_per_epoch: int


@dataclass(frozen=True, kw_only=True)
class Results:
    """A finished evaluation, as a reporter sees it."""

    folder: Path
    """The run's folder; what a reporter writes belongs here."""
    run: Mapping[str, Any]
    """The content of run.json: the experiment, the environment, the plugins."""
    data: Mapping[str, Any]
    """The packed data's manifest."""
    history: Sequence[Mapping[str, Any]]
    """One entry per epoch."""
    metrics: Mapping[str, Score]
    labels: NDArray[np.int64]
    """The number of each image's class; in ``multilabel`` tasks images × classes of 0 and 1."""
    probabilities: NDArray[np.float64]
    """Images × classes."""
    intervals: Mapping[str, Any] = field(default_factory=dict)
    """How the intervals of ``metrics`` came about, as in metrics.json; empty where there are none."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """The whole content of metrics.json: calibration, groups, robustness and what else was looked at."""


# ── The components ──────────────────────────────────────────────────────────────────────────────

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def no_complaints(params: Any, data: DataInfo) -> Iterable[str]:
    return ()


def no_files(params: Any, folder: Path) -> Sequence[Path]:
    return ()


@dataclass(frozen=True)
class Component(Generic[P]):
    """What all kinds share. ``check`` may look at parameters and data together and complain."""

    kind: ClassVar[str] = "component"
    plural: ClassVar[str] = "components"
    functions: ClassVar[tuple[str, ...]] = ("check",)
    """The fields that are called."""

    _: KW_ONLY
    name: str
    summary: str
    params: type[P]
    check: Callable[[P, DataInfo], Iterable[str]] = no_complaints

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise PluginError(
                f"The name of a {self.kind} must be lower-case letters, digits and '_'. Got {self.name!r}."
            )
        if not (isinstance(self.params, type) and issubclass(self.params, Params)):
            raise PluginError(
                f"The params of {self.kind} {self.name!r} must be a subclass of histoflow.Params. "
                f"Got {self.params!r}."
            )
        if "name" in self.params.model_fields:
            raise PluginError(
                f"The params of {self.kind} {self.name!r} may not have a field 'name': "
                f"an experiment uses that key to choose the component. Rename the field."
            )
        if not isinstance(self.summary, str):
            raise PluginError(f"The summary of {self.kind} {self.name!r} must be text. Got {self.summary!r}.")
        for function in self.functions:
            if not callable(getattr(self, function)):
                raise PluginError(
                    f"The {function} of {self.kind} {self.name!r} must be a function. "
                    f"Got {getattr(self, function)!r}."
                )


@dataclass(frozen=True)
class Dataset(Component[P]):
    """Labelled images: what is known of them, how to get their files, how to read them."""

    kind: ClassVar[str] = "dataset"
    plural: ClassVar[str] = "datasets"
    functions: ClassVar[tuple[str, ...]] = ("check", "facts", "fetch", "open")

    facts: Callable[[P], Facts]
    open: Callable[[P, Sequence[Path]], Samples]
    """Open the files that ``fetch`` named."""
    fetch: Callable[[P, Path], Sequence[Path]] = no_files
    """Bring the files into the folder, or point at local ones; return those the images depend on."""
    located_by: frozenset[str] = frozenset()
    """Parameters that say where the files lie and not what they are: moving them repacks nothing."""
    version: int = 1
    """Raise it when the same parameters and files would give other images or labels."""


@dataclass(frozen=True)
class Transform(Component[P]):
    """A change to images, either once before packing or anew in every batch.

    ============  ===========================================================  =======================
    stage         ``build(params)`` returns a function of                      which returns
    ============  ===========================================================  =======================
    preprocess    one H×W×C uint8 array                                        the same kind
    augment       an N×C×H×W float tensor in 0..1 and a ``torch.Generator``    the same shape
    mix           the same two                                                 images, partners, shares
    ============  ===========================================================  =======================

    An augmentation takes all its chance from the generator, and draws for each image of the batch. On
    a GPU it should neither look at values from the host nor make shapes depend on them (``.item()``,
    ``nonzero``, a Boolean mask as an index): then a whole step of training is recorded and replayed.

    What mixes images stands in ``augment``, too, and runs after all others. ``partners`` (N, int64)
    says which image of the batch was mixed into each, and ``shares`` (N, float) how much of each is
    its own, from 0 to 1; the loss is shared out between the two labels accordingly.
    """

    kind: ClassVar[str] = "transform"
    plural: ClassVar[str] = "transforms"
    functions: ClassVar[tuple[str, ...]] = ("check", "build")

    stage: Literal["preprocess", "augment", "mix"]
    build: Callable[
        [P],
        Callable[[ImageArray], ImageArray]
        | Callable[[Tensor, Generator], Tensor]
        | Callable[[Tensor, Generator], tuple[Tensor, Tensor, Tensor]],
    ]
    takes_bytes: bool = False
    """An augmentation that only moves whole pixels, and so takes uint8 images as well."""
    may_decline: bool = False
    """A preprocessing that gives back the very array it was given where it can do nothing; it is counted."""
    version: int = 1
    """Of a preprocessing: raise it when the same parameters would give other images."""


@dataclass(frozen=True)
class Architecture(Component[P]):
    """A network: ``build(params, data, outputs)`` returns an ``nn.Module`` with that many outputs."""

    kind: ClassVar[str] = "architecture"
    plural: ClassVar[str] = "architectures"
    functions: ClassVar[tuple[str, ...]] = ("check", "build")

    build: Callable[[P, DataInfo, int], nn.Module]
    min_size: int | Callable[[P], int] = 1
    """The smallest image side that the network can take."""
    skeleton: Callable[[P, DataInfo, int], nn.Module] | None = None
    """``build`` without fetching pretrained weights, for when saved ones will be put in."""
    spatial_layer: str | Callable[[P], str] | None = None
    """The module, named as in ``named_modules``, whose output the report lays over images (Grad-CAM).

    It gives N×C×h×w, N×h×w×C, or N×tokens×C with at most one token before those of the image. None: it is the
    last module that gives such an output and on whose places the network's outputs depend.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.min_size, int) and not callable(self.min_size):
            raise PluginError(
                f"The min_size of architecture {self.name!r} must be a whole number or a function of params. "
                f"Got {self.min_size!r}."
            )
        named = self.spatial_layer
        if named is not None and not isinstance(named, str) and not callable(named):
            raise PluginError(
                f"The spatial_layer of architecture {self.name!r} must be the name of a module, a function "
                f"of params, or None. Got {named!r}."
            )

    def smallest_side(self, params: P) -> int:
        return self.min_size if isinstance(self.min_size, int) else self.min_size(params)

    def named_layer(self, params: P) -> str | None:
        """The ``spatial_layer`` of a network with these parameters."""
        return self.spatial_layer(params) if callable(self.spatial_layer) else self.spatial_layer


@dataclass(frozen=True)
class Loss(Component[P]):
    """A loss, and the link that turns the network's raw outputs into probabilities."""

    kind: ClassVar[str] = "loss"
    plural: ClassVar[str] = "losses"
    functions: ClassVar[tuple[str, ...]] = ("check", "build", "outputs", "probabilities")

    build: Callable[[P, DataInfo], nn.Module]
    """A module whose ``forward(outputs, labels)`` returns one loss per image (no reduction).

    Labels are the number of each image's class; in ``multilabel`` tasks images × classes of 0 and 1, uint8.
    """
    outputs: Callable[[P, DataInfo], int]
    """How many raw outputs the network must have for these data."""
    probabilities: Callable[[P, Tensor], Tensor]
    """Raw outputs → images × classes, each row summing to one except in ``multilabel`` tasks."""
    tasks: frozenset[Task] = ONE_LABEL


@dataclass(frozen=True)
class Metric(Component[P]):
    """A pure function of a whole split's probabilities (images × classes) and labels.

    Labels are the number of each image's class; in ``multilabel`` tasks images × classes of 0 and 1, int64.
    """

    kind: ClassVar[str] = "metric"
    plural: ClassVar[str] = "metrics"
    functions: ClassVar[tuple[str, ...]] = ("check", "score")

    score: Callable[[P, NDArray[np.float64], NDArray[np.int64]], Score]
    tasks: frozenset[Task] = ONE_LABEL
    higher_is_better: bool = True
    resampled: Callable[[P, NDArray[np.float64], NDArray[np.int64], NDArray[np.float32]], Any] | None = None
    """The figures of many resamples at once, for intervals; without it ``score`` is called on fewer of them.

    It is told what ``score`` is told, and resamples × images: how often each holds each image, from 0 up.
    It returns an array of one figure for each resample, or resamples × (1 + classes) with the overall
    figure first: what ``score`` would say of the images so often repeated, and NaN where that is None.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resampled is not None and not callable(self.resampled):
            raise PluginError(
                f"The resampled of metric {self.name!r} must be a function, or None. Got {self.resampled!r}."
            )


@dataclass(frozen=True)
class Optimizer(Component[P]):
    """``build(params, parameters)`` returns a ``torch.optim.Optimizer``.

    ``parameters`` are those that train, already on their device, or torch's parameter groups of them; pass
    them on, as torch's own optimizers take both. Groups stay apart: each gets a learning rate of its own
    afterwards, and perhaps a weight decay.

    A step is recorded as a CUDA graph where each group has ``fused`` or ``capturable``. Such an optimizer
    must take ``group["lr"]`` as a tensor on the device, and keep all that changes from step to step there.
    """

    kind: ClassVar[str] = "optimizer"
    plural: ClassVar[str] = "optimizers"
    functions: ClassVar[tuple[str, ...]] = ("check", "build")

    build: Callable[[P, Iterable[Any]], TorchOptimizer]


@dataclass(frozen=True)
class Scheduler(Component[P]):
    """``build(params, optimizer, span)`` returns a torch ``LRScheduler``.

    ============  ===============================================================================
    every         it is stepped
    ============  ===============================================================================
    step          after each step of the optimizer
    epoch         after the last step of each epoch
    validation    after each validation with ``step(figure)``: the monitored figure, so turned that
                  smaller is better; not at all where it is undefined
    ============  ===============================================================================

    A group's learning rate may be a tensor, which the scheduler must fill in place, as torch's do.
    """

    kind: ClassVar[str] = "scheduler"
    plural: ClassVar[str] = "schedulers"
    functions: ClassVar[tuple[str, ...]] = ("check", "build")

    build: Callable[[P, TorchOptimizer, Span], LRScheduler]
    every: Literal["step", "epoch", "validation"] = "epoch"


@dataclass(frozen=True)
class Reporter(Component[P]):
    """``write(params, results)`` writes files into ``results.folder`` and returns their paths."""

    kind: ClassVar[str] = "reporter"
    plural: ClassVar[str] = "reporters"
    functions: ClassVar[tuple[str, ...]] = ("check", "write")

    write: Callable[[P, Results], Sequence[Path]]


KINDS: tuple[type[Component[Any]], ...] = (
    Dataset,
    Transform,
    Architecture,
    Loss,
    Metric,
    Optimizer,
    Scheduler,
    Reporter,
)

FIELD_KINDS: Mapping[str, type[Component[Any]]] = {
    "dataset": Dataset,
    "preprocess": Transform,
    "augment": Transform,
    "architecture": Architecture,
    "loss": Loss,
    "optimizer": Optimizer,
    "scheduler": Scheduler,
    "metrics": Metric,
    "reports": Reporter,
}
"""Which kind of component each field of an experiment names."""
