"""Images that a champion knows from its own training: on those it would look better than it is.

What it began from counts as well, and so does what that began from: weights pass on what they have learned.
Where a stable hash deals images out there are none. Where a data set brings its own splits, or the settings
of the split were changed, an image may stand in test that was in train when one of them was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histoflow import home, models, stages
from histoflow.components import Dataset
from histoflow.data.store import Manifest, PackedStore, SplitReader, read_manifest
from histoflow.errors import DataError
from histoflow.evaluation import predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.components import SplitName
    from histoflow.experiment import Experiment
    from histoflow.models import Version
    from histoflow.registry import Registry
    from histoflow.stages import RawData

LEARNED: tuple[SplitName, ...] = ("train", "val")
"""The splits that a model is trained on or chosen by."""


def ancestry(reference: str | None) -> list[Version]:
    """This version, the one that its training began from, the one before that, and so on."""
    found: list[Version] = []
    while reference is not None:
        found.append(models.find(reference))
        reference = found[-1].record.warm_from
    return found


@dataclass(frozen=True)
class NewData:
    """The data of a challenger, which can be preprocessed as those of any version were."""

    experiment: Experiment
    raw: RawData
    registry: Registry

    def as_for(self, version: Version) -> PackedStore:
        theirs = stages.experiment_of(version.run, self.registry)
        asked = self.experiment.model_copy(update={"preprocess": theirs.preprocess})
        return PackedStore(stages.pack(asked, self.raw, self.registry).folder)

    @property
    def brings_splits(self) -> bool:
        dataset = self.registry.get(Dataset, self.experiment.dataset.name)
        return dataset.facts(self.experiment.dataset).official_split


# ── For a comparison ────────────────────────────────────────────────────────────────────────────


def known_to(
    versions: Sequence[Version], test: SplitReader, new: NewData
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which of the test images any of these was trained on or chosen by, and what to say of it."""
    known, notes = np.zeros(len(test), bool), []
    for version in versions:
        manifest = read_manifest(version.folder)
        former = store_of_manifest(manifest)
        if former is None:
            _refuse_other_split(version, manifest, new.experiment)
            notes.append(_gone(version))
            continue
        theirs = _learned(former, LEARNED, test, new.as_for(version))
        if theirs.any():
            notes.append(
                f"{int(theirs.sum()):,} of {len(theirs):,} test images take no part: {version.reference} was "
                f"trained on them, or on others of the same patient or slide."
            )
        known |= theirs
    return known, notes


def _gone(version: Version) -> str:
    return (
        f"The packed data of {version.reference} are gone: whether it knows any of these test images "
        f"cannot be told. The settings of the split are the same."
    )


def _refuse_other_split(version: Version, manifest: Manifest, experiment: Experiment) -> None:
    settings = experiment.split.model_dump()
    if dict(manifest.split) != settings:
        raise DataError(
            f"The test split must be one that {version.reference} was not trained on. Its packed data are "
            f"gone, and its settings of split were {dict(manifest.split)}. Got {settings}, which deals "
            f"images out in another way. Use the same settings."
        )


# ── For a warm start ────────────────────────────────────────────────────────────────────────────


def refuse_learned(versions: Sequence[Version], store: PackedStore, new: NewData) -> list[str]:
    """Refuse data whose test or validation images these have learned; notes tell what could not be looked up.

    Of the test split it reads names, hashes and groups, no image.
    """
    notes = []
    for version in versions:
        manifest = read_manifest(version.folder)
        former = store_of_manifest(manifest)
        if former is None:
            _refuse_unstable(version, manifest, store, new)
            notes.append(_gone(version))
            continue
        theirs = new.as_for(version)
        test = _learned(former, LEARNED, store.unseal_test(), theirs)
        val = _learned(former, ("train",), store.split("val"), theirs)
        if test.any() or val.any():
            raise DataError(
                f"A warm start must leave test and validation images that were not learned from before. "
                f"{version.reference} has learned {int(test.sum()):,} of {len(test):,} test images and "
                f"{int(val.sum()):,} of {len(val):,} validation images of these data, or others of the same "
                f"patient or slide. Start without its weights, or have the splits as they were for it."
            )
    return notes


def _refuse_unstable(version: Version, manifest: Manifest, store: PackedStore, new: NewData) -> None:
    """Only a hash of what was not changed is known to deal images out as it did."""
    _refuse_other_split(version, manifest, new.experiment)
    if new.brings_splits:
        why = "the splits of these data come with them"
    elif _test_images_moved(version, store):
        why = "its test images are not all in the test split of these data"
    else:
        return
    raise DataError(
        f"A warm start must leave test images that were not learned from before. The packed data of "
        f"{version.reference} are gone, so which images it has learned cannot be looked up, and {why}. "
        f"Start without its weights."
    )


def _test_images_moved(version: Version, store: PackedStore) -> bool:
    """Whether its data were dealt out otherwise, as its predictions show, which name its test images."""
    was = predictions.load(version.folder).sources
    if was is None:
        return True
    return any(bool(np.isin(was, store.split(part).sources).any()) for part in ("train", "val"))


# ── Looking up ──────────────────────────────────────────────────────────────────────────────────


def _learned(
    former: PackedStore, parts: Sequence[SplitName], asked: SplitReader, as_theirs: PackedStore
) -> NDArray[np.bool_]:
    """Which of the images asked about stand in these splits of a former store, by their pixels or groups.

    ``as_theirs`` holds the same images, preprocessed as those of the former store were: only so their hashes
    can be compared.
    """
    learned = [SplitReader(former.folder / part, former.manifest.splits[part]) for part in parts]
    hashes = np.concatenate([keys_of(part.hashes) for part in learned])
    again = [SplitReader(as_theirs.folder / name, facts) for name, facts in as_theirs.manifest.splits.items()]
    seen = np.concatenate([part.sources[np.isin(keys_of(part.hashes), hashes)] for part in again])
    known = np.isin(asked.sources, seen)
    groups = [part.groups for part in learned if part.groups is not None]
    if asked.groups is not None and groups:
        known |= np.isin(asked.groups, np.concatenate(groups))
    return known


def store_of_manifest(manifest: Manifest) -> PackedStore | None:
    """The packed data of this manifest, if they are still there."""
    for folder in home.packed().glob(f"*-{manifest.fingerprint[:16]}*"):
        if (folder / "manifest.json").is_file() and read_manifest(folder).fingerprint == manifest.fingerprint:
            return PackedStore(folder)
    return None


def keys_of(hashes: NDArray[np.uint8]) -> NDArray[np.void]:
    """Each hash as one item."""
    return np.ascontiguousarray(hashes).view(np.dtype((np.void, hashes.shape[1]))).ravel()
