"""Looks at a model beside its figures: one that fails leaves a note, and never costs an opened test split."""

from __future__ import annotations

from histoflow import progress
from histoflow.errors import DataError, DeviceMemoryError, ExplanationError, PluginError

FAILURES = (DataError, DeviceMemoryError, ExplanationError, PluginError, RuntimeError)
"""RuntimeError is torch's, as of an operation that has no deterministic form."""


def noted(what: str, error: Exception) -> str:
    """Why there is no such look, told at once and to be kept in its section."""
    progress.log.debug("%s failed", what, exc_info=error)
    progress.say(f"{what}: {error}")
    return str(error)
