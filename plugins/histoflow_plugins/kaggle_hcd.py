"""Data set ``kaggle_hcd``: Kaggle's Histopathologic Cancer Detection, in the folder as it was unpacked.

::

    train_labels.csv        columns id and label, 0 or 1
    train/<id>.tif          96×96 pixels
    test/                   has no labels, and is left alone

The images are those of PatchCamelyon without their duplicates. The competition tells no slides; a list of
them that a participant made (``patch_id_wsi.csv``) is about, and names only a part of the images.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from histoflow import DataError, Dataset, Facts, Params, Row, Samples, UnreadableImage, hookimpl, progress
from histoflow.images import read_rgb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLASSES = ("normal", "tumour")
LABELS = "train_labels.csv"
SLIDE_COLUMNS = ("wsi", "slide", "group")
CITATION = (
    "Cukierski, W. Histopathologic Cancer Detection. Kaggle (2018). "
    "https://kaggle.com/competitions/histopathologic-cancer-detection. Veeling, B. S. et al. Rotation "
    "equivariant CNNs for digital pathology. MICCAI 2018. https://doi.org/10.1007/978-3-030-00934-2_24"
)
GET_IT = (
    "Accept the rules on https://www.kaggle.com/c/histopathologic-cancer-detection, then:\n"
    "  kaggle competitions download -c histopathologic-cancer-detection\n"
    "  unzip -q histopathologic-cancer-detection.zip -d hcd\n"
    "and set dataset.path to the folder, for example --set dataset.path=hcd"
)
_BLACK, _WHITE = 10, 245
"""Levels below and above which an image shows nothing, not even where a scanner adds some noise."""


class KaggleHcdParams(Params):
    path: Path | None = None
    """The folder, which must be given: it holds train_labels.csv and train."""
    slides: Path | None = None
    """A CSV with the columns id and wsi (or slide, or group): the slide that an image was cut from. A
    relative path is looked for in the working folder, then in the folder of the data."""
    without_slide: Literal["refuse", "leave_out", "own_group"] = "refuse"
    """What becomes of images that slides does not name. own_group makes a group of each, and may set images
    of one slide on two sides."""


# ── The files ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Survey:
    """What the folder holds, and what is wrong with it."""

    labels: Mapping[str, int]
    images: Mapping[str, str]
    """The names of the files that have a label and are wanted, by id."""
    slides: Mapping[str, str]
    left_out: Sequence[str]
    """What is not used, in words."""
    mistakes: Sequence[str]


def survey(params: KaggleHcdParams) -> Survey:
    root = _root(params)
    present = _present(root / "train")
    stated, label_mistakes = _column(root / LABELS, ("label",))
    slides, slide_mistakes = _column(_slides_file(params, root), SLIDE_COLUMNS)
    slides = {name: slide for name, slide in slides.items() if slide}
    unknown = [name for name in stated if name not in slides] if params.slides and not slide_mistakes else []
    if params.without_slide == "own_group":
        slides |= {name: name for name in unknown}
    wanted = stated.keys() - (unknown if params.without_slide == "leave_out" else [])
    return Survey(
        labels={name: int(label == "1") for name, label in stated.items()},
        images={name: present[name] for name in sorted(wanted & present.keys())},
        slides=slides,
        left_out=[*_strangers(root, present, stated), *_fate_of(unknown, params)],
        mistakes=[
            *label_mistakes,
            *_label_mistakes(root, stated, present, known=not label_mistakes),
            *slide_mistakes,
            *_slide_mistakes(unknown, stated, root, params),
        ],
    )


def _root(params: KaggleHcdParams) -> Path:
    if params.path is None:
        raise DataError(
            "The 'path' parameter of data set 'kaggle_hcd' must name the folder with "
            f"{LABELS} and train. Got nothing. {GET_IT}"
        )
    root = params.path.expanduser().absolute()
    lacking = [name for name in (LABELS, "train") if not (root / name).exists()]
    if lacking:
        raise DataError(
            f"The 'path' parameter of data set 'kaggle_hcd' must name the folder with {LABELS} and train. "
            f"{root} {'lacks' if root.is_dir() else 'is no folder, and so lacks'} {' and '.join(lacking)}. "
            f"{GET_IT}"
        )
    return root


def _present(folder: Path) -> dict[str, str]:
    """The names of the image files, by id."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"Cannot list {folder}: {error.strerror}. Make it readable.") from error
    return {name[:-4]: name for name in names if name.lower().endswith(".tif")}


def _slides_file(params: KaggleHcdParams, root: Path) -> Path | None:
    if params.slides is None:
        return None
    given = params.slides.expanduser()
    return given.absolute() if given.is_file() else root / given


# ── The tables ──────────────────────────────────────────────────────────────────────────────────


