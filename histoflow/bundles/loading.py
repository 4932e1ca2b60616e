"""``histoflow.load_model``: a bundle becomes an object that predicts images. It needs no Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_in
from torch import Tensor, nn

from histoflow import registry as plugins
from histoflow.answering import NOT_FINITE, answers_of, bare, finite
from histoflow.bundles import bundle, requirements
from histoflow.bundles.bundle import Bundle, Manifest, Part
from histoflow.bundles.given import Reading, usable
from histoflow.components import Architecture, Component, Loss, Params, Task, Transform
from histoflow.data import incoming
from histoflow.engine import checkpoint
from histoflow.engine.device import choose_device, cores, machine_of
from histoflow.engine.inference import Tta
from histoflow.engine.modes import computing
from histoflow.engine.plan import Plan, Workload, decide
from histoflow.errors import BundleError, DataError, UserError
from histoflow.evaluation.fitting import Fitted
from histoflow.experiment import Compute
from histoflow.predictor import Predictor, Terms, refuse_turning
from histoflow.registry import Registry
from histoflow.seeds import Stream, derive

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
K = TypeVar("K", bound=Component[Any])

_MOST_THREADS = 16
_computing = Lock()  # the switches of torch that a prediction sets are those of the whole process


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """One entry for each image, in their order."""

    probabilities: NDArray[np.float64]
    """Images × classes, calibrated on validation."""
    labels: list[str] | list[tuple[str, ...]]
    """The class of each image by the model's threshold; in ``multilabel`` tasks all that it shows."""
    confidence: NDArray[np.float64]
    """The probability of that class; of several answers (shown or not), of the one that is least sure."""
    sets: list[tuple[str, ...]] | None
    """The classes that each image may have, at the coverage that was asked for; None without any."""
    raw: NDArray[np.float64]
    """The probabilities as they were before calibration."""


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained network with all that turns images into answers. ``load_model`` makes one."""

    manifest: Manifest
    """What is known of it: where it comes from, its figures on test, what was fitted, what it needs."""
    device: torch.device
    _network: nn.Module
    _terms: Terms
    _plan: Plan
    _reader: incoming.Reader
    _predictors: dict[Tta, Predictor] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<histoflow.Model {self.manifest.run}: {', '.join(self.classes)}; on {self.device}>"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    @property
    def task(self) -> Task:
        return self.manifest.task

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that images must have once they are preprocessed."""
        return self.manifest.size

    @property
    def channels(self) -> int:
        return self.manifest.channels

    @property
    def fitted(self) -> Fitted:
        """Temperature, thresholds and levels; without an evaluation, those that change nothing."""
        return self.manifest.fitted or bare(self.manifest.model, self.manifest.task)

    def predict(
        self, images: Sequence[Any] | NDArray[np.uint8], tta: Tta = "none", batch_size: int | None = None
    ) -> Prediction:
        """What the model says of images: files, Pillow's pictures, or uint8 arrays H×W×3 or H×W, in any mix;
        or of one array N×H×W×C.

        Each is preprocessed as the training images were. The first one that cannot be used is an error that
        tells its index. ``tta`` averages over 4 (flips) or 8 views (dihedral). ``batch_size`` None suits the
        device; smaller ones take less memory.
        """
        self._refuse(images, tta, batch_size)
        with _computing, computing(self._plan, self.device, deterministic=False):
            raw = self._raw(images, tta, batch_size or self._terms.batch_size)
        return self._answered(raw)

    def of_pixels(self, images: NDArray[np.uint8]) -> Prediction:
        """The same for images that are preprocessed already: uint8, images × height × width × channels."""
        wanted = (*self.size, self.channels)
        if images.dtype != np.uint8 or images.shape[1:] != wanted:
            raise DataError(
                f"Preprocessed images must be uint8 of shape N×{'×'.join(map(str, wanted))}. "
                f"Got {images.dtype} of shape {images.shape}. Use predict for images that are not."
            )
        with _computing, computing(self._plan, self.device, deterministic=False):
            predictor, size = self._predictor("none"), self._terms.batch_size
            parts = [
                predictor.probabilities(images[start : start + size]) for start in range(0, len(images), size)
            ]
        return self._answered(np.concatenate([predictor.of_none, *parts]))

    def _raw(self, images: Sequence[Any] | NDArray[np.uint8], tta: Tta, size: int) -> NDArray[np.float64]:
        predictor = self._predictor(tta)
        found = [predictor.of_none]
        threads, read = min(_MOST_THREADS, cores()), Reading(images, self._reader)
        ready = incoming.decoded(range(len(images)), read, threads=threads, ahead=2 * size)
        with closing(ready):
            pixels = usable(ready)
            while batch := list(islice(pixels, size)):
                found.append(predictor.probabilities(np.stack(batch)))
        return np.concatenate(found)

    def _predictor(self, tta: Tta) -> Predictor:
        if tta not in self._predictors:
            self._predictors[tta] = Predictor(self._terms, self._network, tta)
        return self._predictors[tta]

    def _answered(self, raw: NDArray[np.float64]) -> Prediction:
        _refuse_infinite(raw)
        found = answers_of(self.fitted, raw)
        several = self.task == "multilabel"
        return Prediction(
            probabilities=found.probabilities,
            labels=self._names(found.told) if several else [self.classes[number] for number in found.told],
            confidence=found.confidence,
            sets=None if found.sets is None else self._names(found.sets),
            raw=raw,
        )

    def _names(self, chosen: NDArray[Any]) -> list[tuple[str, ...]]:
        return [tuple(name for name, one in zip(self.classes, row, strict=True) if one) for row in chosen]

    def _refuse(self, images: Any, tta: Any, batch_size: int | None) -> None:
        if tta not in get_args(Tta):
            raise UserError(f"tta must be one of {', '.join(get_args(Tta))}. Got {tta}.")
        refuse_turning(tta, self.size)
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size must be None or at least 1. Got {batch_size}.")
        stacked = isinstance(images, np.ndarray)
        if (stacked and images.ndim != 4) or not (stacked or isinstance(images, (list, tuple))):
            shape = f"an array of shape {images.shape}" if stacked else type(images).__name__
            raise UserError(
                f"images must be a list, or one array N×H×W×C. Got {shape}. Put a single image into a list."
            )


