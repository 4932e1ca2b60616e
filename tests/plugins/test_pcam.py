"""PatchCamelyon, with small files of the real format from a folder and from a real server."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import pcam_files
from histoflow import DataError, Facts, Samples, stages
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.experiment import load
from histoflow.progress import LogListener, listening
from histoflow.testing import check_component
from histoflow_plugins import _pcam_files as official
from histoflow_plugins import pcam
from histoflow_plugins.pcam import PCAM, PCamParams
from imagenet import serves
from pcam_files import COUNTS, arrays, hdf5, name, pack, write
from servers import Behaviour, Server, breaks_off, gives, in_turn, serving

SPLITS = {"train": "train", "valid": "val", "test": "test"}
NAMES = [name(split, part) for split in COUNTS for part in official.PARTS]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return pcam_files.contents()


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    return write(tmp_path / "pcam", files)


@pytest.fixture
def published(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """The small files are what was published."""
    for split, ours in SPLITS.items():
        for part in official.PARTS:
            content = files[name(split, part)]
            packed = md5(pack(content)) if part.endswith(".h5") else ""
            monkeypatch.setitem(official.PUBLISHED, (ours, part), official.Published(md5(content), packed))  # type: ignore[arg-type]


@pytest.fixture
def server(published: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Stands where the official files are, and has none of them yet."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        monkeypatch.setattr(official, "OFFICIAL", f"{running.url}/official/{{}}")
        yield running


class Heard(LogListener):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def said() -> Iterator[list[str]]:
    heard = Heard()
    with listening(heard):
        yield heard.lines


def messages(said: list[str]) -> list[str]:
    """Without the progress of work."""
    return [line for line in said if not line.startswith(("Comparing", "Unpacking"))]


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def offer(
    server: Server,
    place: str,
    files: Mapping[str, bytes],
    behave: Callable[[bytes], Behaviour] = gives,
) -> None:
    for file, content in files.items():
        packed = file.endswith(".h5")
        server.at(f"{place}/{file}{'.gz' if packed else ''}", behave(pack(content) if packed else content))


def exchanged(files: Mapping[str, bytes], *parts: str) -> dict[str, bytes]:
    """With validation and test under each other's names."""
    swap = {name("valid", part): name("test", part) for part in parts or official.PARTS}
    swap |= {test: val for val, test in swap.items()}
    return {swap.get(file, file): content for file, content in files.items()}


def opened(path: Path | None, scratch: Path, **params: Any) -> Samples:
    chosen = PCamParams(path=path, **params)
    return PCAM.open(chosen, PCAM.fetch(chosen, scratch))


def complaint(path: Path, scratch: Path) -> str:
    with pytest.raises(DataError) as caught:
        opened(path, scratch)
    return str(caught.value)


