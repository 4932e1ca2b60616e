"""What determines a packed store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from histoflow import files
from histoflow.data.store import SCHEMA

_DECODING = 4
"""Raise it when the same images would be decoded, hashed or measured otherwise."""
_AUDITING = 1
"""Raise it when the checks would leave out other images under the same settings."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that determines a packed store; its digest names the store's folder."""

    dataset: Mapping[str, Any]
    dataset_version: int
    raw_digest: str
    preprocess: Sequence[Mapping[str, Any]]
    preprocess_versions: Sequence[int] = ()
    """Of the code of each step of ``preprocess``."""
    split: Mapping[str, Any]
    dropped: Sequence[str] = ()
    """The settings of the audit under which images are left out."""

    @property
    def fingerprint(self) -> str:
        versions = {"schema": SCHEMA, "decoding": _DECODING}
        if self.dropped:
            versions["auditing"] = _AUDITING
        return files.digest_of_data({**versions, **asdict(self)})

    @property
    def folder_name(self) -> str:
        return f"{self.dataset['name']}-{self.fingerprint[:16]}"

    @property
    def decoded_name(self) -> str:
        """Of the decoded images: stores that differ in what the audit drops can be made of the same."""
        of = {name: value for name, value in asdict(self).items() if name != "dropped"}
        return f"{self.dataset['name']}-{files.digest_of_data({'decoding': _DECODING, **of})[:16]}"
