"""The plain classifiers of the probes: what such a one can do, a network can do by the same shortcut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
_WAVES = 400  # more of them gain little and cost their square
_SHRINKAGE = 1e-3


@dataclass(frozen=True)
class Discriminant:
    """Fisher's linear discriminant on random waves of the features, which nears a kernel machine's curves."""

    centre: Floats
    scale: Floats
    directions: Floats
    phases: Floats
    weights: Floats
    offsets: Floats
    """Of each class, without the prior."""
    log_prior: Floats

    def scores(self, features: Floats, *, equal_priors: bool = False) -> Floats:
        """Images × classes; the greatest is predicted. With equal priors rare classes count in full."""
        waves = _waves((features - self.centre) / self.scale, self.directions, self.phases)
        scores: Floats = waves @ self.weights + self.offsets
        return scores if equal_priors else scores + self.log_prior


def fit(features: Floats, labels: Codes, classes: int) -> Discriminant:
    """A class without images is never predicted. The same features give the same classifier."""
    centre, scale = features.mean(axis=0), _not_zero(features.std(axis=0))
    directions, phases = _random_waves((features - centre) / scale)
    waves = _waves((features - centre) / scale, directions, phases)
    counts = np.bincount(labels, minlength=classes)
    means = np.zeros((classes, waves.shape[1]))
    for label in np.flatnonzero(counts):
        means[label] = waves[labels == label].mean(axis=0)
    inside = waves - means[labels]
    within = inside.T @ inside / len(labels)
    within.flat[:: len(within) + 1] += _SHRINKAGE * np.trace(within) / len(within) + 1e-9
    weights = np.asarray(np.linalg.solve(within, means.T), np.float64)
    with np.errstate(divide="ignore"):
        log_prior = np.log(counts / len(labels))
    offsets: Floats = np.where(counts > 0, -0.5 * np.einsum("cd,dc->c", means, weights), -np.inf)
    return Discriminant(centre, scale, directions, phases, weights, offsets, log_prior)


def _random_waves(features: Floats) -> tuple[Floats, Floats]:
    """Waves about as long as images lie apart, fewer for few images; and the features themselves."""
    chance = np.random.default_rng(0)
    number = max(8, min(_WAVES, len(features) // 4))
    some = features[np.linspace(0, len(features) - 1, min(len(features), 400)).astype(np.int64)]
    apart = np.median(((some[:, None, :] - some[None, ::7, :]) ** 2).sum(axis=2))
    directions = chance.normal(size=(features.shape[1], number)) / np.sqrt(max(float(apart), 1e-12))
    return directions, chance.uniform(0, 2 * np.pi, number)


def _waves(features: Floats, directions: Floats, phases: Floats) -> Floats:
    return np.hstack([features, np.cos(features @ directions + phases)])


def _not_zero(spread: Floats) -> Floats:
    return np.where(spread > 1e-9, spread, 1.0)
