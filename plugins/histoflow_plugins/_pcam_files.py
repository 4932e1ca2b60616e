"""The files of PatchCamelyon: what was published, how to bring it, and which file is which.

The checksums that its authors first printed had validation and test exchanged. What people since measured
of the downloads agrees with the checksums below, and the authors called their list a slip (issues 1 and 4
of github.com/basveeling/pcam); but lists and copies of both kinds are about. So the MD5 decides here, not
the name: what was published as ``test_x`` is taken for the images of the test split under whichever of the
two names it comes, and a file that is neither is refused. Whether the authors meant the two the other way
round cannot be told from the files; taken like this, scores compare with those of others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from histoflow import SPLITS, DataError, SplitName, progress
from histoflow.download import download, download_gzipped, unpack

Part = Literal["x.h5", "y.h5", "meta.csv"]
"""Images, labels, and the slide of each image."""
Place = tuple[SplitName, Part]
"""What a file of the data set is."""
OFFICIAL = "https://zenodo.org/records/2546921/files/{}?download=1"


class Published(NamedTuple):
    md5: str
    gzip_md5: str = ""
    """Of the gzip file in which it travels, where it does."""


PUBLISHED: Mapping[Place, Published] = {
    ("train", "x.h5"): Published("01844da899645b4d6f84946d417ba453", "1571f514728f59376b705fc836ff4b63"),
    ("train", "y.h5"): Published("0781386bf6c2fb62d58ff18891466aca", "35c2d7259d906cfc8143347bb8e05be7"),
    ("train", "meta.csv"): Published("5a3dd671e465cfd74b5b822125e65b0a"),
    ("val", "x.h5"): Published("81cf9680f1724c40673f10dc88e909b1", "d5b63470df7cfa627aeec8b9dc0c066e"),
    ("val", "y.h5"): Published("94d8aacc249253159ce2a2e78a86e658", "2b85f58b927af9964a4c15b8f7e8f179"),
    ("val", "meta.csv"): Published("67589e00a4a37ec317f2d1932c7502ca"),
    ("test", "x.h5"): Published("2614b2e6717d6356be141d9d6dbfcb7e", "d8c2d60d490dbd479f8199bdfa0cf6ec"),
    ("test", "y.h5"): Published("11ed647efe9fe457a4eb45df1dba19ba", "60a7035772fbdb7f34eb86d4420cf66a"),
    ("test", "meta.csv"): Published("3455fd69135b66734e1008f3af684566"),
}
PARTS: tuple[Part, ...] = ("x.h5", "y.h5", "meta.csv")
_OFFICIAL_NAMES: Mapping[SplitName, str] = {"train": "train", "val": "valid", "test": "test"}
_EXCHANGED: Mapping[SplitName, SplitName] = {"train": "train", "val": "test", "test": "val"}


def file_name(split: SplitName, part: Part) -> str:
    return f"camelyonpatch_level_2_split_{_OFFICIAL_NAMES[split]}_{part}"


# ── From the network ────────────────────────────────────────────────────────────────────────────


def from_network(mirrors: Sequence[str], folder: Path) -> list[Path]:
    """All nine files: for each split images, labels and slides."""
    bases = [f"{mirror.rstrip('/')}/{{}}" for mirror in mirrors] + [OFFICIAL]
    return [_brought(split, part, bases, folder) for split in SPLITS for part in PARTS]


def _brought(split: SplitName, part: Part, bases: Sequence[str], folder: Path) -> Path:
    published, target = PUBLISHED[split, part], folder / file_name(split, part)
    ending = ".gz" if published.gzip_md5 else ""
    # A server that exchanged validation and test has the file under the other name, which is tried last.
    names = dict.fromkeys(f"{file_name(which, part)}{ending}" for which in (split, _EXCHANGED[split]))
    urls = [base.format(name) for name in names for base in bases]
    if published.gzip_md5:
        return download_gzipped(urls, target, md5=published.gzip_md5, unpacked_md5=published.md5)
    return download(urls, target, md5=published.md5)


# ── From a folder ───────────────────────────────────────────────────────────────────────────────


def from_folder(path: Path, scratch: Path) -> list[Path]:
    """For each split images and labels, and slides where all splits have them.

    Gzip files are unpacked into ``scratch``, once for each content.
    """
    found = _found(path)
    files = {place: _unpacked(file, scratch) for place, file in found.items()}
    _put_right(files)
    return [files[split, part] for split in SPLITS for part in PARTS if (split, part) in files]


def slides_missing(path: Path) -> list[str]:
    """The names of the files of slides that the folder lacks."""
    names = [file_name(split, "meta.csv") for split in SPLITS]
    return [name for name in names if not (path / name).is_file()]


def images_and_labels(path: Path) -> dict[Place, Path]:
    """The files that a folder must have. Raises DataError where it lacks some."""
    wanted: list[Place] = [(split, part) for split in SPLITS for part in PARTS[:2]]
    found = {place: _plain_or_gzipped(path / file_name(*place)) for place in wanted}
    missing = [file_name(*place) for place, file in found.items() if file is None]
    if missing:
        raise DataError(
            f"The 'path' parameter of data set 'pcam' must name the folder of its files, each as .h5 or "
            f".h5.gz. {path} {'lacks' if path.is_dir() else 'is no folder, and so lacks'} "
            f"{', '.join(missing)}. Correct the path, or leave it out to download."
        )
    return {place: file for place, file in found.items() if file is not None}


def _found(path: Path) -> dict[Place, Path]:
    found = images_and_labels(path)
    lacking = slides_missing(path)
    if lacking:
        progress.say(f"{path} lacks {', '.join(lacking)}: the slide of each image is not known.")
    slides = {} if lacking else {(split, PARTS[2]): path / file_name(split, PARTS[2]) for split in SPLITS}
    return found | slides


def _plain_or_gzipped(file: Path) -> Path | None:
    packed = file.with_name(f"{file.name}.gz")
    return file if file.is_file() else packed if packed.is_file() else None


def _unpacked(file: Path, scratch: Path) -> Path:
    if file.suffix != ".gz":
        return file
    return unpack(file, scratch / "unpacked" / _md5(file) / file.stem)


def _put_right(files: dict[Place, Path]) -> None:
    """Exchange validation and test where their content says that they are exchanged; tell what is foreign."""
    published = _published(files)
    mistakes: list[str] = []
    for part in PARTS:
        if ("val", part) not in files:
            continue
        val, test = files["val", part], files["test", part]
        if (published["val", part], published["test", part]) == ("test", "val"):
            files["val", part], files["test", part] = test, val
            progress.say(
                f"{val.name} and {test.name} are exchanged: by its MD5 each is what was published under the "
                f"name of the other, and as that it is used."
            )
        else:
            mistakes += _misnamed(val, "val", published["val", part], part)
            mistakes += _misnamed(test, "test", published["test", part], part)
        mistakes += _misnamed(files["train", part], "train", published["train", part], part)
    if mistakes:
        raise DataError(
            "Data set 'pcam' would have the images of one split in another:\n"
            + "\n".join(f"  {mistake}." for mistake in mistakes)
            + "\nBring the published files, each under its own name."
        )
    _tell_foreign([files[place].name for place, split in published.items() if split is None])


def _published(files: Mapping[Place, Path]) -> dict[Place, SplitName | None]:
    """As what each file was published, by its MD5; None where it was not."""
    found = {}
    with progress.track("Comparing checksums", total=len(files), unit="files") as advance:
        for (split, part), file in files.items():
            found[split, part] = _published_as(file, part)
            advance()
    return found


def _tell_foreign(names: Sequence[str]) -> None:
    if names:
        progress.say(
            f"By MD5 not the published files of PatchCamelyon: {', '.join(names)}. "
            f"They are used as they are; scores need not compare with those of others."
        )


def _misnamed(file: Path, split: SplitName, published: SplitName | None, part: Part) -> Iterator[str]:
    if published not in (None, split):
        yield f"{file} is, by its MD5, what was published as {file_name(published, part)}"


def _published_as(file: Path, part: Part) -> SplitName | None:
    got = _md5(file)
    return next((split for split in SPLITS if PUBLISHED[split, part].md5 == got), None)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
