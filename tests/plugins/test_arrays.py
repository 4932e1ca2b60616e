"""Arrays of one's own: what is accepted, and what is refused with which words."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from histoflow import DataError, Facts, Row, Samples, UnreadableImage
from histoflow.testing import check_component
from histoflow_plugins.arrays import ARRAYS, ArraysParams

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def h5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def opened(path: Path, **params: Any) -> Samples:
    chosen = ArraysParams(images=path, **params)
    return ARRAYS.open(chosen, ARRAYS.fetch(chosen, path.parent / "unused"))


def complaint(path: Path | None, **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(path, **params) if path else ARRAYS.facts(ArraysParams(images=path, **params))
    return str(caught.value)


def pixels(samples: Samples) -> NDArray[np.uint8]:
    """All images, as another process reads them."""
    read = pickle.loads(pickle.dumps(samples.read))
    return np.stack([read(row) for row in range(len(samples.rows))])


# ── Files and names ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("image", "label"), [("images", "labels"), ("x", "y"), ("X", "Y"), ("data", "target")]
)
def test_usual_names_need_not_be_given(tmp_path: Path, image: str, label: str) -> None:
    samples = opened(npz(tmp_path, **{image: IMAGES, label: LABELS, "more": LABELS}))
    assert samples.classes == ("0", "1", "2")
    assert samples.rows[4] == Row(label=1, source="000004")
    assert np.array_equal(pixels(samples), IMAGES)


@pytest.mark.parametrize("keys", [("X_{split}", "y_{split}"), ("{split}_images", "{split}_labels")])
@pytest.mark.parametrize("given", [True, False])
def test_arrays_of_each_split(tmp_path: Path, keys: tuple[str, str], given: bool) -> None:
    parts = {"train": slice(0, 3), "valid": slice(3, 4), "test": slice(4, 6)}
    arrays = {key.format(split=s): a[p] for s, p in parts.items() for key, a in zip(keys, (IMAGES, LABELS))}  # noqa: B905
    np.savez_compressed(tmp_path / "data.npz", **arrays)
    samples = opened(tmp_path / "data.npz", **dict(zip(("image_key", "label_key"), keys)) if given else {})  # noqa: B905
    assert [(row.source, row.split) for row in samples.rows] == [
        *((f"train/{index:06}", "train") for index in range(3)),
        ("val/000000", "val"),
        *((f"test/{index:06}", "test") for index in range(2)),
    ]
    assert [row.label for row in samples.rows] == LABELS.tolist()
    assert np.array_equal(pixels(samples), IMAGES)


def test_arrays_in_a_folder_of_each_split_are_not_mistaken_for_those_of_another(tmp_path: Path) -> None:
    parts = {"train": slice(0, 4), "test": slice(4, 6)}
    arrays = {
        f"{split}/{key}": a[p] for split, p in parts.items() for key, a in (("x", IMAGES), ("y", LABELS))
    }
    np.savez_compressed(tmp_path / "data.npz", x=IMAGES[::-1], **arrays)
    samples = opened(tmp_path / "data.npz", image_key="{split}/x", label_key="{split}/y")
    assert np.array_equal(pixels(samples), IMAGES)


def test_files_of_each_split_as_patchcamelyon_has_them(tmp_path: Path) -> None:
    for split, part in (("train", slice(0, 4)), ("test", slice(4, 6))):
        h5(tmp_path / f"set_{split}_x.h5", x=IMAGES[part])
        h5(tmp_path / f"set_{split}_y.h5", y=LABELS[part].reshape(-1, 1, 1, 1))
    samples = opened(tmp_path / "set_{split}_x.h5", labels=tmp_path / "set_{split}_y.h5")
    assert [row.split for row in samples.rows] == ["train"] * 4 + ["test"] * 2
    assert [row.label for row in samples.rows] == LABELS.tolist()
    assert np.array_equal(pixels(samples), IMAGES)


def test_a_pattern_means_the_same_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ArraysParams(images=Path("{split}.npz")).images == tmp_path / "{split}.npz"


def test_npy_files_in_any_order_of_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.asfortranarray(IMAGES))
    np.save(tmp_path / "y.npy", LABELS)
    samples = opened(tmp_path / "x.npy", labels=tmp_path / "y.npy")
    assert np.array_equal(pixels(samples), IMAGES)
    assert ARRAYS.fetch(ArraysParams(images=tmp_path / "x.npy", labels=tmp_path / "y.npy"), tmp_path) == [
        tmp_path / "x.npy",
        tmp_path / "y.npy",
    ]


def test_all_that_an_hdf5_file_may_tell(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_dataset("deep/pixels", data=IMAGES, chunks=(4, 5, 4, 3), compression="gzip")
        file.create_dataset("kind", data=["b", "a", "b", "a", "b", "a"], dtype=h5py.string_dtype())
        file["patient"] = np.arange(6) // 2
        file["part"] = np.array([b"train", b"train", b"train", b"train", b"Val", b"test"])
        file["draw"] = np.full(6, 2.5, np.float32)
    samples = opened(
        tmp_path / "all.h5",
        image_key="/deep/pixels",
        label_key="kind",
        group_key="patient",
        split_key="part",
        weight_key="draw",
    )
    assert samples.classes == ("a", "b")
    assert samples.rows[4] == Row(label=1, source="000004", split="val", group="2", weight=2.5)
    assert np.array_equal(pixels(samples), IMAGES)


def test_facts(tmp_path: Path) -> None:
    path = npz(tmp_path, x=IMAGES, y=LABELS, who=LABELS)
    assert ARRAYS.facts(ArraysParams(images=path, group_key="who")) == Facts(
        task="multiclass",
        classes=("0", "1", "2"),
        channels=3,
        size=(5, 4),
        images=6,
        groups=True,
        licence="unknown",
    )
    assert ARRAYS.facts(ArraysParams(images=tmp_path / "later.npz")) == Facts()
    assert ARRAYS.facts(ArraysParams(images=tmp_path / "{split}.npz")) == Facts()


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    check_component(ARRAYS, ArraysParams(images=npz(tmp_path, x=IMAGES, y=LABELS)))


def test_every_field_is_explained() -> None:
    assert all(field["description"] for field in ArraysParams.model_json_schema()["properties"].values())


# ── Labels ──────────────────────────────────────────────────────────────────────────────────────

HOT = np.eye(3)[LABELS]
SEVERAL = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("labels", "params", "classes", "expected"),
    [
        (LABELS + 7, {}, ("7", "8", "9"), LABELS.tolist()),
        (LABELS.astype(np.float32), {}, ("0", "1", "2"), LABELS.tolist()),
        (LABELS == 1, {}, ("0", "1"), [0, 1, 0, 0, 1, 0]),
        (LABELS, {"classes": ("x", "y", "z", "rare")}, ("x", "y", "z", "rare"), LABELS.tolist()),
        (np.array(list("bcabca")), {}, ("a", "b", "c"), [1, 2, 0, 1, 2, 0]),
        (
            np.array(list("bcabca")).astype("S"),
            {"classes": ("c", "b", "a")},
            ("c", "b", "a"),
            [1, 0, 2, 1, 0, 2],
        ),
        (np.array(["10", "9"] * 3), {}, ("9", "10"), [1, 0, 1, 0, 1, 0]),
        (HOT, {}, ("0", "1", "2"), LABELS.tolist()),
        (HOT[:, :, None], {"classes": ("x", "y", "z")}, ("x", "y", "z"), LABELS.tolist()),
        (SEVERAL, {}, ("0", "1", "2"), [(0, 2), (), (1,), (0,), (1,), (2,)]),
        (HOT, {"multilabel": True}, ("0", "1", "2"), [(label,) for label in LABELS]),
    ],
)
def test_labels(
    tmp_path: Path,
    labels: NDArray[Any],
    params: dict[str, Any],
    classes: tuple[str, ...],
    expected: list[Any],
) -> None:
    samples = opened(npz(tmp_path, x=IMAGES, y=labels), **params)
    assert samples.classes == classes
    assert [row.label for row in samples.rows] == expected
    assert samples.task == ("multilabel" if isinstance(expected[0], tuple) else None)


@pytest.mark.parametrize(
    ("labels", "params", "expected"),
    [
        (LABELS[:5], {}, "images and labels must be two arrays with one row for each image. 'x' has 6, 'y' has 5"),
        (LABELS + 0.5, {}, "labels must be whole numbers. Got 0.5 at 000000, 1.5 at 000001"),
        (np.array([0, 1, np.nan, 0, 1, 1]), {}, "labels must be whole numbers. Got nan at 000002."),
        (LABELS * 0, {}, "there must be two classes or more. Got only '0'."),
        (LABELS, {"classes": ("a", "b")}, "labels must be 0 to 1, as there are classes. Got 2 at 000002"),
        (np.array(["a", "b", "", "a", "b", "c"]), {}, "labels must not be empty. Got '' at 000002."),
        (np.array(list("abcabc")), {"classes": ("a", "b")}, "labels must be of the classes a, b. Got 'c' at 000002"),
        (HOT * 2, {}, "labels of N×K must be 0 or 1. Got [2. 0. 0.] at 000000"),
        (HOT, {"classes": ("a", "b")}, "there must be one class a column of the labels: 3. Got 2"),
        (SEVERAL, {"multilabel": False}, "just one label of an image must be 1. Got [1 0 1] at 000000"),
        (LABELS, {"multilabel": True}, "labels must be N×K of 0 and 1. Got one label an image"),
        (np.zeros((6, 2, 2)), {}, "labels must be N, or N×K of 0 and 1, alike in all splits. Got 6×2×2 float64"),
        (np.array([0, 1, 1e300, 0, 1, 1]), {}, "labels must be whole numbers of 64 bits. Got 1e+300 at 000002."),
        (np.array([0, 1, 2**64 - 1, 0, 1, 1], np.uint64), {"classes": ("a", "b")}, "of 64 bits. Got 18446744073709551615 at 000002."),
        (LABELS.astype("M8[D]"), {}, "labels must be whole numbers or text. Got datetime64[D]"),
        (np.array([b"a", b"b", b"\xff"] * 2), {}, "texts must be in UTF-8"),
    ],
)  # fmt: skip
def test_labels_that_are_none(
    tmp_path: Path, labels: NDArray[Any], params: dict[str, Any], expected: str
) -> None:
    assert expected in complaint(npz(tmp_path, x=IMAGES, y=labels), **params)


# ── Pixels ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("images", "params"),
    [
        (IMAGES.transpose(0, 3, 1, 2), {}),
        (IMAGES.astype(np.uint16) * 257, {}),
        (IMAGES.astype(np.uint16), {"values": "0..255"}),
        (IMAGES.astype(np.int64), {}),
        (IMAGES / 255, {}),
        ((IMAGES / 255).astype(np.float16) * np.float16(1.0004), {}),
        (IMAGES.astype(np.float32), {}),
        (IMAGES * np.float64(257), {"values": "0..65535"}),
    ],
)
def test_layouts_and_types(tmp_path: Path, images: NDArray[Any], params: dict[str, Any]) -> None:
    found = pixels(opened(npz(tmp_path, x=images, y=LABELS), **params))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - IMAGES).max() <= (1 if images.dtype == np.float16 else 0)


def test_integers_of_0_and_1_are_black_and_white_where_that_is_told(tmp_path: Path) -> None:
    images = (IMAGES > 99).astype(np.int32)
    found = pixels(opened(npz(tmp_path, x=images, y=LABELS), values="0..1"))
    assert np.array_equal(found, images * 255)


def test_grey_images(tmp_path: Path) -> None:
    grey = IMAGES[:, :, :, 0]
    for images in (grey, grey[:, None], grey[:, :, :, None]):
        assert np.array_equal(pixels(opened(npz(tmp_path, x=images, y=LABELS)))[..., 0], grey)


def test_an_axis_of_colours_that_is_told(tmp_path: Path) -> None:
    square = np.arange(6 * 3 * 8 * 3, dtype=np.uint8).reshape(6, 3, 8, 3)
    path = npz(tmp_path, x=square, y=LABELS)
    assert "which axis of 6×3×8×3 is that of the colours: both have 1 or 3. Set layout" in complaint(path)
    assert np.array_equal(pixels(opened(path, layout="chw")), square.transpose(0, 2, 3, 1))
    assert np.array_equal(pixels(opened(path, layout="hwc")), square)
    path = npz(tmp_path, x=np.zeros((6, 8, 8, 4), np.uint8), y=LABELS)
    assert "neither has 1 or 3" in complaint(path)
    assert pixels(opened(path, layout="hwc")).shape == (6, 8, 8, 4)


def test_pixels_that_mean_nothing_put_their_image_aside(tmp_path: Path) -> None:
    images = IMAGES / 255
    images[2, 0, 0, 0], images[3, 0, 0, 0], images[4, 0, 0, 0] = np.nan, 7, -1
    path = npz(tmp_path, x=images, y=LABELS)
    read = opened(path, values="0..1").read
    assert np.array_equal(read(1), IMAGES[1])
    for row, reason in ((2, "no finite numbers"), (3, "to 7, and not from 0 to 1"), (4, "from -1 to")):
        with pytest.raises(UnreadableImage, match=reason):
            read(row)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (IMAGES / 127.5 - 1, "Their float64 values reach from -1 to 1 in the images that were tried; if they were normalised, undo that"),
        (IMAGES * 1000.0, "images must have values from 0 to 1, 255 or 65535"),
        (IMAGES.astype(np.uint16), "it cannot be told which value is white"),
        (IMAGES.astype(np.uint16) * 16, "Their uint16 values reach from 0 to 4080 in the images that were tried. Set values: 0..1, values: 0..255 or values: 0..65535;"),
        (IMAGES / 255 * 1.17, "it cannot be told which value is white"),
        (IMAGES / 60, "Their float64 values reach from 0 to 4.25 in"),
        ((IMAGES > 99).astype(np.int32), "Their int32 values reach from 0 to 1 in"),
        ((IMAGES > 99).astype(np.int64), "it cannot be told which value is white"),
        ((IMAGES > 99).astype(np.uint8), "it cannot be told which value is white"),
        (IMAGES > 9, "images must be N×H×W, N×H×W×C or N×C×H×W numbers. Got 6×5×4×3 bool"),
        (LABELS, "images must be N×H×W, N×H×W×C or N×C×H×W numbers. Got 6 int64"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_images(tmp_path: Path, images: NDArray[Any], expected: str) -> None:
    assert expected in complaint(npz(tmp_path, x=images, y=LABELS))


# ── What is refused ─────────────────────────────────────────────────────────────────────────────


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    path = npz(tmp_path, x=IMAGES[:, :, 0], y=LABELS * 0, g=["a", ""] * 3, s=["val"] * 6, w=LABELS)
    assert complaint(path, layout="hwc", group_key="g", split_key="s", weight_key="w").splitlines()[1:-1] == [
        "  there must be two classes or more. Got only '0'.",
        "  each image must have a group. Got '' at 000001, '' at 000003, '' at 000005.",
        "  some images must be of the split train. Got none.",
        "  weights must be above 0. Got 0 at 000000, 0 at 000003.",
    ]


@pytest.mark.parametrize(
    ("arrays", "params", "expected"),
    [
        ({"a": IMAGES, "b": LABELS}, {}, "which array of {file} is meant. It has 'a' (6×5×4×3 uint8), 'b' (6 int64). Set image_key"),
        ({"x": IMAGES, "b": LABELS}, {}, "Set label_key"),
        ({"x": IMAGES, "y": LABELS}, {"image_key": "z"}, "{file} has no array 'z'. It has 'x' (6×5×4×3 uint8), 'y' (6 int64). Correct image_key"),
        ({"x": IMAGES, "y": LABELS}, {"group_key": "z"}, "Correct group_key"),
        ({"x": IMAGES, "y": LABELS}, {"label_key": "x"}, "must be two arrays"),
        ({"x_test": IMAGES, "y_test": LABELS}, {"image_key": "x_{split}", "label_key": "y_{split}"}, "there must be a split train. Got test"),
        ({"x_train": IMAGES, "y": LABELS}, {}, "{split} must stand in a name of the images and in one of the labels"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, {}, "has no array 'y_test'"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_val": IMAGES[:, :4], "y_val": LABELS}, {}, "one size and type in all splits. Got 6×5×4×3 uint8, 6×4×4×3 uint8"),
        ({"x_train": IMAGES, "y_train": LABELS, "s": LABELS}, {"split_key": "s"}, "Got both"),
        ({"x": np.array([None, None]), "y": LABELS[:2]}, {}, "array 'x' of {file} cannot be used. It holds Python objects"),
    ],
)  # fmt: skip
def test_arrays_that_are_not_there(
    tmp_path: Path, arrays: dict[str, Any], params: dict[str, Any], expected: str
) -> None:
    path = npz(tmp_path, **arrays)
    assert expected.replace("{file}", str(path)) in complaint(path, **params)


def test_files_that_are_no_arrays(tmp_path: Path) -> None:
    def file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    np.save(tmp_path / "o.npy", np.array([None]))
    whole = h5(tmp_path / "x.h5", x=IMAGES, y=LABELS).read_bytes()
    assert "is no npz, npy or HDF5 file" in complaint(file("1.txt", b"hello"))
    assert "is damaged or no npz file" in complaint(file("1.npz", b"PK hello"))
    assert "is damaged or no HDF5 file" in complaint(file("1.h5", whole[:900]))
    assert "It is damaged" in complaint(file("1.npy", (tmp_path / "o.npy").read_bytes()[:20]))
    assert "It holds Python objects, which are not loaded" in complaint(tmp_path / "o.npy")
    params = {"labels": tmp_path / "nowhere.npy"}
    assert f"{tmp_path}/nowhere.npy cannot be read: No such file" in complaint(tmp_path / "x.h5", **params)
    assert complaint(None).startswith("The 'images' parameter of data set 'arrays' must name an npz")


def test_a_file_that_was_damaged_on_its_way(tmp_path: Path) -> None:
    path = npz(tmp_path, x=IMAGES, y=LABELS)
    content = bytearray(path.read_bytes())
    at = content.index(IMAGES[3].tobytes())
    content[at] ^= 255
    path.write_bytes(content)
    assert "is damaged" in complaint(path)


def test_a_damaged_chunk_of_hdf5_puts_its_images_aside(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        chunked = file.create_dataset("x", data=IMAGES, chunks=(2, 5, 4, 3), fletcher32=True)
        file["y"] = LABELS
        place = chunked.id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)
    read = opened(path).read
    assert np.array_equal(read(1), IMAGES[1])
    assert np.array_equal(read(4), IMAGES[4])
    with pytest.raises(UnreadableImage, match="it cannot be unpacked"):
        read(2)
