"""The bootstrap interval of the area under the ROC curve, beside DeLong's variance of it."""

import numpy as np
import pytest
from scipy.stats import norm

from histoflow import Metric
from histoflow.evaluation import score_all
from histoflow.evaluation.intervals import with_intervals
from histoflow.registry import installed


def delong(labels, scores):
    """The area and its standard error (DeLong, DeLong and Clarke-Pearson 1988), from all pairs."""
    inside, outside = scores[labels == 1], scores[labels == 0]
    above = (inside[:, None] > outside).astype(float) + (inside[:, None] == outside) / 2
    variance = sum(above.mean(axis=1 - axis).var(ddof=1) / above.shape[axis] for axis in (0, 1))
    return above.mean(), np.sqrt(variance)


@pytest.mark.parametrize(("outside", "inside"), [(250, 150), (500, 60)])
def test_its_ends_are_those_of_delong(outside, inside):
    """Within 0.15 of a standard error: the quantiles of 2,000 draws are known to 0.06 of it."""
    chance = np.random.default_rng(1)
    labels = np.repeat([0, 1], [outside, inside])
    scores = np.round(1 / (1 + np.exp(-chance.normal(size=len(labels)) - labels)), 2)
    probabilities = np.column_stack([1 - scores, scores])
    metric = installed().get(Metric, "roc_auc")
    metrics = {"roc_auc": (metric, metric.params())}
    told = score_all(metrics, probabilities, labels)
    found = with_intervals(metrics, told, probabilities, labels, None, seed=0)[0]["roc_auc"]
    area, error = delong(labels, scores)
    assert found.value == pytest.approx(area, abs=1e-12)
    low, high = area + norm.ppf([0.025, 0.975]) * error
    assert found.interval == pytest.approx((low, high), abs=0.15 * error)
    assert np.ptp(found.interval) == pytest.approx(high - low, rel=0.05)
