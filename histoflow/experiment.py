"""Experiment: all that a run is told, validated whole before anything starts.

The fields that name a component are unions over the installed plugins, discriminated by ``name``.
That one model validates the YAML, gives editors their JSON schema, and types the parameters of the
Prefect flows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import lru_cache, partial, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from histoflow import registry as plugins
from histoflow._crosschecks import cross_check
from histoflow._overrides import apply_override
from histoflow._problems import Place, problems_of
from histoflow.components import FIELD_KINDS, Component, Metric, Params, Sampler, Transform
from histoflow.errors import ExperimentError, Problem, UserError
from histoflow.registry import Registry


class Choice(Params):
    """A component chosen by name, its parameters beside the name."""

    name: str


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _like(pattern: str, description: str) -> AfterValidator:
    """Text of this form; a person reads the description, not the pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {description}. Got '{value}'")
        return value

    return AfterValidator(check)


_NAME = _like(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}", "at most 60 letters, digits, '_' and '-', a letter or digit first"
)
_DEVICE = _like(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda, or cuda and a number like cuda:1")


class Split(Settings):
    """How images are dealt out where the data set has no official split."""

    val: float = Field(0.15, gt=0, lt=1)
    """Share of the images (by group) that selects the model."""
    test: float = Field(0.15, gt=0, lt=1)
    """Share that stays sealed until the model is evaluated."""
    seed: int = Field(0, ge=0, strict=True)
    """Another seed deals the groups out in another way."""

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Split:
        if self.val + self.test >= 1:
            raise ValueError(
                f"must leave a share for training: val + test must be below 1. Got {self.val + self.test:g}"
            )
        return self


Policy = Literal["warn", "drop", "refuse"]
Verdict = Literal["warn", "refuse"]


class Audit(Settings):
    """What is done about findings in the data: warn, drop images (into quarantine), or refuse to train."""

    unreadable: Verdict = "warn"
    """Images that cannot be decoded or have another size; they are always left out."""
    blank: Policy = "warn"
    """Images of bare background."""
    black: Policy = "warn"
    """Images that are all but black."""
    constant: Policy = "warn"
    """Images of a single colour."""
    duplicates: Policy = "warn"
    """The same pixels twice within a split; drop keeps the first."""
    near_duplicates: Policy = "warn"
    """Nearly the same image twice within a split, perhaps rotated or flipped; drop keeps the first."""
    label_conflicts: Policy = "warn"
    """Copies of one image under different labels; drop leaves out those in train."""
    leaks_into_test: Policy = "refuse"
    """Images or groups of test that stand in train or val as well; drop leaves out those in train and val."""
    leaks_into_val: Policy = "warn"
    """Images or groups of val that stand in train as well; drop leaves out those in train."""
    split_shares: Verdict = "warn"
    """Splits that hold more or less than the shares asked for."""
    classes: Verdict = "warn"
    """Classes that a split lacks, or that are rare."""
    metadata: Verdict = "warn"
    """File sizes, JPEG qualities or image sizes that tell the label."""
    shortcuts: Verdict = "warn"
    """Colour alone tells the label."""
    shift: Verdict = "warn"
    """The splits look different from one another."""

    @property
    def dropped(self) -> list[str]:
        """The settings under which images are left out."""
        return sorted(name for name, policy in self if policy == "drop")


class Group(Settings):
    """Parameters that are trained in a way of their own."""

    match: str = Field(min_length=1)
    """Names of parameters, with * for anything: ``base.*`` is all that lies in the module base."""
    lr: float = Field(1.0, gt=0, le=1000)
    """Their learning rate, as a multiple of the optimizer's."""
    weight_decay: float | None = Field(None, ge=0, le=10)
    """Their weight decay; null takes the optimizer's."""
    frozen_epochs: int = Field(0, ge=0, strict=True)
    """So many epochs they stay as they are, the statistics of their batch norms included."""


class Training(Settings):
    """How the network is trained, for how long, and which epoch is kept."""

    epochs: int = Field(10, ge=1, strict=True)
    """Passes over the training split."""
    batch_size: Annotated[int, Field(ge=1, strict=True)] | Literal["auto"] = 128
    """Images per optimizer step, on all devices together; auto finds the largest that fits."""
    accumulate: int = Field(1, ge=1, strict=True)
    """In how many parts a batch passes through the network, one after the other, which takes less memory."""
    drop_last: bool = False
    """Leave out the last batch of an epoch where it is smaller than the others."""
    clip: float | None = Field(None, gt=0)
    """The largest norm that the gradient may have; null leaves it as it is."""
    average: Literal["none", "ema", "swa"] = "none"
    """Which weights are validated and kept: those of the last step, their exponential moving average, or
    the mean of those at the ends of the last epochs."""
    average_decay: float = Field(0.999, gt=0, lt=1)
    """ema: how much of the average stays at each step; less in the first steps."""
    average_from: float = Field(0.75, ge=0, lt=1)
    """swa: after this share of the epochs the mean begins."""
    groups: tuple[Group, ...] = ()
    """Parameters with learning rates of their own, or frozen at first; the first match counts."""
    start_side: int | None = Field(None, ge=8, strict=True)
    """The images' shorter side in the first epoch; it grows to the full one. null: full size throughout."""
    full_side_from: float = Field(0.7, gt=0, le=1)
    """The share of the epochs after which images have their full size."""
    patience: int | None = Field(None, ge=1, strict=True)
    """Stop after so many epochs without a better monitored figure; null trains all epochs."""
    monitor: str = "val_loss"
    """The figure that picks the best epoch: val_loss, or val_ and the name of one of the metrics."""
    shifted_validation: bool = False
    """Pick the epoch by the worse of validation and of validation with shifted stains; it takes three times
    as long."""
    sampler: Sampler = "shuffle"
    """Each image once an epoch, or classes drawn equally often, with replacement."""
    folds: int | None = Field(None, ge=2, le=50, strict=True)
    """Cross-validation: cut train and val into so many parts by group, and train once for each."""
    fold: int | None = Field(None, ge=1, strict=True)
    """Train only once, with this part for validation; null trains once for each part."""
    share: float = Field(1.0, gt=0, le=1)
    """The share of the training images, of each class alike, that is trained on."""
    checkpoint_seconds: float = Field(30.0, gt=0)
    """How much work a kill may cost: a checkpoint is written so often within an epoch, and after each."""
    time_limit: float | None = Field(None, gt=0)
    """Minutes of training after which it ends with the best epoch so far; null sets no limit."""
    stall_limit: float | None = Field(600.0, gt=0)
    """Seconds that one step may take before the process is given up as hung; null waits for ever."""
    on_out_of_memory: Literal["stop", "split"] = "stop"
    """Stop with advice, or pass each batch in halves, which gives batch norm other statistics."""

    @property
    def monitored(self) -> str:
        """What picks the best epoch, by its name among an epoch's figures."""
        return f"worst_{self.monitor}" if self.shifted_validation else self.monitor


class Evaluation(Settings):
    """How the finished model is looked at; what it needs to know is fitted on validation, never on test."""

    calibration: Literal["none", "temperature"] = "temperature"
    """Whether probabilities are made to mean what they say, by one temperature."""
    threshold: Literal["likeliest", "youden", "sensitivity", "specificity", "cost"] = "likeliest"
    """Two or several labels: from which probability on a class is told. likeliest: above one half."""
    target: float = Field(0.95, gt=0, lt=1)
    """sensitivity, specificity: what the threshold must reach on validation."""
    miss_cost: float = Field(10.0, gt=0)
    """cost: how many false alarms one missed image is worth."""
    coverage: float | None = Field(0.9, gt=0, lt=1)
    """How often a prediction set is to hold the true class; null makes no sets."""
    aggregate: tuple[Literal["mean", "max", "top_k", "vote"], ...] = ("mean",)
    """How the images of a group (slide, patient) are put together; none where the data name no groups."""
    top_k: int = Field(10, ge=1, strict=True)
    """top_k: the mean over so many images of each group, those likeliest to be of the class."""
    robustness: bool = False
    """Test once more under stain shift, blur, JPEG, brightness and noise, in three grades each."""
    robustness_images: int = Field(1000, ge=10, strict=True)
    """On so many of the test images at most."""
    gallery: int = Field(4, ge=0, le=24, strict=True)
    """Images of each kind (right, wrong, uncertain) and class shown in the report; 0 shows none."""
    embedding: bool = True
    """A map of the images as the network sees them."""


Switch = Literal["auto", "on", "off"]


class Compute(Settings):
    """On what a run is computed, and how; ``histoflow check --explain`` tells what auto comes to."""

    device: Annotated[str, _DEVICE] = "auto"
    """auto, cpu, cuda or cuda:N."""
    devices: int = Field(1, ge=1, strict=True)
    """How many GPUs (or processes, on the CPU) train together."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """auto: bf16 on GPUs that have it, fp16 on older ones, fp32 on the CPU."""
    channels_last: Switch = "auto"
    """Whether the channels of a pixel lie side by side in memory."""
    compile: Switch = "auto"
    """torch.compile; auto compiles where the run is long enough to repay it."""
    graphs: Switch = "auto"
    """Whether a whole step is recorded once as a CUDA graph and then replayed."""
    deterministic: bool = False
    """The same weights bit for bit in every run on the same GPU, at some cost in speed."""
    data: Literal["auto", "device", "host", "stream"] = "auto"
    """Where the packed images lie while training: in the device's memory, in the host's, or on disk."""
    memory_share: float = Field(0.6, gt=0, le=0.95)
    """The share of all memory, of the device or the host, that the packed images may fill."""
    threads: int | None = Field(None, ge=1, strict=True)
    """Threads of torch on the CPU; null takes the cores, shared out among trials that run side by side."""


class Experiment(Settings):
    """All that a run is told."""

    # Made by ``parse`` and ``load``, which know the installed plugins. The docstring heads the run form.

    name: Annotated[str, _NAME] = "experiment"
    """Begins the name of each run's folder."""
    dataset: Choice
    """Where the images come from."""
    preprocess: tuple[Choice, ...] = ()
    """What is done to each image once, before packing."""
    split: Split = Split()
    """How images are dealt out where the data set has no official split."""
    audit: Audit = Audit()
    """What is done about findings in the data."""
    augment: tuple[Choice, ...] = ()
    """What is done to the training images anew in every batch."""
    architecture: Choice = Field("resnet", validate_default=True)
    """The network."""
    loss: Choice = Field("cross_entropy", validate_default=True)
    """What training makes small, and how outputs become probabilities."""
    optimizer: Choice = Field("adam", validate_default=True)
    """How weights follow the gradient."""
    scheduler: Choice = Field("constant", validate_default=True)
    """How the learning rate changes."""
    metrics: tuple[Choice, ...] = Field(
        (
            "accuracy",
            "balanced_accuracy",
            "recall",
            "precision",
            "f1",
            "roc_auc",
            "average_precision",
            "specificity",
            "mcc",
            "brier",
            "log_loss",
            "ece",
        ),
        validate_default=True,
        min_length=1,
    )
    """The figures of merit, computed on validation each epoch and on test at the end."""
    training: Training = Training()
    """How long and on what the network is trained."""
    compute: Compute = Compute()
    """On what the run is computed, and how."""
    evaluation: Evaluation = Evaluation()
    """How the finished model is looked at."""
    reports: tuple[Choice, ...] = Field(("html", "model_card"), validate_default=True)
    """What is written about the finished run."""
    seed: int = Field(0, ge=0, lt=2**63, strict=True)
    """All chance in a run follows from it."""

    def to_data(self) -> dict[str, Any]:
        """Plain data that ``parse`` reads back to an equal experiment."""
        return self.model_dump(mode="json")


# ── The model over the installed plugins ────────────────────────────────────────────────────────


_WITHOUT_SOURCE = {"use_attribute_docstrings": False}
"""These classes stand in no file: pydantic would search each frame for their source, for a second."""


@lru_cache(maxsize=8)
def experiment_model(registry: Registry) -> type[Experiment]:
    """The Experiment whose component fields are unions over this registry's plugins."""
    fields: dict[str, Any] = {}
    for name, kind in FIELD_KINDS.items():
        base = Experiment.model_fields[name]
        one = _choice_of(kind, candidates(registry, name), registry)
        fields[name] = (tuple[one, ...] if is_list(name) else one, base)  # type: ignore[valid-type]
    return create_model(
        "Experiment",
        __base__=Experiment,
        __doc__=Experiment.__doc__,
        __cls_kwargs__=_WITHOUT_SOURCE,
        **fields,
    )


def is_list(field: str) -> bool:
    """Whether an experiment names several components in this field."""
    return get_origin(Experiment.model_fields[field].annotation) is tuple


def candidates(registry: Registry, field: str) -> dict[str, Component[Any]]:
    """The components that an experiment may name in this field."""
    components = registry.of_kind(FIELD_KINDS[field])
    stages = {"preprocess": ("preprocess",), "augment": ("augment", "mix")}.get(field)
    if stages is None:
        return components
    return {name: c for name, c in components.items() if isinstance(c, Transform) and c.stage in stages}


def _choice_of(
    kind: type[Component[Any]], candidates: Mapping[str, Component[Any]], registry: Registry
) -> Any:
    def choose(value: Any) -> Any:
        """A bare string is a name; what names no candidate is refused here, where the reason is known."""
        if isinstance(value, BaseModel):
            value = value.model_dump()
        chosen = {"name": value} if isinstance(value, str) else value
        complaint = _complaint(chosen, kind, candidates, registry)
        if complaint:
            raise ValueError(complaint)
        return chosen

    variants = [_variant(component) for component in candidates.values()]
    if not variants:
        return Annotated[Choice, BeforeValidator(choose)]
    if len(variants) == 1:
        return Annotated[variants[0], BeforeValidator(choose)]
    return Annotated[reduce(or_, variants), Discriminator("name"), BeforeValidator(choose)]


def _complaint(
    chosen: Any, kind: type[Component[Any]], candidates: Mapping[str, Component[Any]], registry: Registry
) -> str | None:
    if not isinstance(chosen, Mapping):
        return f"must be the name of one of the {kind.plural}, or a mapping with 'name'. Got {chosen!r}"
    name = chosen.get("name")
    if not isinstance(name, str):
        return f"must have a 'name', one of {', '.join(candidates)}. Got {dict(chosen)!r}"
    return None if name in candidates else registry.explain_absence(kind, name, candidates)


def _variant(component: Component[Any]) -> type[Choice]:
    """The component's own Params with the ``name`` that chooses it."""
    return create_model(
        component.name,
        __base__=(Choice, component.params),
        __doc__=component.summary,
        __cls_kwargs__=_WITHOUT_SOURCE,
        name=(Literal[component.name], ...),  # type: ignore[arg-type]  # a literal of a value known at run time
    )


def higher_is_better(figure: str, registry: Registry) -> bool:
    """Which way a figure of the validation should go: val_loss, or val_ and the name of a metric."""
    return figure != "val_loss" and registry.get(Metric, figure.removeprefix("val_")).higher_is_better


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────


def parse(
    data: Mapping[str, Any], registry: Registry | None = None, source: str = "the experiment"
) -> Experiment:
    """Validate plain data, or raise ExperimentError with every mistake in it."""
    registry = registry or plugins.installed()
    model = experiment_model(registry)
    try:
        experiment = model.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, data, partial(_legal_keys, data, registry))
        raise ExperimentError([*problems, *_further_problems(data, problems, registry)], source) from None
    problems = cross_check(experiment, registry)
    if problems:
        raise ExperimentError(problems, source)
    return experiment


