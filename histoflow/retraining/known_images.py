"""Test images that a champion knows from its own training: on those it would look better than it is.

Where a stable hash deals images out there are none. Where a data set brings its own splits, or the settings
of the split were changed, an image may stand in test that was in train when the champion was trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from histoflow import home
from histoflow.data.store import Manifest, PackedStore, read_manifest
from histoflow.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.experiment import Experiment
    from histoflow.models import Version


def known_to(
    champion: Version, manifest: Manifest, store: PackedStore, experiment: Experiment
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which test images of the store the champion was trained on or chosen by, and what to say of it.

    ``manifest`` is of the champion's own data, and the store is preprocessed as those were.
    """
    test = store.unseal_test()
    former = _store_of(manifest)
    if former is None:
        _refuse_other_split(champion, manifest, experiment)
        return np.zeros(len(test), bool), [
            f"The packed data of {champion.reference} are gone: whether it knows any of these test images "
            f"cannot be told. The settings of the split are the same."
        ]
    parts = [former.split(name) for name in ("train", "val")]
    known = np.isin(_keys(test.hashes), np.concatenate([_keys(part.hashes) for part in parts]))
    groups = [part.groups for part in parts if part.groups is not None]
    if test.groups is not None and groups:
        known |= np.isin(test.groups, np.concatenate(groups))
    if not known.any():
        return known, []
    return known, [
        f"{int(known.sum()):,} of {len(known):,} test images take no part: {champion.reference} was trained "
        f"on them, or on others of the same patient or slide."
    ]


def _store_of(manifest: Manifest) -> PackedStore | None:
    """The packed data of this manifest, if they are still there."""
    for folder in home.packed().glob(f"*-{manifest.fingerprint[:16]}*"):
        if (folder / "manifest.json").is_file() and read_manifest(folder).fingerprint == manifest.fingerprint:
            return PackedStore(folder)
    return None


def _refuse_other_split(champion: Version, manifest: Manifest, experiment: Experiment) -> None:
    settings = experiment.split.model_dump()
    if dict(manifest.split) != settings:
        raise DataError(
            f"The test split must be one that {champion.reference} was not trained on. Its packed data are "
            f"gone, and its settings of split were {dict(manifest.split)}. Got {settings}, which deals "
            f"images out in another way. Use the same settings."
        )


def _keys(hashes: NDArray[np.uint8]) -> NDArray[np.void]:
    """Each hash as one item."""
    return np.ascontiguousarray(hashes).view(np.dtype((np.void, hashes.shape[1]))).ravel()
