"""The second half of packing: decoded images are dealt to splits, audited, and laid down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow import progress
from histoflow.components import SPLITS, Facts, Row, Samples, SplitName
from histoflow.data.audit.checks import audit
from histoflow.data.audit.examined import Examined
from histoflow.data.chunks import DecodedSet
from histoflow.data.contradictions import task_of_samples
from histoflow.data.laying import SplitWriter, labels_of, worth_linking
from histoflow.data.moments import from_sums
from histoflow.data.notes import notes
from histoflow.data.recipe import Recipe
from histoflow.data.splitting import Splits, Splitter
from histoflow.data.store import SCHEMA, Manifest, Quarantined, SplitFacts

Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """All images of a data set, decoded, and what is to become of them."""

    recipe: Recipe
    facts: Facts
    samples: Samples
    splitter: Splitter
    decoded: DecodedSet
    policies: Mapping[str, str]
    may_decline: Mapping[int, str]

    def lay_down(self, folder: Path) -> Manifest:
        """Write the files of each split; the manifest is the caller's to write."""
        unreadable = [(self.samples.rows[row].source, reason) for row, reason in self.decoded.unreadable]
        audited = audit(
            self._examined, self.policies, unreadable=unreadable, asked_shares=self.splitter.asked
        )
        kept = np.delete(np.arange(len(self._rows)), list(audited.dropped))
        self._refuse_empty_splits(kept)
        splits = self._write(folder, kept, audited.copies)
        size = (self._shape[0], self._shape[1])
        noted = notes(self.decoded, size, self.may_decline, self._examined.sources)
        mean, std = self._mean_and_std(kept)
        return Manifest(
            schema_version=SCHEMA,
            fingerprint=self.recipe.fingerprint,
            dataset=dict(self.recipe.dataset),
            preprocess=tuple(dict(step) for step in self.recipe.preprocess),
            split=dict(self.recipe.split),
            task=task_of_samples(self.samples),
            classes=self.samples.classes,
            channels=self._shape[2],
            size=size,
            splits=splits,
            mean=mean,
            std=std,
            quarantine=self._quarantine(audited.dropped),
            findings=(*audited.findings, *noted),
            licence=self.facts.licence,
            citation=self.facts.citation,
        )

    def _refuse_empty_splits(self, kept: Places) -> None:
        rows = [self._rows[int(place)] for place in kept]
        keys = [self._keys[int(place)] for place in kept]
        self.splitter.refuse_empty(rows, keys, self._splits[kept])

    # ── What is known of the images that could be read ──────────────────────────────────────────

    @cached_property
    def _rows(self) -> Sequence[Row]:
        return [self.samples.rows[row] for row in self.decoded.columns["row"]]

    @cached_property
    def _keys(self) -> Sequence[str]:
        return [bytes(key).hex() for key in self.decoded.columns["key"]]

    @cached_property
    def _splits(self) -> Splits:
        splits: Splits = self.decoded.columns["split"]
        return splits

    @cached_property
    def _labels(self) -> NDArray[Any]:
        return labels_of(self._rows, self.samples)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.decoded.shape

    @cached_property
    def _examined(self) -> Examined:
        columns = self.decoded.columns
        height, width = columns["size"].T.astype(np.float64)
        grouped = self._rows[0].group is not None
        return Examined(
            task=task_of_samples(self.samples),
            classes=self.samples.classes,
            labels=self._labels,
            splits=self._splits,
            sources=[row.source for row in self._rows],
            groups=[str(row.group) for row in self._rows] if grouped else None,
            hashes=columns["hash"].view("S16")[:, 0],
            features=self.decoded.named("feature/"),
            files={**self.decoded.named("file/"), "width": width, "height": height},
            images=self.decoded.images,
        )

    # ── What is written of them ─────────────────────────────────────────────────────────────────

    def _write(self, folder: Path, kept: Places, copies: Places) -> dict[SplitName, SplitFacts]:
        members = {name: kept[self._splits[kept] == number] for number, name in enumerate(SPLITS)}
        writers = {name: self._writer(folder / name, name, len(members[name])) for name in SPLITS}
        is_kept = np.isin(np.arange(len(self._rows)), kept)
        with progress.track("Laying down", total=len(kept)) as advance:
            for name, writer in writers.items():
                for part in self.decoded.parts[name]:
                    taken = np.flatnonzero(is_kept[part.places])
                    writer.take_over(part, taken)
                    advance(len(taken))
        return {name: self._finish(writers[name], members[name], copies) for name in SPLITS}

    def _writer(self, folder: Path, name: SplitName, images: int) -> SplitWriter:
        links = worth_linking(self.decoded.parts[name], int(np.prod(self._shape)))
        return SplitWriter(folder, self._shape, images, links=links)

    def _finish(self, writer: SplitWriter, members: Places, copies: Places) -> SplitFacts:
        return writer.finish(
            [self._rows[place] for place in members],
            self._labels[members],
            {"hashes": self.decoded.columns["hash"][members], "copies": copies[members]},
            len(self.samples.classes),
        )

    def _mean_and_std(self, kept: Places) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of the training images; from whole numbers, so exact and the same in whichever order."""
        train = kept[self._splits[kept] == SPLITS.index("train")]
        pixels = len(train) * self._shape[0] * self._shape[1]
        totals = self.decoded.columns["sum"][train].sum(axis=0).tolist()
        squares = self.decoded.columns["square"][train].sum(axis=0).tolist()
        return from_sums(pixels, totals, squares)

    def _quarantine(self, dropped: Mapping[int, str]) -> tuple[Quarantined, ...]:
        """In the order of the rows."""
        rows = self.decoded.columns["row"]
        reasons = dict(self.decoded.unreadable) | {int(rows[place]): why for place, why in dropped.items()}
        return tuple(
            Quarantined(source=self.samples.rows[row].source, reason=reasons[row]) for row in sorted(reasons)
        )
