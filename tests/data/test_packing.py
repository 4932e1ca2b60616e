"""Images are packed once, whole, under a name that says what they are."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histoflow import Facts, Row, Samples, UnreadableImage, fetched, files
from histoflow.data import assembling, chunks, laying, recipe
from histoflow.data.audit.checks import Audited
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding
from histoflow.data.keys import dealing_keys
from histoflow.data.packing import Recipe, pack
from histoflow.data.store import PackedStore, SplitReader
from histoflow.errors import DataError, StorageError

RECIPE = Recipe(
    dataset={"name": "made"},
    dataset_version=1,
    raw_digest="0",
    preprocess=[],
    split={"val": 0.25, "test": 0.25, "seed": 0},
)


def images(count: int = 60, side: int = 8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def samples(count: int = 60, read: Callable[[int], Any] | None = None, **row: Any) -> Samples:
    pixels = images(count)
    rows = [Row(label=index % 2, source=f"image-{index}", **row) for index in range(count)]
    return Samples(classes=("no", "yes"), rows=rows, read=read or (lambda index: pixels[index]))


def packed(home: Path, made: Samples, facts: Facts | None = None, steps: Sequence[Any] = ()) -> PackedStore:
    return PackedStore(pack(RECIPE, facts or Facts(), lambda: made, steps, home))


def test_every_image_arrives_in_one_split_with_its_label_and_pixels(tmp_path: Path) -> None:
    store, pixels = packed(tmp_path, samples()), images()
    found = []
    for split in (store.split("train"), store.split("val"), store.unseal_test()):
        gathered = split.gather(np.arange(len(split)))
        for place, source in enumerate(split.sources):
            index = int(source.removeprefix("image-"))
            found.append(index)
            assert split.labels[place] == index % 2
            assert np.array_equal(gathered[place], pixels[index])
    assert sorted(found) == list(range(60))


def test_images_are_found_across_shards_in_the_order_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = packed(tmp_path / "whole", samples()).split("train")
    monkeypatch.setattr(laying, "SHARD_BYTES", 7 * 8 * 8 * 3)
    monkeypatch.setattr(chunks, "CHUNK_IMAGES", 7)
    store = packed(tmp_path / "shards", samples())
    assert len(store.manifest.splits["train"].shards) > 2
    order = np.random.default_rng(1).permutation(len(whole))
    assert np.array_equal(store.split("train").gather(order), whole.gather(order))


def test_large_parts_become_shards_and_small_ones_are_laid_down_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laying, "SHARD_BYTES", 4 * 8 * 8 * 3)
    monkeypatch.setattr(laying, "FILE_BYTES", 4 * 8 * 8 * 3)
    monkeypatch.setattr(chunks, "CHUNK_IMAGES", 10)
    splits = packed(tmp_path, samples()).manifest.splits
    assert len(splits["train"].shards) == 6, "one for each chunk"
    assert max(splits["train"].shards) > 4
    assert max(splits["val"].shards) <= 4


def test_a_split_of_more_files_than_a_process_may_open_at_first_is_read(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
import numpy as np
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import test_packing as made
from histoflow.data import chunks, laying
laying.SHARD_BYTES, chunks.CHUNK_IMAGES = 1, 1
store = made.packed(Path(sys.argv[3]), made.samples())
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (24, hard))
train = store.split("train")
print(len(list(train.shards())))
resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
try:
    store.split("train").gather(np.arange(3))
except Exception as error:
    print(type(error).__name__, error)
"""
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tests / "data"), str(tests), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    opened, refused = done.stdout.splitlines()[-2:]
    assert int(opened) > 24
    assert "StorageError The train split lies in" in refused
    assert "ulimit -n 65536" in refused


def test_weights_are_kept_where_they_differ(tmp_path: Path) -> None:
    pixels = images(60)
    rows = [Row(label=index % 2, source=f"image-{index}", weight=1 + index / 7) for index in range(60)]
    made = Samples(classes=("no", "yes"), rows=rows, read=lambda index: pixels[index])
    store = packed(tmp_path / "differ", made)
    train = store.split("train")
    assert train.weights is not None
    assert train.weights.tolist() == [1 + int(source.removeprefix("image-")) / 7 for source in train.sources]
    store.verify(["train"])
    alike = packed(tmp_path / "alike", samples(weight=2.5))
    assert alike.split("train").weights is None
    assert not list(alike.folder.rglob("weights.npy"))


