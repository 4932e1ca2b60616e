"""What lies in a folder of class folders, and what is wrong with it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from histoflow import SPLITS, SplitName
from histoflow.images import SUFFIXES
from histoflow_plugins._image_files import SPLIT_NAMES, shown, some


@dataclass(frozen=True)
class Survey:
    """All names are relative to the root, with ``/`` between folders."""

    root: Path
    tops: tuple[str, ...]
    """The folders at the top: classes or splits."""
    images: Mapping[tuple[SplitName | None, str], Sequence[str]]
    """The images of each class, within each split where there are splits."""
    others: tuple[str, ...]
    """Files that are no images, and images outside the class folders."""
    obstacles: tuple[str, ...]
    """Why some of what is there could not be looked at."""

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({shown(name) for _, name in self.images}))

    @property
    def names(self) -> list[str]:
        """Of all images, folder by folder."""
        return sorted((name for images in self.images.values() for name in images), key=_parts)

    @property
    def split_folders(self) -> list[str]:
        return [name for name in self.tops if name.lower() in SPLIT_NAMES]


def _parts(name: str) -> list[str]:
    return name.split("/")


def place_of(name: str) -> tuple[SplitName | None, str]:
    """The split and the class that an image's name tells."""
    first, second = name.split("/")[:2]
    split = SPLIT_NAMES.get(first.lower())
    return split, shown(second if split else first)


# ── Looking ─────────────────────────────────────────────────────────────────────────────────────


def survey(root: Path) -> Survey:
    look = _Look(str(root))
    tops, others = look.listing("")
    splits = [top for top in tops if top.lower() in SPLIT_NAMES]
    images: dict[tuple[SplitName | None, str], list[str]] = defaultdict(list)
    for folder in splits or [""]:
        classes, loose = look.listing(f"{folder}/") if splits else (tops, [])
        others += [f"{folder}/{name}" for name in loose]
        for one in classes:
            found = images[SPLIT_NAMES.get(folder.lower()), one]
            for name in look.files_under(f"{folder}/{one}/" if splits else f"{one}/"):
                (found if name.lower().endswith(SUFFIXES) else others).append(name)
    return Survey(root, tuple(tops), images, tuple(others), tuple(look.obstacles))


@dataclass
class _Look:
    """One walk over the folders. Links to folders are followed, and no folder is entered twice."""

    root: str
    obstacles: list[str] = field(default_factory=list)
    _met: dict[tuple[int, int], str] = field(default_factory=dict)

    def listing(self, folder: str) -> tuple[list[str], list[str]]:
        """The folders and the files in it, less hidden ones; its name ends in ``/`` or is empty."""
        folders: list[str] = []
        files: list[str] = []
        try:
            if self._is_new(folder):
                with os.scandir(os.path.join(self.root, folder)) as entries:  # noqa: PTH118
                    for entry in entries:
                        if not _is_hidden(entry.name):
                            self._sort_in(entry, folder, folders, files)
        except OSError as error:
            self.obstacles.append(f"{_told(folder)} cannot be listed ({error.strerror}): make it readable")
        return sorted(folders), sorted(files)

    def files_under(self, folder: str) -> Iterator[str]:
        folders, files = self.listing(folder)
        yield from (folder + name for name in files)
        for name in folders:
            yield from self.files_under(f"{folder}{name}/")

    def _is_new(self, folder: str) -> bool:
        """Also links that lead round in a circle meet a folder for the second time."""
        facts = Path(self.root, folder).stat()
        identity = (facts.st_dev, facts.st_ino)
        if identity in self._met:
            former = _told(self._met[identity])
            self.obstacles.append(f"{_told(folder)} is the same folder as {former}: take the link away")
            return False
        self._met[identity] = folder
        return True

    def _sort_in(self, entry: os.DirEntry[str], folder: str, folders: list[str], files: list[str]) -> None:
        kind = _kind(entry)
        if kind == "folder":
            folders.append(entry.name)
        elif kind == "file":
            files.append(entry.name)
        else:
            self.obstacles.append(f"{_told(folder + entry.name)} is {kind}: take it away")


def _told(name: str) -> str:
    return f"'{shown(name).rstrip('/') or '.'}'"


def _kind(entry: os.DirEntry[str]) -> str:
    """Only what is a file is read: a pipe, for one, would be waited for."""
    try:
        known = "folder" if entry.is_dir() else "file" if entry.is_file() else None
    except OSError:  # links that lead to each other
        known = None
    return known or ("a link that leads nowhere" if entry.is_symlink() else "neither a file nor a folder")


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


# ── Judging ─────────────────────────────────────────────────────────────────────────────────────


def folder_mistakes(found: Survey) -> Iterator[str]:
    """All that is wrong with the folder, each with the names concerned."""
    yield from found.obstacles
    if not found.images:
        if not found.obstacles:
            within = f" in {', '.join(found.split_folders)}" if found.split_folders else ""
            yield f"there is no class folder{within}"
        return
    yield from _split_mistakes(found)
    if len(found.classes) == 1:
        yield f"there must be two classes or more. Got only '{found.classes[0]}'"
    for (split, name), images in found.images.items():
        if not images:
            where = f" of {split}" if split else ""
            yield f"class '{shown(name)}'{where} has no images ({', '.join(SUFFIXES)})"


def _split_mistakes(found: Survey) -> Iterator[str]:
    if not found.split_folders:
        return
    strangers = [name for name in found.tops if name not in found.split_folders]
    if strangers:
        yield f"beside {', '.join(found.split_folders)} there may be no other folder. Got {some(strangers)}"
    names = sorted({name for _, name in found.images})
    for split in SPLITS:
        folders = [name for name in found.split_folders if SPLIT_NAMES[name.lower()] == split]
        if len(folders) > 1:
            yield f"only one folder may hold the split {split}. Got {', '.join(folders)}"
        if not folders and split == "train":
            yield f"beside {', '.join(found.split_folders)} there must be a folder train"
        lacking = [name for name in names if (split, name) not in found.images]
        if folders and lacking:
            yield f"all splits must have the same class folders. '{folders[0]}' lacks {some(lacking)}"
