"""Which images the report shows, where the network looked on them, and how it sees them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from histoflow import progress
from histoflow.components import SPLITS, Architecture, SplitName
from histoflow.data.pixels import Pixels
from histoflow.data.store import PackedStore, SplitReader
from histoflow.errors import DeviceMemoryError
from histoflow.evaluation import optional
from histoflow.evaluation.fitting import Fitted
from histoflow.evaluation.predictions import Predictions
from histoflow.explanation import embedding, galleries
from histoflow.explanation.embedding import Embedding
from histoflow.explanation.features import FeatureLayer, feature_layer, features_of
from histoflow.explanation.galleries import Gallery, Pick
from histoflow.explanation.gradcam import SpatialLayer, class_maps, spatial_layer
from histoflow.workshop import Workshop

_BATCH = 32
"""Images whose gradients are computed at once, at most; of a batch of training if that is smaller."""


def look(
    workshop: Workshop,
    model: nn.Module,
    store: PackedStore,
    test: SplitReader,
    kept: Predictions,
    fitted: Fitted,
    folder: Path,
) -> dict[str, Any] | None:
    """What metrics.json says of the gallery and of the map; their pictures stand in files of their own."""
    settings = workshop.experiment.evaluation
    if not settings.gallery and not settings.embedding:
        return None
    with _evaluating(model):
        network = _Network(workshop, model)
        return {
            "gallery": _gallery(network, test, kept, fitted, folder) if settings.gallery else None,
            "embedding": _embedding(network, store, test, fitted, folder) if settings.embedding else None,
        }


class _Network:
    """The model, and images of a split as it wants them."""

    def __init__(self, workshop: Workshop, model: nn.Module) -> None:
        choice = workshop.experiment.architecture
        self.model, self.workshop = model, workshop
        self.named = workshop.registry.get(Architecture, choice.name).named_layer(choice)
        self._pixels = Pixels(workshop.manifest.mean, workshop.manifest.std, workshop.device)

    def inputs(self, images: NDArray[np.uint8]) -> Tensor:
        stored = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.workshop.device)
        return self._pixels.normalised_bytes(stored)

    def example(self, split: SplitReader) -> Tensor:
        """Two images to find layers with; the same one twice where there is only one."""
        return self.inputs(split.gather(np.array([0, len(split) - 1])))


@contextmanager
def _memory_of(workshop: Workshop, without: str) -> Iterator[None]:
    """``without`` is the setting that leaves this out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"It does not fit into the memory of {workshop.device}: {error}. Free some, evaluate on another "
            f"device (--device cpu), or leave this out: {without}."
        ) from error


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode; afterwards in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


# ── The gallery ─────────────────────────────────────────────────────────────────────────────────


def _gallery(
    network: _Network, test: SplitReader, kept: Predictions, fitted: Fitted, folder: Path
) -> dict[str, Any]:
    calibrated = fitted.calibrated(kept.probabilities)
    told = fitted.told(calibrated)
    picks = galleries.picked(calibrated, kept.labels, fitted, network.workshop.experiment.evaluation.gallery)
    indices = np.array([pick.index for pick in picks], np.int64)
    wanted = _maps_wanted(picks, kept.labels, told)
    looked = _look_on(network, test, indices, wanted)
    galleries.save(
        folder,
        Gallery(
            indices=indices,
            images=_shown(test, indices),
            maps=looked.maps,
            map_rows=np.array([row for row, _ in looked.of], np.int64),
            map_classes=np.array([number for _, number in looked.of], np.int64),
            model=fitted.model,
        ),
    )
    classes = network.workshop.manifest.classes
    return {
        "layer": looked.layer and looked.layer.name,
        "grid": looked.layer and list(looked.layer.grid),
        "note": looked.note,
        "calibrated": fitted.temperature != 1,
        "images": [_said_of(pick, test, calibrated, kept.labels, told, classes) for pick in picks],
    }


def _maps_wanted(
    picks: Sequence[Pick], labels: NDArray[np.int64], told: NDArray[np.int64]
) -> list[tuple[int, int]]:
    """The row of an image, and a class: what was told and, where that is wrong, what is right."""
    if labels.ndim == 2:
        return [(row, pick.of) for row, pick in enumerate(picks)]
    both = ((row, (int(told[pick.index]), pick.of)) for row, pick in enumerate(picks))
    return [(row, number) for row, classes in both for number in dict.fromkeys(classes)]


@dataclass(frozen=True)
class _Looked:
    """The maps, and of which row and class each is; or why there are none."""

    maps: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 1, 1), np.float32))
    of: Sequence[tuple[int, int]] = ()
    layer: SpatialLayer | None = None
    note: str = ""


def _look_on(
    network: _Network, test: SplitReader, indices: NDArray[np.int64], wanted: Sequence[tuple[int, int]]
) -> _Looked:
    try:
        with _memory_of(network.workshop, "evaluation.gallery=0"):
            layer = spatial_layer(network.model, network.example(test), network.named)
            parts = _parts(wanted, min(_BATCH, network.workshop.batch_size))
            maps = [_maps(network, layer, test, indices, part) for part in parts]
    except optional.FAILURES as error:
        return _Looked(note=optional.noted("There are no overlays", error))
    return _Looked(np.concatenate(maps), wanted, layer) if maps else _Looked(layer=layer)


