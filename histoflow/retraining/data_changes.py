"""What is new in a challenger's data beside those that a champion was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from histoflow.components import SPLITS
from histoflow.data.store import Manifest, PackedStore, SplitReader, read_manifest
from histoflow.retraining.known_images import keys_of, store_of_manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.models import Version


def beside(champion: Version, packed: Path) -> str:
    """In words: which images came and went, where both are still packed, and the counts that differ."""
    new, old = PackedStore(packed), read_manifest(champion.folder)
    if new.manifest.fingerprint == old.fingerprint:
        return f"The data are those of {champion.reference}."
    former = store_of_manifest(old)
    words = [*([_came_and_went(new, former)] if former else []), *_counts(new.manifest, old)]
    told = "; ".join(filter(None, words)) or "as many images of each class in each split"
    return f"Beside the data of {champion.reference}: {told}."


def _came_and_went(new: PackedStore, former: PackedStore) -> str:
    """Pixels can be compared where they were preprocessed alike; else images go by their names."""
    alike = new.manifest.preprocess == former.manifest.preprocess
    now, before = (_names(store, by_pixels=alike) for store in (new, former))
    came, went = int((~np.isin(now, before)).sum()), int((~np.isin(before, now)).sum())
    if not came and not went:
        return ""
    return f"{came:,} images came and {went:,} went, by their {'pixels' if alike else 'names'}"


def _names(store: PackedStore, *, by_pixels: bool) -> NDArray[np.void] | NDArray[np.str_]:
    """Of the images of all splits; no image is read."""
    parts = [SplitReader(store.folder / name, facts) for name, facts in store.manifest.splits.items()]
    if by_pixels:
        return np.concatenate([keys_of(part.hashes) for part in parts])
    return np.concatenate([part.sources for part in parts])


def _counts(new: Manifest, old: Manifest) -> Iterator[str]:
    for split in SPLITS:
        now, before = new.splits[split], old.splits[split]
        counts = [dict(zip(one.classes, one.splits[split].counts, strict=True)) for one in (new, old)]
        named = [
            f"{name} {counts[1].get(name, 0):,} → {counts[0].get(name, 0):,}"
            for name in dict.fromkeys((*old.classes, *new.classes))
            if counts[0].get(name, 0) != counts[1].get(name, 0)
        ]
        if named:
            yield f"{split} {before.images:,} → {now.images:,} images ({', '.join(named)})"
