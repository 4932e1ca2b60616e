"""The MedMNIST data set, with files of the real format from a real server."""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from histoflow import DataError, Facts, stages
from histoflow.data.store import PackedStore
from histoflow.experiment import parse
from histoflow.progress import LogListener, listening
from histoflow.testing import check_component
from histoflow_plugins import medmnist
from histoflow_plugins.medmnist import MEDMNIST, MedMNISTParams
from servers import Server, answers, gives, serving

Arrays = dict[str, NDArray[Any]]
COUNTS = {"train": 20, "val": 5, "test": 4}


def arrays_like(shape: tuple[int, ...] = (28, 28, 3), classes: int = 9) -> Arrays:
    chance = np.random.default_rng(0)
    arrays: Arrays = {}
    for split, count in COUNTS.items():
        arrays[f"{split}_images"] = chance.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    return arrays


def several_labels(classes: int) -> Arrays:
    """An image shows every class whose number and two divide that of the image."""
    return {
        f"{split}_labels": (np.arange(count)[:, None] % np.arange(2, classes + 2) == 0).astype(np.uint8)
        for split, count in COUNTS.items()
    }


def npz(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def complaint(file: Path, **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        MEDMNIST.open(MedMNISTParams(**params), [file])
    return str(caught.value)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


@pytest.fixture
def official(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server stands where the table says, and the table has the MD5 of a small PathMNIST."""
    monkeypatch.setitem(medmnist.table()["pathmnist"], "url", f"{server.url}/official/pathmnist.npz")
    monkeypatch.setitem(medmnist.table()["pathmnist"], "MD5", hashlib.md5(npz(arrays_like())).hexdigest())
    return server


class Heard(LogListener):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


# ── Table, parameters, facts ────────────────────────────────────────────────────────────────────


def test_the_table_is_read_without_importing_medmnist() -> None:
    assert medmnist.table()["pathmnist"]["MD5"] == "a8b06965200029087d5bd730944a56c1"
    assert "medmnist" not in sys.modules


def test_facts_of_pathmnist() -> None:
    facts = MEDMNIST.facts(MedMNISTParams(size=64))
    assert facts.classes is not None
    assert facts.classes[0] == "adipose"
    assert facts.classes[8] == "colorectal adenocarcinoma epithelium"
    assert facts == Facts(
        task="multiclass",
        classes=facts.classes,
        channels=3,
        size=(64, 64),
        images=107_180,
        official_split=True,
        licence="CC BY 4.0",
        citation=medmnist.CITATION,
    )


@pytest.mark.parametrize("subset", medmnist.subsets())
def test_facts_of_every_set(subset: str) -> None:
    facts = MEDMNIST.facts(MedMNISTParams(subset=subset))
    assert facts.classes is not None
    assert len(facts.classes) == len(medmnist.table()[subset]["label"])
    assert (facts.task == "binary") == (len(facts.classes) == 2)
    assert (facts.task == "multilabel") == (subset == "chestmnist")


def test_a_file_of_ones_own_may_have_other_counts(tmp_path: Path) -> None:
    write(tmp_path, "pathmnist.npz", b"")
    assert MEDMNIST.facts(MedMNISTParams(path=tmp_path)).images is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("pathminst", "Got 'pathminst'. Did you mean 'pathmnist'?"),
        ("PathMNIST", "Did you mean 'pathmnist'?"),
        ("organmnist3d", "3-D sets are not supported"),
    ],
)
def test_a_set_that_cannot_be_used_is_refused(given: str, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MedMNISTParams(subset=given)
    assert expected in str(caught.value)
    assert "must be one of pathmnist, chestmnist, dermamnist" in str(caught.value)


@pytest.mark.parametrize("wrong", [{"size": 32}, {"mirrors": ["ftp://x"]}, {"sise": 28}])
def test_other_parameters_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MedMNISTParams(**wrong)


def test_the_form_offers_the_sets_and_explains_the_fields() -> None:
    properties = MedMNISTParams.model_json_schema()["properties"]
    assert properties["subset"]["enum"] == medmnist.subsets()
    assert all(field["description"] for field in properties.values())


# ── Fetching ────────────────────────────────────────────────────────────────────────────────────


def test_fetches_from_the_official_address(official: Server, tmp_path: Path) -> None:
    official.at("official/pathmnist.npz", gives(npz(arrays_like())))
    files = MEDMNIST.fetch(MedMNISTParams(), tmp_path)
    assert files == (tmp_path / "pathmnist.npz",)
    assert len(MEDMNIST.open(MedMNISTParams(), files).rows) == 29


def test_mirrors_come_first(official: Server, tmp_path: Path) -> None:
    official.at("two/pathmnist.npz", gives(npz(arrays_like())))
    params = MedMNISTParams(mirrors=(f"{official.url}/one", f"{official.url}/two/"))
    MEDMNIST.fetch(params, tmp_path)
    assert [path for path, _ in official.asked] == ["one/pathmnist.npz", "two/pathmnist.npz"]


def test_a_file_with_another_md5_is_refused(official: Server, tmp_path: Path) -> None:
    official.at("official/pathmnist.npz", answers(404))
    official.at("mirror/pathmnist.npz", gives(b"something else"))
    with pytest.raises(DataError, match=r"its MD5 must be \w+. Got") as caught:
        MEDMNIST.fetch(MedMNISTParams(mirrors=(f"{official.url}/mirror",)), tmp_path)
    assert "404 Not Found" in str(caught.value)
    assert "'path' parameter" in str(caught.value)
    assert not list(tmp_path.glob("*.npz*part"))


@pytest.mark.parametrize("whole_path", [True, False])
def test_a_local_file_needs_no_network(official: Server, tmp_path: Path, whole_path: bool) -> None:
    file = write(tmp_path, "pathmnist.npz", npz(arrays_like()))
    params = MedMNISTParams(path=file if whole_path else tmp_path)
    heard = Heard()
    with listening(heard):
        assert MEDMNIST.fetch(params, tmp_path / "unused") == (file,)
    assert not official.asked
    assert not heard.lines


def test_a_local_file_that_is_not_the_official_one_is_told_and_used(tmp_path: Path) -> None:
    file = write(tmp_path, "small.npz", npz(arrays_like()))
    heard = Heard()
    with listening(heard):
        assert MEDMNIST.fetch(MedMNISTParams(path=file), tmp_path) == (file,)
    assert "small.npz is not the official pathmnist.npz" in heard.lines[0]


def test_a_missing_local_file_is_told_with_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, "pathmnist.npz", b"")
    with pytest.raises(DataError, match=r"must name pathmnist_64\.npz .*npz files there: pathmnist\.npz"):
        MEDMNIST.fetch(MedMNISTParams(path=tmp_path, size=64), tmp_path)
    with pytest.raises(DataError, match=r"must name pathmnist_64\.npz"):
        MEDMNIST.facts(MedMNISTParams(path=tmp_path, size=64))
    assert MEDMNIST.facts(MedMNISTParams(path=tmp_path / "elsewhere", size=64)).size == (64, 64)


# ── Opening ─────────────────────────────────────────────────────────────────────────────────────


def test_rows_and_images(tmp_path: Path) -> None:
    arrays = arrays_like()
    samples = MEDMNIST.open(MedMNISTParams(), [write(tmp_path, "pathmnist.npz", npz(arrays))])
    assert [row.split for row in samples.rows] == ["train"] * 20 + ["val"] * 5 + ["test"] * 4
    assert samples.rows[12].source == "train/000012"
    assert samples.rows[21].source == "val/000001"
    labels = np.concatenate([arrays[f"{split}_labels"] for split in COUNTS]).ravel()
    assert [row.label for row in samples.rows] == labels.tolist()
    images = np.concatenate([arrays[f"{split}_images"] for split in COUNTS])
    for index in (28, 0, 19, 20, 24, 25, 3):
        image = samples.read(index)
        assert type(image) is np.ndarray
        np.testing.assert_array_equal(image, images[index])


def test_images_are_unpacked_once(tmp_path: Path) -> None:
    file = write(tmp_path, "pathmnist.npz", npz(arrays_like()))
    samples = MEDMNIST.open(MedMNISTParams(), [file])
    first = samples.read(0)
    file.unlink()
    np.testing.assert_array_equal(samples.read(0), first)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1)])
def test_grey_images_have_one_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    arrays = arrays_like(shape, classes=2)
    file = write(tmp_path, "breastmnist.npz", npz(arrays))
    image = MEDMNIST.open(MedMNISTParams(subset="breastmnist"), [file]).read(3)
    np.testing.assert_array_equal(image, arrays["train_images"][3].reshape(28, 28, 1))


def test_images_in_fortran_order(tmp_path: Path) -> None:
    arrays = arrays_like()
    fortran = {name: np.asfortranarray(array) for name, array in arrays.items()}
    samples = MEDMNIST.open(MedMNISTParams(), [write(tmp_path, "pathmnist.npz", npz(fortran))])
    np.testing.assert_array_equal(samples.read(7), arrays["train_images"][7])


@pytest.mark.parametrize(
    ("subset", "shape", "classes", "task"),
    [
        ("pathmnist", (28, 28, 3), 9, "multiclass"),
        ("chestmnist", (28, 28), 14, "multilabel"),
        ("retinamnist", (64, 64, 3), 5, "multiclass"),
        ("breastmnist", (28, 28), 2, "binary"),
    ],
)
def test_each_kind_of_set_is_packed(
    tmp_path: Path, subset: str, shape: tuple[int, ...], classes: int, task: str
) -> None:
    arrays = arrays_like(shape, classes)
    if task == "multilabel":
        arrays |= several_labels(classes)
    side = shape[0]
    write(tmp_path, f"{subset}{'' if side == 28 else f'_{side}'}.npz", npz(arrays))
    experiment = parse(
        {
            "name": "packed",
            "dataset": {"name": "medmnist", "subset": subset, "size": side, "path": str(tmp_path)},
            "loss": "bce" if task != "multiclass" else "cross_entropy",
        }
    )
    store = PackedStore(stages.preprocess(experiment, stages.fetch(experiment)).folder)
    assert (store.manifest.task, len(store.manifest.classes)) == (task, classes)
    assert (store.manifest.size, store.manifest.channels) == (shape[:2], shape[2] if len(shape) == 3 else 1)
    train = store.split("train")
    np.testing.assert_array_equal(train.labels, np.squeeze(arrays["train_labels"]))
    np.testing.assert_array_equal(
        train.gather(np.arange(20)), arrays["train_images"].reshape(20, side, side, -1)
    )


def test_of_several_labels_a_row_names_all_that_an_image_shows(tmp_path: Path) -> None:
    arrays = arrays_like((28, 28), 14) | several_labels(14)
    file = write(tmp_path, "chestmnist.npz", npz(arrays))
    rows = MEDMNIST.open(MedMNISTParams(subset="chestmnist"), [file]).rows
    assert [rows[index].label for index in (0, 1, 12)] == [tuple(range(14)), (), (0, 1, 2, 4, 10)]


def test_the_contract_holds_for_several_labels(tmp_path: Path) -> None:
    write(tmp_path, "chestmnist.npz", npz(arrays_like((28, 28), 14) | several_labels(14)))
    check_component(MEDMNIST, MedMNISTParams(subset="chestmnist", path=tmp_path))


def test_images_are_read_in_another_process_as_in_this_one(tmp_path: Path) -> None:
    samples = MEDMNIST.open(MedMNISTParams(), [write(tmp_path, "pathmnist.npz", npz(arrays_like()))])
    read = pickle.loads(pickle.dumps(samples.read))
    np.testing.assert_array_equal(read(27), samples.read(27))


# ── What is refused ─────────────────────────────────────────────────────────────────────────────


def test_all_that_is_wrong_with_the_arrays_is_told_at_once(tmp_path: Path) -> None:
    arrays = arrays_like() | {
        "train_images": np.zeros((20, 64, 64, 3), np.uint8),
        "val_images": np.zeros((5, 28, 28, 3), np.float32),
        "test_labels": np.array([[0], [9], [1], [2]], np.uint8),
        "val_labels": np.zeros((4, 1), np.uint8),
        "train_labels": np.zeros((20, 1), np.float64),
    }
    message = complaint(write(tmp_path, "odd.npz", npz(arrays)))
    assert "train_images must be N×28×28×3 uint8. Got 20×64×64×3 uint8" in message
    assert "val_images must be N×28×28×3 uint8. Got 5×28×28×3 float32" in message
    assert "val_labels must be 5×1 integers. Got 4×1 uint8" in message
    assert "train_labels must be 20×1 integers. Got 20×1 float64" in message
    assert "test_labels must lie in 0..8. Got 0..9" in message
    assert "Correct 'subset' or 'size'" in message


def test_labels_of_a_set_of_several_must_have_a_column_for_each_class(tmp_path: Path) -> None:
    wrong = {"val_labels": np.zeros((5, 1), np.uint8), "test_labels": np.full((4, 14), 2, np.uint8)}
    arrays = arrays_like((28, 28), 14) | several_labels(14) | wrong
    message = complaint(write(tmp_path, "odd.npz", npz(arrays)), subset="chestmnist")
    assert "val_labels must be 5×14 integers. Got 5×1 uint8" in message
    assert "test_labels must lie in 0..1. Got 2..2" in message
    assert "train_labels" not in message


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    arrays = arrays_like()
    del arrays["val_labels"], arrays["test_images"]
    message = complaint(write(tmp_path, "odd.npz", npz(arrays)))
    assert "it must have arrays val_labels, test_images" in message


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    labels = np.array([[object()] for _ in range(4)])
    assert "Got 4×1 object" in complaint(
        write(tmp_path, "evil.npz", npz(arrays_like() | {"test_labels": labels}))
    )
    images = np.array([None] * 4)
    assert "Got 4 object" in complaint(
        write(tmp_path, "evil.npz", npz(arrays_like() | {"test_images": images}))
    )


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_a_damaged_file_is_refused(tmp_path: Path, keep: int) -> None:
    file = write(tmp_path, "cut.npz", npz(arrays_like())[:keep])
    assert "damaged or no npz file" in complaint(file)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_within_the_images_is_found(tmp_path: Path, save: Any) -> None:
    file = tmp_path / "pathmnist.npz"
    save(file, **arrays_like())
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo("train_images.npy").header_offset
    content = bytearray(file.read_bytes())
    content[start + 5000] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32|Error -3 while decompressing"):
        MEDMNIST.open(MedMNISTParams(), [file]).read(0)