def _maps(
    network: _Network,
    layer: SpatialLayer,
    test: SplitReader,
    indices: NDArray[np.int64],
    wanted: Sequence[tuple[int, int]],
) -> NDArray[np.float32]:
    images = network.inputs(test.gather(indices[[row for row, _ in wanted]]))
    numbers = [number for _, number in wanted]
    return (
        class_maps(network.model, layer, images, numbers, len(network.workshop.manifest.classes))
        .cpu()
        .numpy()
    )


def _parts(wanted: Sequence[tuple[int, int]], size: int) -> Iterator[Sequence[tuple[int, int]]]:
    with progress.track("Explaining", total=len(wanted), unit="maps") as advance:
        for start in range(0, len(wanted), size):
            part = wanted[start : start + size]
            yield part
            advance(len(part))


def _shown(test: SplitReader, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    parts = [indices[start : start + _BATCH] for start in range(0, max(1, len(indices)), _BATCH)]
    return np.concatenate([galleries.to_show(test.gather(part)) for part in parts])


def _said_of(
    pick: Pick,
    test: SplitReader,
    calibrated: NDArray[np.float64],
    labels: NDArray[np.int64],
    told: NDArray[np.int64],
    classes: Sequence[str],
) -> dict[str, Any]:
    """``probabilities`` holds those of the classes that matter, the highest first."""
    index = pick.index
    if labels.ndim == 2:
        matter = [pick.of]
    else:
        matter = [int(number) for number in np.argsort(-calibrated[index], kind="stable")[:2]]
        matter = list(dict.fromkeys([*matter, int(told[index]), pick.of]))
    return {
        "index": index,
        "kind": pick.kind,
        "class": classes[pick.of],
        "source": str(test.sources[index]),
        "group": None if test.groups is None else str(test.groups[index]),
        "true": _names(labels[index], classes),
        "told": _names(told[index], classes),
        "probabilities": {classes[number]: float(calibrated[index, number]) for number in matter},
    }


def _names(label: np.int64 | NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """Of the class, or of all classes that are shown."""
    numbers = np.flatnonzero(label) if isinstance(label, np.ndarray) else [label]
    return [classes[int(number)] for number in numbers]


# ── The map ─────────────────────────────────────────────────────────────────────────────────────


def _embedding(
    network: _Network, store: PackedStore, test: SplitReader, fitted: Fitted, folder: Path
) -> dict[str, Any]:
    readers: dict[SplitName, SplitReader] = {
        "train": store.split("train"),
        "val": store.split("val"),
        "test": test,
    }
    chosen = {name: embedding.subset(reader.labels) for name, reader in readers.items()}
    told: dict[str, Any] = {
        "images": {name: len(places) for name, places in chosen.items()},
        "of": {name: len(reader) for name, reader in readers.items()},
        "layer": None,
        "explained": None,
        "note": "",
    }
    try:
        with _memory_of(network.workshop, "evaluation.embedding=false"):
            layer = feature_layer(network.model, network.example(test), network.named)
            features = _features(network, layer, readers, chosen)
        points, explained = embedding.plane_of(features)
    except optional.FAILURES as error:
        return {**told, "note": optional.noted("There is no map of the images", error)}
    embedding.save(
        folder,
        Embedding(
            points=points,
            explained=explained,
            splits=np.concatenate(
                [np.full(len(places), SPLITS.index(name)) for name, places in chosen.items()]
            ),
            indices=np.concatenate(list(chosen.values())),
            labels=np.concatenate([np.int64(readers[name].labels[chosen[name]]) for name in chosen]),
            groups=_groups(readers, chosen),
            model=fitted.model,
        ),
    )
    return {**told, "layer": layer.name, "explained": explained.tolist()}


def _features(
    network: _Network,
    layer: FeatureLayer,
    readers: Mapping[SplitName, SplitReader],
    chosen: Mapping[SplitName, NDArray[np.int64]],
) -> NDArray[np.float32]:
    workshop, found = network.workshop, []
    size = workshop.batch_size
    with progress.track("Mapping", total=sum(map(len, chosen.values()))) as advance:
        for name, places in chosen.items():
            for start in range(0, len(places), size):
                images = network.inputs(readers[name].gather(places[start : start + size]))
                found.append(features_of(network.model, layer, images, workshop.plan.dtype))
                advance(len(images))
    return torch.cat(found).numpy()


def _groups(
    readers: Mapping[SplitName, SplitReader], chosen: Mapping[SplitName, NDArray[np.int64]]
) -> NDArray[np.str_]:
    """None at all unless each split names them."""
    columns = [reader.groups[chosen[name]] for name, reader in readers.items() if reader.groups is not None]
    return np.concatenate(columns) if len(columns) == len(readers) else np.array([], np.str_)