def brought(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def assert_official(samples: Samples) -> None:
    made = arrays()
    images = np.concatenate([made[f"{split}_x"] for split in COUNTS])
    labels = np.concatenate([made[f"{split}_y"].ravel() for split in COUNTS])
    assert [row.split for row in samples.rows] == [
        SPLITS[split] for split in COUNTS for _ in range(COUNTS[split])
    ]
    assert [row.label for row in samples.rows] == labels.tolist()
    assert samples.rows[25].group == "camelyon16_valid_000"
    for index in (37, 0, 23, 24, 31, 32, 5):
        np.testing.assert_array_equal(samples.read(index), images[index])


# ── Facts ───────────────────────────────────────────────────────────────────────────────────────


def test_facts() -> None:
    facts = PCAM.facts(PCamParams())
    assert facts == Facts(
        task="binary",
        classes=("normal", "tumour"),
        channels=3,
        size=(96, 96),
        images=327_680,
        official_split=True,
        groups=True,
        licence="CC0 1.0",
        citation=pcam.CITATION,
    )


def test_facts_ask_whether_a_folder_that_is_there_has_the_files(folder: Path, tmp_path: Path) -> None:
    assert PCAM.facts(PCamParams(path=tmp_path / "elsewhere")).official_split
    assert PCAM.facts(PCamParams(path=folder)).groups
    (folder / name("valid", "y.h5")).unlink()
    with pytest.raises(DataError, match=f"lacks {name('valid', 'y.h5')}. Correct the path"):
        PCAM.facts(PCamParams(path=folder))


def test_the_published_checksums_are_those_measured_and_not_those_first_printed() -> None:
    assert official.PUBLISHED["test", "x.h5"].gzip_md5 == "d8c2d60d490dbd479f8199bdfa0cf6ec"
    assert official.PUBLISHED["val", "y.h5"].gzip_md5 == "2b85f58b927af9964a4c15b8f7e8f179"


@pytest.mark.parametrize("with_slides", [True, False])
def test_it_keeps_the_contract_with_slides_and_without(folder: Path, with_slides: bool) -> None:
    if not with_slides:
        (folder / name("train", "meta.csv")).unlink()
    assert PCAM.facts(PCamParams(path=folder)).groups is with_slides
    check_component(PCAM, PCamParams(path=folder))


# ── From the network ────────────────────────────────────────────────────────────────────────────


def test_brings_all_files_unpacked_and_keeps_no_archive(
    server: Server, files: dict[str, bytes], tmp_path: Path, said: list[str]
) -> None:
    offer(server, "official", files)
    assert_official(opened(None, tmp_path))
    assert brought(tmp_path) == files
    assert any(line.startswith(f"Unpacking {name('train', 'x.h5')}.gz") for line in said)


def test_what_is_there_is_not_asked_for_again_unless_it_was_damaged(
    server: Server, files: dict[str, bytes], tmp_path: Path
) -> None:
    offer(server, "official", files)
    opened(None, tmp_path)
    server.asked.clear()
    with (tmp_path / name("valid", "x.h5")).open("r+b") as file:
        file.seek(5000)
        file.write(b"!")
    opened(None, tmp_path)
    assert [path for path, _ in server.asked] == [f"official/{name('valid', 'x.h5')}.gz"]
    assert brought(tmp_path) == files


def test_mirrors_come_first_and_a_broken_connection_goes_on(
    server: Server, files: dict[str, bytes], tmp_path: Path
) -> None:
    offer(server, "mirror", files, lambda body: in_turn(breaks_off(body, len(body) // 2), gives(body)))
    write(tmp_path, {file: content for file, content in files.items() if "train_x" not in file})
    assert_official(opened(None, tmp_path, mirrors=(f"{server.url}/mirror/",)))
    asked = f"mirror/{name('train', 'x.h5')}.gz"
    assert server.asked == [(asked, None), (asked, len(pack(files[name("train", "x.h5")])) // 2)]


@pytest.mark.parametrize("parts", [("x.h5", "y.h5", "meta.csv"), ("x.h5",)])
def test_a_server_that_exchanged_validation_and_test_gives_the_same_data(
    server: Server, files: dict[str, bytes], tmp_path: Path, parts: tuple[str, ...]
) -> None:
    offer(server, "official", exchanged(files, *parts))
    assert_official(opened(None, tmp_path))
    assert brought(tmp_path) == files


def test_a_third_content_is_refused(server: Server, files: dict[str, bytes], tmp_path: Path) -> None:
    offer(server, "official", files | {name("valid", "y.h5"): files[name("train", "y.h5")]})
    with pytest.raises(DataError, match=r"official/\S+_valid_y\.h5\.gz\S*: its MD5 must be") as caught:
        opened(None, tmp_path)
    assert "_test_y.h5.gz: its MD5 must be" in str(caught.value)
    assert set(brought(tmp_path)) == set(NAMES[:4])


# ── From a folder ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("gzipped", [(), NAMES[:2], [file for file in NAMES if file.endswith(".h5")]])
def test_a_folder_may_hold_gzip_files(
    files: dict[str, bytes], tmp_path: Path, gzipped: list[str], said: list[str]
) -> None:
    path, scratch = write(tmp_path / "own", files, gzipped), tmp_path / "scratch"
    before = sorted(path.iterdir())
    for _ in range(2):
        assert_official(opened(path, scratch))
    assert sorted(path.iterdir()) == before
    assert sum(line.startswith("Unpacking") for line in said) == len(gzipped)


def test_a_damaged_gzip_file_leaves_nothing(files: dict[str, bytes], tmp_path: Path) -> None:
    path = write(tmp_path / "own", files, NAMES[:1])
    archive = path / f"{NAMES[0]}.gz"
    archive.write_bytes(archive.read_bytes()[:-500])
    assert f"{archive} is damaged or no gzip file" in complaint(path, tmp_path / "scratch")
    left = [entry for entry in (tmp_path / "scratch").rglob("*") if entry.is_file()]
    assert [entry.suffix for entry in left] == [".lock"]


def test_all_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    for file in (name("train", "x.h5"), name("test", "y.h5")):
        (folder / file).unlink()
    message = complaint(folder, tmp_path)
    assert f"lacks {name('train', 'x.h5')}, {name('test', 'y.h5')}. Correct the path" in message
    assert "is no folder, and so lacks" in complaint(tmp_path / "nothing", tmp_path)


def test_without_all_slides_groups_are_unknown_and_that_is_said_once(
    published: None, folder: Path, tmp_path: Path, said: list[str]
) -> None:
    (folder / name("valid", "meta.csv")).unlink()
    assert {row.group for row in opened(folder, tmp_path).rows} == {None}
    assert messages(said) == [
        f"{folder} lacks {name('valid', 'meta.csv')}: the slide of each image is not known."
    ]


@pytest.mark.parametrize("parts", [("x.h5", "y.h5", "meta.csv"), ("x.h5",)])
def test_published_files_under_each_others_names_are_used_as_what_they_are(
    published: None, files: dict[str, bytes], tmp_path: Path, said: list[str], parts: tuple[str, ...]
) -> None:
    assert_official(opened(write(tmp_path / "own", exchanged(files, *parts)), tmp_path))
    assert [line.split(":")[0] for line in messages(said)] == [
        f"{name('valid', part)} and {name('test', part)} are exchanged" for part in parts
    ]


def test_files_that_were_never_published_are_named_and_used(
    published: None, files: dict[str, bytes], tmp_path: Path, said: list[str]
) -> None:
    assert_official(opened(write(tmp_path / "official", files), tmp_path))
    assert messages(said) == []
    own = files | {changed: files[changed] + b"\n" for changed in (NAMES[0], NAMES[-1])}
    samples = opened(write(tmp_path / "own", own, NAMES[:1]), tmp_path)
    assert len(samples.rows) == sum(COUNTS.values())
    assert messages(said) == [
        f"By MD5 not the published files of PatchCamelyon: {NAMES[0]}, {NAMES[-1]}. "
        f"They are used as they are; scores need not compare with those of others."
    ]


def test_the_images_of_test_in_place_of_those_of_train_are_refused(
    published: None, files: dict[str, bytes], tmp_path: Path
) -> None:
    own = files | {name("train", part): files[name("test", part)] for part in official.PARTS}
    message = complaint(write(tmp_path / "own", own), tmp_path)
    assert f"{NAMES[0]} is, by its MD5, what was published as {name('test', 'x.h5')}" in message


def test_one_content_under_both_names_is_refused(
    published: None, files: dict[str, bytes], tmp_path: Path
) -> None:
    own = files | {name("valid", part): files[name("test", part)] for part in official.PARTS}
    message = complaint(write(tmp_path / "own", own), tmp_path)
    for part in official.PARTS:
        assert (
            f"{tmp_path / 'own' / name('valid', part)} is, by its MD5, what was published as {name('test', part)}"
            in message
        )


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("chunks", [None, (1, 96, 96, 3), (50, 96, 96, 3), (7, 48, 96, 1)])
def test_images_are_read_alike_however_the_file_is_cut(
    tmp_path: Path, chunks: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pcam, "_BLOCK", 10)
    images = np.random.default_rng(1).integers(0, 256, (60, 96, 96, 3), np.uint8)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=images, chunks=chunks)
    reader = pcam.Reader((tmp_path / "x.h5",), (60,))
    for index in [*range(60), 59, 0, 30]:
        np.testing.assert_array_equal(reader(index), images[index])


def test_sequential_reading_opens_the_file_once_a_block(folder: Path, tmp_path: Path) -> None:
    samples = opened(folder, tmp_path)
    first = samples.read(0)
    (folder / name("train", "x.h5")).unlink()
    assert samples.read(23).shape == first.shape
    first[:] = 0
    assert samples.read(0).any(), "an image given away is nobody else's"
    with pytest.raises(DataError, match="train_x.h5 is damaged or no HDF5 file"):
        pickle.loads(pickle.dumps(samples.read))(0)


def test_threads_may_share_the_reader(folder: Path, tmp_path: Path) -> None:
    samples = opened(folder, tmp_path)
    rows = list(range(38)) * 3
    expected = [int(samples.read(row).sum()) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda row: int(samples.read(row).sum()), rows)) == expected


# ── What is refused ─────────────────────────────────────────────────────────────────────────────


def test_all_that_is_wrong_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    made = arrays()
    write(
        folder,
        {
            name("train", "x.h5"): hdf5(x=made["train_x"][:, :64]),
            name("train", "y.h5"): hdf5(y=made["train_y"].astype(np.float32)),
            name("train", "meta.csv"): b"slide\na\n",
            name("valid", "x.h5"): hdf5(images=made["valid_x"]),
            name("valid", "y.h5"): hdf5(y=made["valid_y"] * 3),
            name("test", "y.h5"): hdf5(y=made["test_y"][:-1]),
        },
    )
    message = complaint(folder, tmp_path)
    assert f"'x' in {folder / name('train', 'x.h5')} must be N×96×96×3 uint8. Got 24×64×96×3 uint8" in message
    assert "train_y.h5 must be N×1×1×1 integers. Got 24×1×1×1 float32" in message
    assert "train_meta.csv must have a column 'wsi'. Got slide" in message
    assert "valid_x.h5 must hold an array 'x'. It holds 'images'" in message
    assert "valid_y.h5 must be 0 or 1. Got 3 as well" in message
    assert "test_y.h5 must have a label for each of 6 images. Got 5" in message
    assert "test_meta.csv must have a row for each of 5 images. Got 6" in message
    assert "Delete what is damaged and fetch it again, or correct 'path'" in message


@pytest.mark.parametrize("keep", [0, 100, 3000, 100_000])
def test_a_truncated_file_is_refused_by_name(folder: Path, tmp_path: Path, keep: int) -> None:
    file = folder / name("test", "x.h5")
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file} is damaged or no HDF5 file" in complaint(folder, tmp_path)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (b"", "must have a column 'wsi'. Got nothing"),
        (b"wsi\na\n", "must have a row for each of 6 images. Got 1"),
        (b"wsi,x\n" + b"a,1\n" * 5 + b",1\n", "must name the slide of each image. Row 6 names none"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_slides_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, table: bytes, expected: str
) -> None:
    (folder / name("test", "meta.csv")).write_bytes(table)
    assert expected in complaint(folder, tmp_path)


# ── The recipe ──────────────────────────────────────────────────────────────────────────────────


def test_the_recipe_trains_a_head_on_the_imagenet_layers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["training.epochs=1", "training.batch_size=12", "compute.device=cpu"]
    experiment = load("pcam-transfer", [f"dataset.path={folder}", *settings])
    run = stages.start(experiment, "run")
    packed = stages.preprocess(experiment, stages.fetch(experiment))
    manifest = PackedStore(packed.folder).manifest
    assert {split: manifest.splits[split].images for split in manifest.splits} == {
        "train": 24,
        "val": 8,
        "test": 6,
    }
    assert manifest.splits["train"].groups == 6
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serving() as running:
        published = serves(running, monkeypatch)("resnet18").state_dict()
        assert stages.train(experiment, packed, run).epochs == 1
    assert set(stages.evaluate(run).metrics["scores"]) == {"accuracy", "precision", "recall", "f1", "roc_auc"}
    assert run.history()[0]["val_roc_auc"] is not None
    assert_only_the_head_was_trained(run.folder, published)


def assert_only_the_head_was_trained(run: Path, published: Mapping[str, Tensor]) -> None:
    best = checkpoint.find(run / "checkpoints", "best")
    assert best is not None
    weights = load_file(best.folder / "weights.safetensors")
    assert {name.partition(".")[0] for name in weights} == {"base", "head"}
    for layer in published.keys() - {"fc.weight", "fc.bias"}:
        assert torch.equal(weights[f"base.{layer}"], published[layer]), layer
