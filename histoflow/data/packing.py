"""Builds the packed store: every image read, preprocessed, dealt to a split and laid down, once.

First all images are decoded into chunks and dealt out (preparing.py), by several processes, in the order of
the rows. Then, when what is known of them lies in one table, they are audited and laid down (assembling.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from histoflow import files, progress
from histoflow.components import Facts, Samples
from histoflow.data.assembling import Assembly
from histoflow.data.contradictions import refuse_contradictions
from histoflow.data.decoding import Decoder, Image
from histoflow.data.preparing import prepare
from histoflow.data.recipe import Recipe
from histoflow.data.splitting import Splitter
from histoflow.errors import DataError, StorageError

__all__ = ["Recipe", "pack"]


def pack(
    recipe: Recipe,
    facts: Facts,
    open_samples: Callable[[], Samples],
    steps: Sequence[Callable[[Image], Image]],
    home: Path,
    *,
    policies: Mapping[str, str] | None = None,
    may_decline: Mapping[int, str] | None = None,
    refuse_changed: Callable[[], None] = lambda: None,
    processes: int | None = None,
) -> Path:
    """The folder of the packed store of this recipe; built now unless it is there already.

    ``policies`` say what is done about each finding of the audit. ``may_decline`` names the steps, by their
    places, that give an image back as it is where they can do nothing. ``refuse_changed`` is
    called when all files have been read, and raises DataError if they are no longer those of the recipe.
    ``processes`` decode; None takes as many as there are cores, where that pays.
    """
    folder = home / recipe.folder_name
    if (folder / "manifest.json").is_file():
        progress.say(f"Packed data are there already: {folder}")
        folder.touch()  # as good as new to whoever clears away what is old
        return folder
    between = home / f".{recipe.decoded_name}.decoded"
    with (
        _only_one_builds(folder),
        _only_one_builds(home / recipe.decoded_name),
        _telling_what_is_kept(between),
    ):
        if not (folder / "manifest.json").is_file():
            files.remove_unfinished(folder)
            shutil.rmtree(folder, ignore_errors=True)  # someone took its manifest away
            samples = open_samples()
            refuse_contradictions(facts, samples)
            splitter = Splitter(samples, recipe.split)
            splitter.refuse_early()
            decoder = _decoder(samples, steps, facts, splitter, sorted(may_decline or {}))
            assembly = Assembly(
                recipe=recipe,
                facts=facts,
                samples=samples,
                splitter=splitter,
                decoded=prepare(decoder, samples, between, processes),
                policies=policies or {},
                may_decline=may_decline or {},
            )
            with files.atomic_folder(folder) as temporary:
                manifest = assembly.lay_down(temporary)
                _hold_files_to(refuse_changed, between)
                files.write_json(temporary / "manifest.json", manifest.model_dump(mode="json"))
            shutil.rmtree(between)
    return folder


def _decoder(
    samples: Samples,
    steps: Sequence[Callable[[Image], Image]],
    facts: Facts,
    splitter: Splitter,
    may_decline: Sequence[int],
) -> Decoder:
    return Decoder(
        read=samples.read,
        steps=steps,
        facts=facts,
        deal=splitter.deal,
        keyed=splitter.by_pixels,
        may_decline=may_decline,
    )


@contextmanager
def _telling_what_is_kept(between: Path) -> Iterator[None]:
    """Where a disk is full, whoever needs the room must know what of it is taken for the next try."""
    try:
        yield
    except StorageError as error:
        kept = files.folder_size(between) if between.is_dir() else 0
        if not kept:
            raise
        raise StorageError(
            f"{error} What was decoded is kept for that: {files.in_units(kept)} in {between}. "
            f"To give it up instead: histoflow gc --young --remove, two minutes from now."
        ) from error


def _hold_files_to(refuse_changed: Callable[[], None], between: Path) -> None:
    try:
        refuse_changed()
    except DataError:
        shutil.rmtree(between)  # what was decoded need not be what the recipe's digest is of
        raise


@contextmanager
def _only_one_builds(folder: Path) -> Iterator[None]:
    """Hold the store's lock; say so when another process has it, then wait."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.say("Another process is packing the same data; waiting for it to finish.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
