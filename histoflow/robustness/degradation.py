"""How a model's test figures suffer from what other scanners and laboratories do to images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from histoflow import progress, seeds
from histoflow.data.pixels import Pixels
from histoflow.data.sources import source_of
from histoflow.data.store import SplitReader
from histoflow.engine.predict import outputs_of
from histoflow.errors import DataError, DeviceMemoryError
from histoflow.evaluation import degraded
from histoflow.evaluation.degraded import Degraded
from histoflow.evaluation.fitting import Fitted
from histoflow.evaluation.predictions import Predictions
from histoflow.robustness.perturbations import Chance, Condition, conditions
from histoflow.workshop import Workshop


def look(
    workshop: Workshop,
    model: nn.Module,
    test: SplitReader,
    kept: Predictions,
    fitted: Fitted,
    folder: Path,
) -> dict[str, Any] | None:
    """Of the probabilities as the network gives them, which ``kept`` holds of the clean images."""
    settings = workshop.experiment.evaluation
    if not settings.robustness:
        return None
    order = in_strata(kept.labels, seed_of(workshop))
    chosen = spread(order, settings.robustness_images)
    places, directions = np.sort(chosen), alternating(chosen, len(order))
    looked_for = conditions(workshop.manifest.channels)
    found = Degraded(
        labels=kept.labels[places],
        places=places,
        of=np.array(len(kept.labels)),
        clean=kept.probabilities[places],
        changed=_probabilities(workshop, model, test, places, directions, looked_for),
        kinds=np.array([one.kind for one in looked_for]),
        grades=np.array([one.grade for one in looked_for]),
        strengths=np.array([one.strength for one in looked_for]),
        groups=None if kept.groups is None else kept.groups[places],
        model=fitted.model,
    )
    degraded.save(folder, found)
    return degraded.section(found, workshop.metrics, seed_of(workshop))


def seed_of(workshop: Workshop) -> int:
    """Of what is drawn for the images, and of the resamples of the comparison."""
    return seeds.derive(workshop.experiment.seed, seeds.Stream.SHIFTS)


# ── Which images, and what is drawn for each ────────────────────────────────────────────────────


def in_strata(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The places of all images, those of like labels side by side, within them by chance."""
    kinds = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    chance = np.random.Generator(np.random.Philox(seed))
    return np.lexsort((chance.permutation(len(labels)), kinds))


def spread(order: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """So many of these at most, at even distances: of each kind its share."""
    count = min(most, len(order))
    return order[np.arange(count) * len(order) // count]


def alternating(chosen: NDArray[np.int64], images: int) -> NDArray[np.float32]:
    """For each place 1 or -1, in turns along those chosen: half of each kind is shifted either way."""
    directions = np.ones(images, np.float32)
    directions[chosen[1::2]] = -1
    return directions


def chance_for(
    places: NDArray[np.int64], directions: NDArray[np.float32], shape: Sequence[int], seed: int
) -> Chance:
    """What is drawn for these images (``shape`` is N×C×H×W); for each it follows from its place alone."""
    next_seed = seeds.series(seed)
    noise = torch.empty(tuple(shape))
    for image, place in zip(noise, places.tolist(), strict=True):
        image.normal_(generator=torch.Generator().manual_seed(next_seed(place)))
    return Chance(torch.from_numpy(directions[places]), noise)


# ── What the network says ───────────────────────────────────────────────────────────────────────


def _probabilities(
    workshop: Workshop,
    model: nn.Module,
    test: SplitReader,
    places: NDArray[np.int64],
    directions: NDArray[np.float32],
    looked_for: Sequence[Condition],
) -> NDArray[np.float64]:
    """Conditions × images × classes; each batch is read once and seen under all conditions."""
    total, was_training = len(places) * len(looked_for), model.training
    model.eval()
    try:
        with progress.track("Testing robustness", total=total) as advance, torch.inference_mode():
            found = [
                _of_batch(workshop, model, images, chance, looked_for, advance)
                for images, chance in _batches(workshop, test, places, directions)
            ]
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"Batches of {workshop.batch_size} images do not fit into the memory of {workshop.device}: "
            f"{error}. Free some, evaluate on another device (--device cpu), or leave this out: "
            f"evaluation.robustness=false."
        ) from error
    finally:
        model.train(was_training)
    return np.concatenate(found, axis=1)


def _batches(
    workshop: Workshop, test: SplitReader, places: NDArray[np.int64], directions: NDArray[np.float32]
) -> Iterator[tuple[Tensor, Chance]]:
    """Stored pixels, and what is drawn for them."""
    size, seed = workshop.batch_size, seed_of(workshop)
    parts = [places[start : start + size] for start in range(0, len(places), size)]
    for some, stored in zip(parts, source_of(test, workshop.device, "host").batches(parts), strict=True):
        yield stored.images, chance_for(some, directions, stored.images.shape, seed)


def _of_batch(
    workshop: Workshop,
    model: nn.Module,
    images: Tensor,
    chance: Chance,
    looked_for: Sequence[Condition],
    advance: progress.Advance,
) -> NDArray[np.float64]:
    pixels = Pixels(workshop.manifest.mean, workshop.manifest.std, workshop.device)
    unit = pixels.unit(images)
    chance = Chance(*(drawn.to(workshop.device) for drawn in chance))
    found = []
    for condition in looked_for:
        changed = pixels.normalise(condition.change(unit, chance))
        found.append(workshop.probabilities(outputs_of(model, changed, workshop.plan.dtype).cpu()))
        _refuse_no_numbers(found[-1], condition)
        advance(len(images))
    return np.stack(found)


def _refuse_no_numbers(probabilities: NDArray[np.float64], condition: Condition) -> None:
    bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"Under {condition.grade} {condition.kind} ({condition.strength}) the network's outputs must be "
            f"finite numbers. Those of {bad} of {len(probabilities)} images are not. Train it in higher "
            f"precision (compute.precision=fp32), or leave this out: evaluation.robustness=false."
        )
