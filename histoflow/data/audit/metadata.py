"""Whether a file gives its label away: its size, its format, its JPEG quality, or the size of its image.

Such a thing comes from how images were collected, not from tissue: one class scanned elsewhere, or saved
by another program. A network may find it in the pixels as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SPLITS, SplitName
from histoflow.data.audit.answer import Answer
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding, Severity
from histoflow.data.audit.statistics import Codes, Estimate, auc, codes_of

WARNED, WARNED_OF_BYTES, SURELY = 0.75, 0.9, 0.65
"""The AUC that is warned of, where its interval lies above the last figure; a file's size follows from what
the image shows as well, as tissue takes more room than air."""
_NOTED, _LIKELY = 0.6, 0.55
_FEWEST = 10

Floats = NDArray[np.float64]
_WORDS = {
    "bytes": "file size",
    "quality": "JPEG quality",
    "format": "file format",
    "width": "image width",
    "height": "image height",
    "aspect": "aspect ratio",
}


@dataclass(frozen=True)
class _Tell:
    """How well one thing about files tells one class from the others."""

    what: str
    label: str
    more: bool
    """Whether images of the class have more of it than others."""
    auc: Estimate
    split: SplitName
    """That was scored."""


def check(examined: Examined) -> Iterator[Answer]:
    """Each thing ranks images of each class against the others; which way, train says, and val is scored."""
    known = _known(examined)
    if not known:
        yield _answer("ok", "The images have no files of their own that could give labels away.", [])
        return
    groups = codes_of(examined.groups, len(examined.splits))
    tells = [
        tell
        for what, values in known.items()
        for place, label in enumerate(examined.classes)
        if (tell := _tell(what, label, values, _shown(examined, place), examined.splits, groups))
    ]
    yield _told(sorted(tells, key=lambda tell: -tell.auc.value), list(known))


def _known(examined: Examined) -> dict[str, Floats]:
    """What is known of files, and not the same of all of them."""
    known = {name: np.asarray(values, np.float64) for name, values in examined.files.items()}
    if "width" in known and "height" in known:
        known["aspect"] = known["width"] / known["height"]
    if "quality" in known:
        known |= _format(known["quality"], known.get("bytes"))
    return {name: known[name] for name in _WORDS if name in known and len(known[name]) > 0}


def _format(quality: Floats, size: Floats | None) -> dict[str, Floats]:
    """Whether each file is a JPEG, for only those have a quality; nothing where all are alike."""
    jpeg = np.isfinite(quality)
    read = np.full(len(jpeg), True) if size is None else np.isfinite(size)
    if len(np.unique(jpeg[read])) < 2:
        return {}
    return {"format": np.where(read, jpeg.astype(np.float64), np.nan)}


def _shown(examined: Examined, place: int) -> NDArray[np.bool_]:
    labels = examined.labels
    shown: NDArray[np.bool_] = labels[:, place] > 0 if labels.ndim == 2 else labels == place
    return shown


def _tell(
    what: str, label: str, values: Floats, shown: NDArray[np.bool_], splits: NDArray[np.int8], groups: Codes
) -> _Tell | None:
    known = np.isfinite(values)
    train, val = (np.flatnonzero(known & (splits == SPLITS.index(name))) for name in ("train", "val"))
    split: SplitName = "val" if _enough(shown[val]) else "train"
    judged = val if split == "val" else train
    if not (_enough(shown[train]) and _enough(shown[judged])):
        return None
    way = auc(values[train], shown[train], groups[train])
    more = way is not None and way.value >= 0.5
    found = auc(values[judged] if more else -values[judged], shown[judged], groups[judged])
    return _Tell(what, label, more, found, split) if found else None


def _enough(shown: NDArray[np.bool_]) -> bool:
    return min(int(shown.sum()), int((~shown).sum())) >= _FEWEST


# ── In words ────────────────────────────────────────────────────────────────────────────────────


def _told(tells: list[_Tell], known: list[str]) -> Answer:
    strong = [tell for tell in tells if tell.auc.value >= _limit(tell) and tell.auc.surely_above(SURELY)]
    noted = [tell for tell in tells if _is_hint(tell)]
    if strong:
        return _answer(
            "warning",
            f"{_lines(strong)}. A network may learn this rather than the tissue: save all images in one way, "
            f"and ask how the classes were collected.",
            tells,
        )
    if noted:
        return _answer("note", f"{_lines(noted)}. {_reservation(noted)}", tells)
    asked = ", ".join(_WORDS[what] for what in known)
    return _answer("ok", f"Files do not give labels away (asked: {asked}).", tells)


def _is_hint(tell: _Tell) -> bool:
    if tell.auc.low is None:
        return tell.auc.value >= _limit(tell)
    return tell.auc.value >= _NOTED and tell.auc.surely_above(_LIKELY)


def _limit(tell: _Tell) -> float:
    return WARNED_OF_BYTES if tell.what == "bytes" else WARNED


def _reservation(tells: list[_Tell]) -> str:
    unsure = [tell for tell in tells if tell.auc.low is None]
    if unsure:
        split = unsure[0].split
        return (
            f"Where no interval is given, {split}, or a class in it, is of one group, "
            "so nothing can be said of chance."
        )
    if all(tell.what == "bytes" for tell in tells):
        return "Size follows from how much detail an image shows as well, which may be all there is to it."
    return "That is no more than a hint."


def _lines(tells: list[_Tell]) -> str:
    told = "; ".join(_line(tell) for tell in tells[:3])
    return f"{told}; and {len(tells) - 3} more" if len(tells) > 3 else told


def _line(tell: _Tell) -> str:
    sides = ("not JPEG", "JPEG") if tell.what == "format" else ("low", "high")
    side = sides[tell.more]
    what = _WORDS[tell.what]
    return f"{what[0].upper()}{what[1:]} tells '{tell.label}' ({side}) from the others, AUC {tell.auc}"


def _answer(severity: Severity, message: str, tells: list[_Tell]) -> Answer:
    figures: list[dict[str, Any]] = [
        {"what": _WORDS[tell.what], "class": tell.label, "high": tell.more, "auc": tell.auc.to_data()}
        for tell in tells[:20]
    ]
    return Answer(
        Finding(
            check="metadata_predicts_label",
            message=message,
            severity=severity,
            setting="metadata",
            figures={"tells": figures} if figures else {},
        )
    )