def _column(file: Path | None, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What the file says of each id in the first of these columns that it has, and what is wrong with it."""
    if file is None:
        return {}, []
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            columns = list(reader.fieldnames or ())
            column = next((name for name in names if name in columns), None)
            if "id" not in columns or column is None:
                wanted = " or ".join(f"'{name}'" for name in names)
                return {}, [f"{file} must have the columns 'id' and {wanted}. Got {_some(columns)}"]
            pairs = [(_plain(row["id"]), (row[column] or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return {}, [f"{file} cannot be read: {error}"]
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    mistakes = [f"{file} must name each id once. It repeats {_some(repeated)}"] if repeated else []
    return dict(pairs), mistakes


def _plain(name: str | None) -> str:
    """An id without the ending that some lists give it."""
    return (name or "").strip().removesuffix(".tif")


def _label_mistakes(
    root: Path, stated: Mapping[str, str], present: Mapping[str, str], *, known: bool
) -> Iterator[str]:
    """Known tells whether nothing stated means that there is nothing, and not that it cannot be read."""
    strange = [f"{name}: {label}" for name, label in stated.items() if label not in ("0", "1")]
    if strange:
        yield f"each label in {root / LABELS} must be 0 or 1. Got {_some(strange)}"
    missing = [f"{name}.tif" for name in stated if name not in present]
    if missing:
        yield f"{root / 'train'} lacks {len(missing)} of {len(stated)} images with a label: {_some(missing)}"
    if known and not stated:
        yield f"{root / LABELS} has no labels"


def _slide_mistakes(
    unknown: Sequence[str], stated: Mapping[str, str], root: Path, params: KaggleHcdParams
) -> Iterator[str]:
    if unknown and params.without_slide == "refuse":
        yield (
            f"{params.slides} names no slide for {len(unknown)} images: {_some(unknown)}. Complete it, "
            f"or set 'without_slide' to leave_out or own_group"
        )
    if unknown and params.without_slide == "leave_out" and len(unknown) == len(stated):
        yield (
            f"{_slides_file(params, root)} names none of the {len(stated)} images of {root / LABELS}, "
            f"such as {_some(unknown[:1])}, so leaving out those without a slide leaves nothing. "
            f"Give the list of these images, or set 'without_slide' to own_group"
        )


def _strangers(root: Path, present: Mapping[str, str], stated: Mapping[str, str]) -> Iterator[str]:
    strangers = [file for name, file in present.items() if name not in stated]
    if strangers:
        yield (
            f"{root / 'train'}: {len(strangers)} images have no label in {LABELS} and are left out: "
            f"{_some(strangers)}"
        )


def _fate_of(unknown: Sequence[str], params: KaggleHcdParams) -> Iterator[str]:
    if unknown and params.without_slide != "refuse":
        fate = "left out" if params.without_slide == "leave_out" else "each a group of its own"
        yield f"{params.slides} names no slide for {len(unknown)} images, which are {fate}: {_some(unknown)}"


def _some(names: Iterable[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    more = f" and {len(quoted) - 5} more" if len(quoted) > 5 else ""
    return ", ".join(quoted[:5]) + more or "nothing"


# ── The data set ────────────────────────────────────────────────────────────────────────────────


def facts(params: KaggleHcdParams) -> Facts:
    if params.path is not None and params.path.expanduser().exists():
        _root(params)  # otherwise it may be there where the run will be
    return Facts(
        task="binary",
        classes=CLASSES,
        channels=3,
        size=(96, 96),
        groups=params.slides is not None,
        licence="CC0 1.0 (PatchCamelyon); the rules of the competition hold for Kaggle's files",
        citation=CITATION,
    )


def fetch(params: KaggleHcdParams, folder: Path) -> Sequence[Path]:
    found = _sound(params)
    for line in found.left_out:
        progress.say(f"{line}.")
    root = _root(params)
    slides = _slides_file(params, root)
    images = [root / "train" / name for name in found.images.values()]
    return [root / LABELS, *([slides] if slides else []), *images]


def _sound(params: KaggleHcdParams) -> Survey:
    found = survey(params)
    if found.mistakes:
        raise DataError(
            f"Data set 'kaggle_hcd' cannot use {_root(params)}:\n"
            + "\n".join(f"  {mistake}." for mistake in found.mistakes)
            + "\nCorrect the files or 'path', or bring the set anew."
        )
    return found


def open_(params: KaggleHcdParams, files: Sequence[Path]) -> Samples:
    found = _sound(params)
    images = [path for path in files if path.name.lower().endswith(".tif")]
    return Samples(
        classes=CLASSES,
        rows=[
            Row(label=found.labels[name[:-4]], source=f"train/{name}", group=found.slides.get(name[:-4]))
            for name in (path.name for path in images)
        ],
        read=Reader(tuple(images)),
        files=images,
    )


@dataclass(frozen=True)
class Reader:
    files: tuple[Path, ...]

    def __call__(self, row: int) -> NDArray[np.uint8]:
        image = read_rgb(self.files[row])
        _refuse_empty(image)
        return image


def _refuse_empty(image: NDArray[np.uint8]) -> None:
    """A few files of the set are all black or all white, and yet have labels."""
    darkest, brightest = image.min(), image.max()
    if brightest <= _BLACK:
        raise UnreadableImage("it is black all over: it shows no tissue")
    if darkest >= _WHITE:
        raise UnreadableImage("it is white all over: it shows no tissue")
    if (image == image[0, 0]).all():
        raise UnreadableImage("all its pixels have one colour: it shows no tissue")


KAGGLE_HCD = Dataset(
    name="kaggle_hcd",
    summary="Kaggle's Histopathologic Cancer Detection: PatchCamelyon without duplicates, from your folder",
    params=KaggleHcdParams,
    facts=facts,
    fetch=fetch,
    open=open_,
    located_by=frozenset({"path", "slides"}),
)


@hookimpl
def histoflow_datasets() -> tuple[Dataset[KaggleHcdParams]]:
    return (KAGGLE_HCD,)