def _refuse_infinite(raw: NDArray[np.float64]) -> None:
    told = finite(raw)
    if not told.all():
        raise DataError(
            f"images[{int(np.argmin(told))}] cannot be predicted: {NOT_FINITE}. Leave it out or, where "
            f"precision is not fp32, load the model with that."
        )


def load_model(
    path: str | Path,
    *,
    device: str = "auto",
    precision: Precision = "fp32",
    sha256: str | None = None,
    registry: Registry | None = None,
) -> Model:
    """The model of a bundle that ``histoflow export`` wrote.

    The file is refused if any of it was changed after it was written, or if a plugin that the model needs is
    not installed in a version that fits. That it is whole does not tell who made it: with ``sha256``, the
    hash that ``histoflow export`` printed, it must be that very bundle. Nothing is unpickled.

    ``device`` is auto, cpu, cuda or cuda:1. On the CPU and with fp32, probabilities are those that
    ``histoflow predict`` gives; the other precisions are faster on a GPU, and less exact.
    """
    found = bundle.open_bundle(Path(path), sha256)
    registry = registry or plugins.installed()
    requirements.refuse_unfit(found.manifest, registry)
    chosen = choose_device(device)
    plan = decide(Compute(device=device, precision=precision), machine_of(chosen), _NO_TRAINING)
    network = _network(found, registry)
    return Model(
        found.manifest,
        chosen,
        network,
        _terms(found.manifest, registry, chosen, plan),
        plan,
        incoming.Reader(_chain(found.manifest, registry), (*found.manifest.size, found.manifest.channels)),
    )


_NO_TRAINING = Workload(epochs=1, steps_per_epoch=None, image_bytes=None)


def _network(found: Bundle, registry: Registry) -> nn.Module:
    """As it was built for training, with the bundle's weights in it."""
    manifest = found.manifest
    architecture, loss = _component(registry, Architecture, manifest.architecture), _loss(manifest, registry)
    outputs = loss.outputs(_params(loss, manifest.loss), manifest.info)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(manifest.seed, Stream.INITIAL_WEIGHTS))
        build = architecture.skeleton or architecture.build
        network = build(_params(architecture, manifest.architecture), manifest.info, outputs)
    try:
        weights = tensors_in(found.read(bundle.WEIGHTS))
    except SafetensorError as error:
        raise BundleError(f"The weights in {found.path} are no safetensors: {error}.") from error
    checkpoint.put(weights, network, found.path)
    return network.eval()


def _terms(manifest: Manifest, registry: Registry, device: torch.device, plan: Plan) -> Terms:
    loss = _loss(manifest, registry)
    params = _params(loss, manifest.loss)

    def link(outputs: Tensor) -> NDArray[np.float64]:
        linked: NDArray[np.float64] = loss.probabilities(params, outputs).double().numpy()
        return linked

    return Terms(
        channels=manifest.channels,
        size=manifest.size,
        classes=len(manifest.classes),
        mean=manifest.mean,
        std=manifest.std,
        link=link,
        device=device,
        dtype=plan.dtype,
        channels_last=plan.channels_last.value,
    )


def _chain(manifest: Manifest, registry: Registry) -> list[Any]:
    steps = [(_component(registry, Transform, part), part) for part in manifest.preprocess]
    return [cast("Any", step.build(_params(step, part))) for step, part in steps]


def _loss(manifest: Manifest, registry: Registry) -> Loss[Any]:
    return _component(registry, Loss, manifest.loss)


def _component(registry: Registry, kind: type[K], part: Part) -> K:
    return registry.get(kind, part.name)


def _params(component: Component[Any], part: Part) -> Params:
    try:
        params: Params = component.params.model_validate(part.params)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "together"
        raise BundleError(
            f"The {component.kind} '{part.name}' does not take the parameters {part.params} with which the "
            f"model was trained ({place}: {first['msg']}). Install {part.package} {part.version}, with which "
            f"it did."
        ) from error
    return params