def test_the_manifest_states_counts_and_the_training_images_mean_and_deviation(tmp_path: Path) -> None:
    store = packed(tmp_path, samples())
    train = store.split("train")
    pixels = train.gather(np.arange(len(train))) / 255
    manifest = store.manifest
    assert np.allclose(manifest.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    assert np.allclose(manifest.std, pixels.std(axis=(0, 1, 2)), rtol=1e-9)
    assert manifest.splits["train"].counts == tuple(np.bincount(train.labels, minlength=2))
    assert sum(split.images for split in manifest.splits.values()) == 60
    assert manifest.info.size == (8, 8)


def test_a_channel_without_contrast_gets_a_deviation_that_can_be_divided_by(tmp_path: Path) -> None:
    pixels = images()
    pixels[..., 2] = 9
    std = packed(tmp_path, samples(read=lambda index: pixels[index])).manifest.std
    assert std[0] < 0.5
    assert std[2] == 1.0


def test_packing_again_uses_what_is_there(tmp_path: Path) -> None:
    first = pack(RECIPE, Facts(), samples, (), tmp_path)
    stamp = (first / "manifest.json").stat().st_mtime_ns

    def must_not_open() -> Samples:
        raise AssertionError("opened again")

    assert pack(RECIPE, Facts(), must_not_open, (), tmp_path) == first
    assert (first / "manifest.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": {"name": "made", "size": 3}},
        {"dataset_version": 2},
        {"raw_digest": "1"},
        {"preprocess": [{"name": "resize", "size": 3}]},
        {"preprocess_versions": [2]},
        {"split": {"val": 0.25, "test": 0.25, "seed": 1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_determines_the_pixels_or_splits_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert replace(RECIPE, **change).fingerprint != RECIPE.fingerprint


def test_another_way_of_decoding_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = RECIPE.folder_name, RECIPE.decoded_name
    monkeypatch.setattr(recipe, "_DECODING", -1)
    assert not set(before) & {RECIPE.folder_name, RECIPE.decoded_name}


def test_another_audit_changes_the_fingerprint_only_where_it_leaves_images_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dropping = replace(RECIPE, dropped=["blank"])
    before = RECIPE.fingerprint, dropping.fingerprint, dropping.decoded_name
    monkeypatch.setattr(recipe, "_AUDITING", -1)
    assert RECIPE.fingerprint == before[0]
    assert dropping.fingerprint != before[1]
    assert dropping.decoded_name == before[2]


def test_an_unreadable_image_goes_into_quarantine_with_its_reason(tmp_path: Path) -> None:
    pixels = images()

    def read(index: int) -> Any:
        if index == 7:
            raise UnreadableImage("truncated after 12 bytes")
        return pixels[index]

    manifest = packed(tmp_path, samples(read=read)).manifest
    assert [(entry.source, entry.reason) for entry in manifest.quarantine] == [
        ("image-7", "truncated after 12 bytes")
    ]
    assert sum(split.images for split in manifest.splits.values()) == 59


def test_a_file_that_changes_while_images_are_decoded_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    file, pixels = tmp_path / "images.npy", images()
    np.save(file, pixels)
    found = fetched.fetched([file])

    def read(index: int) -> Any:
        if index == 30:
            np.save(file, pixels[::-1])
            os.utime(file, ns=(0, 0))  # some disks tell times roughly
        return np.load(file)[index]

    home = tmp_path / "home"
    with pytest.raises(DataError, match=rf"{file} changed while .* Run again"):
        pack(RECIPE, Facts(), lambda: samples(read=read), (), home, refuse_changed=found.refuse_changed)
    assert [path for path in home.iterdir() if path.is_dir()] == []


def test_preprocessing_steps_run_in_their_order(tmp_path: Path) -> None:
    store = packed(tmp_path, samples(), steps=[lambda image: image[:4], lambda image: image[:, :2]])
    assert store.manifest.size == (4, 2)


@pytest.mark.parametrize(
    ("made", "facts", "message"),
    [
        (
            samples(read=lambda index: np.zeros((8 + index, 8, 3), np.uint8)),
            Facts(),
            "one size after preproc",
        ),
        (
            samples(read=lambda index: np.zeros((8, 8, 3))),
            Facts(),
            "must be an array H×W×C of uint8. Got float64",
        ),
        (samples(read=lambda index: "pixels"), Facts(), "must be an array H×W×C of uint8. Got str"),
        (samples(), Facts(classes=("a", "b")), "contradict their data set's facts: classes is"),
        (samples(), Facts(task="multiclass"), "task is binary, stated was multiclass"),
        (samples(), Facts(images=61), "images is 60, stated was 61"),
        (samples(), Facts(size=(9, 9)), "Not one of 60 images could be read: it is 8×8"),
        (samples(), Facts(groups=True), "groups is False, stated was True"),
        (samples(), Facts(official_split=True), "official_split is False, stated was True"),
        (samples(), Facts(channels=1), "it is 8×8 with 3 channels; the data set states 8×8 with 1 channels"),
        (
            Samples(
                classes=("a", "b"),
                rows=[Row(label=0, source="x", group="g"), Row(label=1, source="y")],
                read=lambda i: images()[i],
            ),
            Facts(),
            "1 of 2 have none, such as y",
        ),
        (
            samples(read=lambda index: np.zeros((8, 0, 3), np.uint8)),
            Facts(),
            "must be an array H×W×C of uint8",
        ),
        (samples(0), Facts(), "needs images of two classes or more"),
        (samples(weight=0.0), Facts(), "weight of image-0 must be a finite number above 0. Got 0.0. Leave"),
        (samples(weight=float("nan")), Facts(), "must be a finite number above 0. Got nan"),
        (samples(group="one patient"), Facts(), "No image fell into the"),
        (replace(samples(), files=[Path("a")]), Facts(), "one for each of its 60 rows. Got 1"),
        (
            Samples(classes=("a", "b"), rows=[Row(label=2, source="x")], read=lambda i: images()[0]),
            Facts(),
            "The label of x must be 0 to 1. Got 2.",
        ),
    ],
    ids=[
        "sizes",
        "float",
        "str",
        "classes",
        "task",
        "count",
        "size",
        "groups",
        "official",
        "channels",
        "half",
        "no-pixels",
        "empty",
        "no-weight",
        "nan-weight",
        "one-group",
        "files",
        "label",
    ],
)
def test_data_that_cannot_be_packed_are_refused_and_nothing_is_left(
    tmp_path: Path, made: Samples, facts: Facts, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        packed(tmp_path, made, facts)
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == []


def test_the_audit_is_told_of_every_image_and_what_it_drops_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, told = images(60), []

    def audit(examined: Examined, policies: Any, **more: Any) -> Audited:
        assert np.array_equal(examined.images(np.array([40, 3, 17])), pixels[[41, 3, 17]])
        told.append((examined, policies, more))
        finding = Finding(check="made", message="It was asked for.", severity="refused")
        return Audited((finding,), {3: "it is blank", 41: "it is black"}, np.arange(59))

    def read(index: int) -> Any:
        if index == 20:
            raise UnreadableImage("truncated")
        return pixels[index]

    monkeypatch.setattr(assembling, "audit", audit)
    files = [tmp_path / f"{index}.png" for index in range(60)]
    for path in files:
        path.write_bytes(b"x" * int(path.stem))
    made = replace(samples(read=read, group="g"), files=files)
    rows = [replace(row, group=f"g{place}") for place, row in enumerate(made.rows)]
    folder = pack(RECIPE, Facts(), lambda: replace(made, rows=rows), (), tmp_path, policies={"blank": "drop"})
    (examined, policies, more) = told[0]
    assert policies == {"blank": "drop"}
    assert more["unreadable"] == [("image-20", "truncated")]
    assert more["asked_shares"] == {"val": 0.25, "test": 0.25}
    readable = [index for index in range(60) if index != 20]
    assert examined.sources == [f"image-{index}" for index in readable]
    assert examined.groups == [f"g{index}" for index in readable]
    assert examined.files["bytes"].tolist() == readable
    assert set(examined.files["width"]) == set(examined.files["height"]) == {8.0}
    assert all(len(values) == 59 for values in examined.features.values())
    store = PackedStore(folder)
    quarantine = [(entry.source, entry.reason) for entry in store.manifest.quarantine]
    assert quarantine == [
        ("image-3", "it is blank"),
        ("image-20", "truncated"),
        ("image-42", "it is black"),
    ]
    assert [(found.check, found.severity) for found in store.manifest.findings] == [("made", "refused")]
    laid = {source for split in whole(store) for source in split.sources}
    assert laid == {f"image-{index}" for index in readable} - {"image-3", "image-42"}


def whole(store: PackedStore) -> tuple[SplitReader, ...]:
    return store.split("train"), store.split("val"), store.unseal_test()


def test_hashes_are_alike_where_pixels_are(tmp_path: Path) -> None:
    pixels = images(60)
    train = packed(tmp_path, samples(read=lambda index: pixels[index % 12])).split("train")
    found = train.gather(np.arange(len(train)))
    assert train.hashes.shape == (len(train), 16)
    for one in range(len(train)):
        alike = (found == found[one]).all(axis=(1, 2, 3))
        assert np.array_equal((train.hashes == train.hashes[one]).all(axis=1), alike)


@pytest.mark.parametrize("width", [6, 9])
def test_turned_and_flipped_copies_are_dealt_to_one_side(width: int) -> None:
    original = np.random.default_rng(0).integers(0, 256, (6, width, 3), np.uint8)
    framed = original.copy()
    framed[[0, -1]] = framed[:, [0, -1]] = 255  # the same edges from every side
    for image in (original, framed, framed[..., :1]):
        copies = [np.rot90(way, turns) for way in (image, image[::-1]) for turns in range(4)]
        assert len({dealing_keys(copy[None])[0] for copy in copies}) == 1
    other = framed.copy()
    other[2, 3] ^= 1
    assert len({dealing_keys(image[None])[0] for image in (original, framed, other)}) == 3


def test_images_that_are_enlarged_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def larger(image: Any) -> Any:
        return np.pad(image, ((0, 8 - image.shape[0]), (0, 0), (0, 0)))

    pixels = images(60)
    made = samples(read=lambda index: pixels[index][: 8 - (index in (7, 8)) - (index == 8)])
    with caplog.at_level(logging.INFO, "histoflow"):
        found = {
            finding.check: finding for finding in packed(tmp_path, made, steps=[larger]).manifest.findings
        }
    assert found["enlarged"].images == 2
    assert found["enlarged"].examples == ("image-7", "image-8")
    assert "2 images were smaller than the 8×8" in found["enlarged"].message
    assert "the smallest 6×8" in found["enlarged"].message
    assert found["enlarged"].severity == "note"
    assert found["enlarged"].message in caplog.messages


def wrongly_sized(home: Path, sizes: Sequence[tuple[int, int]]) -> Finding | None:
    """What is said of images of these sizes, of which a step takes the first pixels."""
    chance = np.random.default_rng(0)
    pixels = [chance.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    made = samples(len(sizes), lambda index: pixels[index])
    store = packed(home, made, steps=[lambda image: np.ascontiguousarray(image[:8, :8])])
    return next((found for found in store.manifest.findings if found.check == "wrongly_sized"), None)


def test_images_of_another_size_than_nearly_all_others_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "histoflow"):
        found = wrongly_sized(tmp_path, [(32, 32)] * 57 + [(60, 20), (33, 32), (16, 16)])
    assert found is not None
    assert (found.severity, found.images, found.examples) == ("warning", 2, ("image-57", "image-59"))
    assert found.message == (
        "2 images were of another size than nearly all others, which are about 32×32: "
        "image-57 (60×20), image-59 (16×16)."
    )
    assert found.message in caplog.messages


def test_where_sizes_vary_those_of_another_shape_are_named(tmp_path: Path) -> None:
    sizes = [(side, side) for side in range(10, 69)]
    found = wrongly_sized(tmp_path / "one", [*sizes, (40, 20)])
    assert found is not None
    assert (
        "1 image was of another shape than nearly all others, which are 1.00 times as high" in found.message
    )
    assert found.examples == ("image-59",)
    photos = [(10 + index, 70 - index // 2) for index in range(60)]
    assert wrongly_sized(tmp_path / "photos", photos) is None
    assert wrongly_sized(tmp_path / "alike", [(32, 32)] * 60) is None


def several(label: Any, count: int = 60) -> Samples:
    """A multilabel data set; the label of the last image is the one given."""
    pixels = images(count)
    labels = [[(), (0,), (1, 2), (0, 1, 2)][index % 4] for index in range(count - 1)] + [label]
    rows = [Row(label=one, source=f"image-{place}") for place, one in enumerate(labels)]
    return Samples(classes=("a", "b", "c"), rows=rows, read=lambda index: pixels[index], task="multilabel")


def test_images_of_several_classes_have_a_column_for_each(tmp_path: Path) -> None:
    made = several((2, 0))
    store = packed(tmp_path, made, Facts(task="multilabel"))
    shown = {row.source: row.label for row in made.rows}
    for split in whole(store):
        assert split.labels.dtype == np.uint8
        for source, labels in zip(split.sources, split.labels, strict=True):
            assert np.flatnonzero(labels).tolist() == sorted(shown[str(source)])  # type: ignore[arg-type]
    train = store.split("train")
    assert store.manifest.splits["train"].counts == tuple(train.labels.sum(axis=0))
    assert store.manifest.task == "multilabel"


@pytest.mark.parametrize("label", [(3,), (-1,), (1, 1), 1, [1]], ids=repr)
def test_labels_of_several_classes_are_tuples_of_numbers_each_once(tmp_path: Path, label: Any) -> None:
    with pytest.raises(DataError, match="The label of image-59 must be a tuple of numbers from 0 to 2"):
        packed(tmp_path, several(label))


def test_a_class_missing_from_a_split_is_told(tmp_path: Path) -> None:
    pixels = images(9)
    rows = [
        Row(label=int(split == "train" and index > 3), source=str(index), split=split)
        for index, split in enumerate(("train", "val", "test") * 3)
    ]
    made = Samples(classes=("no", "yes"), rows=rows, read=lambda index: pixels[index])
    messages = [finding.message for finding in packed(tmp_path, made).manifest.findings]
    assert "The val split has no image of class 'yes'." in messages


def test_shares_that_could_not_be_met_are_told(tmp_path: Path) -> None:
    pixels = images(60)
    rows = [Row(label=i % 2, source=str(i), group="big" if i < 40 else str(i)) for i in range(60)]
    made = Samples(classes=("no", "yes"), rows=rows, read=lambda index: pixels[index])
    checks = [
        finding for finding in packed(tmp_path, made).manifest.findings if finding.check == "split_shares"
    ]
    assert any("where 25% were asked for" in finding.message for finding in checks)


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    """The limit on a file's size is the system's own way to refuse a write, without a small disk."""
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import test_packing
from pathlib import Path
from histoflow.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    test_packing.packed(Path({str(tmp_path)!r}), test_packing.samples())
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "No room to write" in done.stdout
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == []


def test_too_little_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda path: 1000)
    with pytest.raises(StorageError, match="Packing needs about"):
        packed(tmp_path, samples())


def test_a_store_is_refused_before_the_long_work_where_a_split_must_stay_empty(tmp_path: Path) -> None:
    rows = [Row(label=index % 2, source=str(index), group="one patient") for index in range(60)]

    def read(index: int) -> Any:
        raise AssertionError("an image was read")

    made = Samples(classes=("no", "yes"), rows=rows, read=read)
    with pytest.raises(DataError, match="No image fell into the"):
        pack(RECIPE, Facts(), lambda: made, (), tmp_path)
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == []


def test_two_at_once_build_one_store(tmp_path: Path) -> None:
    opened, results = [], []

    def open_slowly() -> Samples:
        opened.append(threading.get_ident())
        threading.Event().wait(0.3)
        return samples()

    threads = [
        threading.Thread(target=lambda: results.append(pack(RECIPE, Facts(), open_slowly, (), tmp_path)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    assert len(set(results)) == 1


def test_a_store_without_its_manifest_is_packed_anew(tmp_path: Path) -> None:
    store = packed(tmp_path, samples())
    (store.folder / "manifest.json").unlink()
    assert packed(tmp_path, samples()).manifest == store.manifest


def test_what_a_killed_packing_left_is_cleared_away(tmp_path: Path) -> None:
    name = f"made-{RECIPE.fingerprint[:16]}"
    (tmp_path / f".{name}.killed").mkdir(parents=True)
    packed(tmp_path, samples())
    assert not (tmp_path / f".{name}.killed").exists()


def test_the_test_split_is_sealed(tmp_path: Path) -> None:
    store = packed(tmp_path, samples())
    with pytest.raises(DataError, match="sealed: only an evaluation opens it"):
        store.split("test")  # type: ignore[arg-type]


def test_changed_files_and_damaged_manifests_are_found(tmp_path: Path) -> None:
    store = packed(tmp_path, samples())
    store.verify(["train", "val", "test"])
    labels = store.folder / "test" / "labels.npy"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x07")
    with pytest.raises(DataError, match=r"labels\.npy is missing or damaged"):
        store.verify(["test"])
    shard = store.folder / "train" / "images-00000.npy"
    for damaged in (shard.read_bytes()[:-1] + b"\x07", shard.read_bytes()[:-1], b""):
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=r"images-00000\.npy is missing or damaged"):
            store.verify(["train"])
    store.verify(["val"])
    manifest = store.folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema_version": 1}))
    with pytest.raises(DataError, match="made by an older histoflow.*must be packed again: start a new run"):
        PackedStore(store.folder)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema_version": 9}))
    with pytest.raises(DataError, match="made by a newer histoflow"):
        PackedStore(store.folder)
    manifest.write_text("{")
    with pytest.raises(DataError, match="missing or damaged"):
        PackedStore(store.folder)
