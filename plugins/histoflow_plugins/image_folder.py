"""Data set ``image_folder``: a folder of one's own, with one sub-folder a class.

::

    patches/adipose/001.png                 patches/train/adipose/001.png
    patches/tumour/17/002.tif       or      patches/val/adipose/…
                                            patches/test/adipose/…
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from histoflow import DataError, Dataset, Facts, Params, Row, Samples, hookimpl, progress, task_of
from histoflow.images import SUFFIXES
from histoflow_plugins._class_folders import Survey, folder_mistakes, place_of, survey
from histoflow_plugins._groups_file import Groups, read_groups
from histoflow_plugins._image_files import FileReader, lines_of, shown, some


class ImageFolderParams(Params):
    path: Path | None = None
    """The folder, which must be given: one sub-folder a class, or train, val and test with those inside."""
    groups: Path | None = None
    """A CSV or Parquet file with the columns path (or only the file's name) and group: the patient, slide or
    photo that an image is of; and perhaps weight, above 0: how often sampler weighted draws an image (1 where
    it is left empty). A relative path is looked for in the working folder, then in the folder of the data."""


def facts(params: ImageFolderParams) -> Facts:
    root = _root(params)
    if not root.exists():
        return Facts(channels=3, groups=params.groups is not None)  # it may be there where the run will be
    found = _sound_survey(params)
    return Facts(
        task=task_of(found.classes),
        classes=found.classes,
        channels=3,
        images=sum(map(len, found.images.values())),
        official_split=bool(found.split_folders),
        groups=params.groups is not None,
        licence="unknown",
    )


def fetch(params: ImageFolderParams, folder: Path) -> Sequence[Path]:
    found = _sound_survey(params)
    groups = _groups_file(params, found.root)
    ignored = [name for name in found.others if found.root / name != groups]
    if ignored:
        progress.say(
            f"{found.root}: {len(ignored)} files are no images of a class and are left out: {some(ignored)}."
        )
    return [*(found.root / name for name in found.names), *([groups] if groups else [])]


def open_(params: ImageFolderParams, files: Sequence[Path]) -> Samples:
    root = _root(params)
    images = [path for path in files if path.name.lower().endswith(SUFFIXES)]
    names = [str(path).removeprefix(f"{root}{os.sep}") for path in images]
    places = [place_of(name) for name in names]
    classes = tuple(sorted({name for _, name in places}))
    numbers = {name: number for number, name in enumerate(classes)}
    groups = _groups(params, root, names)
    _refuse(root, groups.mistakes)
    rows = [
        Row(
            label=numbers[label],
            source=shown(name),
            split=split,
            group=groups.of.get(name),
            weight=groups.weights.get(name, 1.0),
        )
        for name, (split, label) in zip(names, places, strict=True)
    ]
    return Samples(classes=classes, rows=rows, read=FileReader.of(images), files=images)


def _root(params: ImageFolderParams) -> Path:
    if params.path is None:
        raise DataError(
            "The 'path' parameter of data set 'image_folder' must name the folder of the images. "
            "Got nothing. Add, for example, path: data/patches"
        )
    return params.path.expanduser().absolute()


def _groups_file(params: ImageFolderParams, root: Path) -> Path | None:
    if params.groups is None:
        return None
    given = params.groups.expanduser()
    return given.absolute() if given.is_file() else root / given


def _groups(params: ImageFolderParams, root: Path, names: Sequence[str]) -> Groups:
    file = _groups_file(params, root)
    return read_groups(file, names) if file else Groups({})


def _sound_survey(params: ImageFolderParams) -> Survey:
    root = _root(params)
    if not root.is_dir():
        _refuse(root, [f"there is no such folder{' (it is a file)' if root.exists() else ''}"])
    found = survey(root)
    groups = _groups(params, root, found.names if params.groups else ())
    _refuse(root, [*folder_mistakes(found), *groups.mistakes])
    return found


def _refuse(root: Path, mistakes: Sequence[str]) -> None:
    if mistakes:
        raise DataError(
            "\n".join(
                (
                    f"Data set 'image_folder' cannot use {root}:",
                    *lines_of(mistakes),
                    f"Lay images out as {root.name}/CLASS/IMAGE.png or {root.name}/train/CLASS/IMAGE.png, "
                    "or correct 'path' and 'groups'.",
                )
            )
        )


IMAGE_FOLDER = Dataset(
    name="image_folder",
    summary="Your own images, one folder a class; JPEG, PNG, TIFF, BMP, WebP",
    params=ImageFolderParams,
    facts=facts,
    fetch=fetch,
    open=open_,
    located_by=frozenset({"path", "groups"}),
    version=2,
)


@hookimpl
def histoflow_datasets() -> tuple[Dataset[ImageFolderParams]]:
    return (IMAGE_FOLDER,)
