"""Whether two evaluated runs can be compared: what they kept is whole, and of the same test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoflow.components import Task, task_of
from histoflow.data.store import Manifest, read_manifest
from histoflow.errors import DataError, HistoflowError, RunError
from histoflow.evaluation import predictions
from histoflow.evaluation.scores import checked_split
from histoflow.runs import Run, RunRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.evaluation.predictions import Predictions

_SAME_TEST = ("labels.npy", "hashes.npy")
"""Files of a packed test split; where they are the same, so are all its images and their order."""


@dataclass(frozen=True)
class Evaluated:
    """A run, its predictions and what else tells whether they can be compared."""

    run: Run
    record: RunRecord
    metrics: Mapping[str, Any]
    kept: Predictions
    manifest: Manifest | None
    """Of its packed data; None if they are gone."""

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.metrics["classes"])

    @property
    def task(self) -> Task:
        return "multilabel" if self.kept.labels.ndim == 2 else task_of(self.classes)


def both(run_a: Run, run_b: Run) -> tuple[Evaluated, Evaluated]:
    """Or what is the matter with them, of both at once."""
    found, problems = [], []
    for run in (run_a, run_b):
        try:
            found.append(_read(run))
        except HistoflowError as error:
            problems.append(str(error))
    if problems:
        told = "\n".join(f"  {problem}" for problem in dict.fromkeys(problems))
        raise RunError(f"Runs {run_a.id} and {run_b.id} cannot be compared:\n{told}")
    return found[0], found[1]


def _read(run: Run) -> Evaluated:
    record, metrics = run.read(), run.metrics()
    if metrics is None:
        raise RunError(f"Run {run.id} has not been evaluated. Do that first: histoflow evaluate {run.id}")
    missing = {"classes", "epoch", "model", "images"} - metrics.keys()
    if missing:
        lacking = ", ".join(sorted(missing))
        raise RunError(
            f"metrics.json of run {run.id} lacks {lacking}. Evaluate it: histoflow evaluate {run.id}"
        )
    kept = predictions.load(run.folder, model=metrics["model"])
    try:
        checked_split(kept.probabilities, kept.labels)
        _fit(kept, metrics)
    except DataError as error:
        raise DataError(
            f"The predictions of run {run.id} are damaged: {error} "
            f"Evaluate it again: histoflow evaluate {run.id}"
        ) from error
    return Evaluated(run, record, metrics, kept, _manifest(run, record))


def _fit(kept: Predictions, metrics: Mapping[str, Any]) -> None:
    """Predictions and figures must be of the same images and classes."""
    expected = (metrics["images"], len(metrics["classes"]))
    if kept.probabilities.shape != expected:
        raise DataError(
            f"They must be of {expected[0]} images × {expected[1]} classes, as metrics.json says. "
            f"Got {' × '.join(map(str, kept.probabilities.shape))}."
        )


def _manifest(run: Run, record: RunRecord) -> Manifest | None:
    """What is known of the packed data without opening any split; a version of a model has its own."""
    places = [run.folder, *([Path(record.packed)] if record.packed else [])]
    folder = next((place for place in places if (place / "manifest.json").is_file()), None)
    if folder is None:
        return None
    manifest = read_manifest(folder)
    return manifest if manifest.fingerprint == record.data_fingerprint else None


# ── Whether they are of the same images ─────────────────────────────────────────────────────────


def refuse_other_images(a: Evaluated, b: Evaluated) -> str:
    """Returns what must be said of images that are the same and yet were packed in another way."""
    problems = _other_answers(a, b)
    note = ""
    if not problems and not _same_pixels(a, b):
        if _only_preprocessed_otherwise(a, b):
            note = "The same images, by their names, were preprocessed in two ways."
        else:
            problems.append(_other_images(a, b))
    if problems:
        told = "\n".join(f"  {problem}" for problem in problems)
        raise RunError(
            f"Runs {a.id} (A) and {b.id} (B) cannot be compared, as they were not evaluated on the same test "
            f"images:\n{told}\nTrain and evaluate both on the same data and the same split."
        )
    return note


def _other_answers(a: Evaluated, b: Evaluated) -> list[str]:
    """How classes, labels and groups differ."""
    if a.classes != b.classes:
        return [f"The classes of A are {', '.join(a.classes)}; those of B are {', '.join(b.classes)}."]
    mine, theirs = a.kept.labels, b.kept.labels
    if mine.shape != theirs.shape:
        return [f"Labels of A are {_shape(mine)}; those of B are {_shape(theirs)}."]
    problems = []
    other = (mine != theirs) if mine.ndim == 1 else (mine != theirs).any(axis=1)
    if other.any():
        problems.append(
            f"Labels of {other.sum():,} of {len(other):,} images differ; the first is {_at(a, other)}."
        )
    groups_a, groups_b = a.kept.groups, b.kept.groups
    if groups_a is not None and groups_b is not None and (groups_a != groups_b).any():
        regrouped = groups_a != groups_b
        problems.append(
            f"{regrouped.sum():,} of {len(regrouped):,} images are of other patients or slides; "
            f"the first is {_at(a, regrouped)}."
        )
    return problems


def _shape(labels: NDArray[Any]) -> str:
    kind = "one class each" if labels.ndim == 1 else f"any of {labels.shape[1]} classes each"
    return f"of {len(labels):,} images with {kind}"


def _at(one: Evaluated, marked: NDArray[Any]) -> str:
    place = int(marked.argmax())
    return f"image {place}" + (f", {one.kept.sources[place]}" if one.kept.sources is not None else "")


def _same_pixels(a: Evaluated, b: Evaluated) -> bool:
    if a.record.data_fingerprint == b.record.data_fingerprint:
        return True
    files = [_test_files(one) for one in (a, b)]
    return None not in files[0] and files[0] == files[1]


def _test_files(one: Evaluated) -> list[str | None]:
    known = one.manifest.splits["test"].files if one.manifest else {}
    return [known.get(name) for name in _SAME_TEST]


def _only_preprocessed_otherwise(a: Evaluated, b: Evaluated) -> bool:
    """Names tell images only within one data set, dealt out in one way."""
    if a.manifest is None or b.manifest is None or a.kept.sources is None or b.kept.sources is None:
        return False
    same = (a.manifest.dataset, a.manifest.split) == (b.manifest.dataset, b.manifest.split)
    return (
        same
        and a.manifest.preprocess != b.manifest.preprocess
        and bool((a.kept.sources == b.kept.sources).all())
    )


def _other_images(a: Evaluated, b: Evaluated) -> str:
    gone = [one.id for one in (a, b) if one.manifest is None]
    prints = f"Their data fingerprints are {_print(a)} and {_print(b)}"
    if gone:
        return f"{prints}, and the packed data of {' and '.join(gone)} are gone, which would tell more."
    return f"{prints}, and the images of the packed test splits differ."


def _print(one: Evaluated) -> str:
    return str(one.record.data_fingerprint)[:16]


def note_on_groups(a: Evaluated, b: Evaluated) -> str:
    if not any(one.manifest and one.manifest.splits["test"].groups for one in (a, b)):
        return ""
    return (
        "Images of one patient or slide are alike, but these evaluations did not keep which those are: "
        "single images were drawn, and the intervals are too narrow. Evaluate one of the runs again, and "
        "compare anew."
    )
