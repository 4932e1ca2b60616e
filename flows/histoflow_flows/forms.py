"""The parameters of the flows: an experiment over the plugins that are installed here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histoflow.experiment import Experiment, experiment_model, load
from histoflow.registry import installed

if TYPE_CHECKING:
    ExperimentForm = Experiment
else:
    ExperimentForm = experiment_model(installed())

DEMO = load("demo")
"""What a deployment runs when it is told nothing: a minute's work that needs no network."""
