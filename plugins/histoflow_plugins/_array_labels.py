"""Labels, groups, splits and weights as arrays give them, made what rows of a data set have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histoflow import DataError, SplitName
from histoflow_plugins._class_names import numbered
from histoflow_plugins._image_files import SPLIT_NAMES, few, some

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Labels:
    classes: tuple[str, ...]
    of: Sequence[int | tuple[int, ...]]
    multilabel: bool = False


def column(array: NDArray[Any]) -> NDArray[Any]:
    """N×1 and N×1×1×1 as N, N×K×1 as N×K."""
    while array.ndim > 1 and array.shape[-1] == 1:
        array = array[..., 0]
    return array


def labels_of(
    arrays: Sequence[NDArray[Any]], names: Sequence[str], classes: Sequence[str], multilabel: bool | None
) -> Labels:
    """The labels of all arrays one after the other; names are those of the rows. Raises DataError."""
    import numpy as np

    found = [column(array) for array in arrays]
    forms = {(array.ndim, array.dtype.kind in "US", *array.shape[1:]) for array in found}
    if len(forms) > 1 or found[0].ndim > 2:
        shapes = few(f"{'×'.join(map(str, array.shape))} {array.dtype}" for array in found)
        raise DataError(f"labels must be N, or N×K of 0 and 1, alike in all splits. Got {shapes}")
    together = np.concatenate(found)
    if together.ndim == 2:
        return _of_table(together, names, classes, multilabel)
    if multilabel:
        raise DataError("with multilabel: true, labels must be N×K of 0 and 1. Got one label an image")
    if together.dtype.kind in "US":
        return _of_texts(texts(together), names, classes)
    return _of_numbers(together, names, classes)


def _of_table(
    table: NDArray[Any], names: Sequence[str], classes: Sequence[str], multilabel: bool | None
) -> Labels:
    import numpy as np

    _refuse(names, ~np.isin(table, (0, 1)).all(axis=1), "labels of N×K must be 0 or 1", table)
    if classes and len(classes) != table.shape[1]:
        raise DataError(
            f"there must be one class a column of the labels: {table.shape[1]}. Got {len(classes)}"
        )
    flags = table.astype(bool)
    not_one = flags.sum(axis=1) != 1
    several = bool(not_one.any()) if multilabel is None else multilabel
    if not several:
        _refuse(names, not_one, "with multilabel: false, just one label of an image must be 1", table)
    classes = tuple(classes) or tuple(map(str, range(table.shape[1])))
    if several:
        return Labels(tuple(classes), [tuple(np.flatnonzero(row).tolist()) for row in flags], True)
    return Labels(tuple(classes), flags.argmax(axis=1).tolist())


def _of_texts(found: Sequence[str], names: Sequence[str], classes: Sequence[str]) -> Labels:
    _refuse(names, [not text for text in found], "labels must not be empty", found)
    known = tuple(classes) or tuple(numbered(found))
    numbers = {name: number for number, name in enumerate(known)}
    unknown = [text not in numbers for text in found]
    _refuse(names, unknown, f"labels must be of the classes {', '.join(known)}", found)
    return Labels(_two_or_more(known), [numbers[text] for text in found])


def _of_numbers(values: NDArray[Any], names: Sequence[str], classes: Sequence[str]) -> Labels:
    import numpy as np

    if values.dtype.kind not in "buif":
        raise DataError(f"labels must be whole numbers or text. Got {values.dtype}")
    _refuse(
        names, ~np.isfinite(values) | (values != np.round(values)), "labels must be whole numbers", values
    )
    _refuse(names, ~_fit_int64(values), "labels must be whole numbers of 64 bits", values)
    whole = values.astype(np.int64)
    if classes:
        outside = (whole < 0) | (whole >= len(classes))
        _refuse(names, outside, f"labels must be 0 to {len(classes) - 1}, as there are classes", whole)
        return Labels(_two_or_more(tuple(classes)), whole.tolist())
    known, labels = np.unique(whole, return_inverse=True)
    return Labels(_two_or_more(tuple(map(str, known.tolist()))), labels.reshape(-1).tolist())


def _fit_int64(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each is the same as int64. Floats above 2⁵³ stand for several whole numbers."""
    import numpy as np

    if values.dtype.kind == "f":
        fits: NDArray[np.bool_] = np.abs(values) <= 2.0**53
        return fits
    return np.asarray(values <= np.iinfo(np.int64).max)


def _two_or_more(classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(classes) < 2:
        raise DataError(f"there must be two classes or more. Got only {some(classes)}")
    return classes


def texts(array: NDArray[Any]) -> list[str]:
    """Each value as text. Raises DataError for bytes that are no UTF-8."""
    try:
        return [(item.decode() if isinstance(item, bytes) else str(item)).strip() for item in array.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"texts must be in UTF-8 ({error})") from error


def groups_of(arrays: Sequence[NDArray[Any]], names: Sequence[str]) -> list[str]:
    found = texts(_joined(arrays))
    _refuse(names, [text in ("", "nan") for text in found], "each image must have a group", found)
    return found


def splits_of(arrays: Sequence[NDArray[Any]], names: Sequence[str]) -> list[SplitName]:
    found = texts(_joined(arrays))
    strange = [text.lower() not in SPLIT_NAMES for text in found]
    _refuse(names, strange, f"splits must be {', '.join(SPLIT_NAMES)}", found)
    splits = [SPLIT_NAMES[text.lower()] for text in found]
    if "train" not in splits:
        raise DataError("some images must be of the split train. Got none")
    return splits


def weights_of(arrays: Sequence[NDArray[Any]], names: Sequence[str]) -> list[float]:
    import numpy as np

    found = _joined(arrays)
    if found.dtype.kind not in "buif":
        raise DataError(f"weights must be numbers. Got {found.dtype}")
    _refuse(names, ~(np.isfinite(found) & (found > 0)), "weights must be above 0", found)
    return [float(value) for value in found]


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    import numpy as np

    columns = [column(array) for array in arrays]
    if any(found.ndim != 1 for found in columns):
        raise DataError("groups, splits and weights must be one value an image. Got a table")
    return np.concatenate(columns)


def _refuse(names: Sequence[str], wrong: ArrayLike, rule: str, values: Sequence[Any] | NDArray[Any]) -> None:
    import numpy as np

    places = np.flatnonzero(wrong).tolist()
    if places:
        found = [f"'{v}'" if isinstance(v := values[place], str) else v for place in places]
        raise DataError(
            f"{rule}. Got {few(f'{v} at {names[place]}' for v, place in zip(found, places, strict=True))}"
        )