def _legal_keys(data: Mapping[str, Any], registry: Registry, place: Place) -> list[str]:
    """Which keys could have stood at this place of the data: the fields of the model that holds it."""
    model: Any = Experiment
    for depth, step in enumerate(place[:-1]):
        if depth == 0 and step in FIELD_KINDS:
            chosen = data[str(step)] if not is_list(str(step)) else data[str(step)][place[1]]
            model = registry.get(FIELD_KINDS[str(step)], chosen["name"]).params
        elif isinstance(step, str):
            model = _model_within(model.model_fields[step].annotation)
    return list(model.model_fields)


def _model_within(annotation: Any) -> type[BaseModel]:
    """The model in an annotation such as ``Inner | None`` or ``tuple[Inner, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((_model_within(part) for part in get_args(annotation) if part is not type(None)), BaseModel)


def _further_problems(data: Mapping[str, Any], found: Sequence[Problem], registry: Registry) -> list[Problem]:
    """Cross-checks of what is sound in data that also hold mistakes, so that all are told at once."""
    sound, lost = _without_mistakes(data, found)
    if "dataset" in lost:
        sound["dataset"] = next(iter(registry.of_kind(FIELD_KINDS["dataset"])))  # a stand-in nobody looks at
    try:
        experiment = experiment_model(registry).model_validate(sound)
    except ValidationError:
        return []
    return cross_check(experiment, registry, leave_out=lost)


def _without_mistakes(data: Mapping[str, Any], found: Sequence[Problem]) -> tuple[dict[str, Any], set[str]]:
    """The data less each bad value, or less its whole field; and the fields that were lost."""
    sound, lost = deepcopy(dict(data)), set()
    for problem in found:
        field, *rest = problem.path.split(".")
        holder = sound.get(field)
        if isinstance(holder, dict) and len(rest) == 1 and rest[0] != "name":
            holder.pop(rest[0], None)
        else:
            sound.pop(field, None)
            lost.add(field)
    return sound, lost


def json_schema(registry: Registry | None = None) -> dict[str, Any]:
    """The JSON schema of an experiment file, for editors; a bare string may stand for a component."""
    schema = experiment_model(registry or plugins.installed()).model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "histoflow experiment"
    for field in FIELD_KINDS:
        place = schema["properties"][field]
        holder, key = (place, "items") if is_list(field) else (schema["properties"], field)
        holder[key] = _or_bare_name(holder[key], schema["$defs"])
    return schema


def _or_bare_name(choice: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        key: choice.pop(key) for key in ("description", "default", "title") if key in choice
    }
    references = [option["$ref"] for option in choice.get("oneOf", [choice])]
    names = [
        definitions[reference.rsplit("/", 1)[1]]["properties"]["name"]["const"] for reference in references
    ]
    return {**described, "anyOf": [{"type": "string", "enum": names}, choice]}


def load(source: str | Path, overrides: Sequence[str] = (), registry: Registry | None = None) -> Experiment:
    """Read a YAML file, or a shipped recipe by its name, with overrides like ``training.epochs=3``."""
    from histoflow import recipes

    data = recipes.read(source)
    if "search" in data:
        raise UserError(f"'{source}' is a tuning, not one experiment. Run it by: histoflow tune {source}")
    for override in overrides:
        apply_override(data, override)
    return parse(data, registry, source=str(source))
