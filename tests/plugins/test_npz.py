"""Arrays of npz files, mapped where they lie or unpacked once for all processes."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histoflow import DataError
from histoflow_plugins._npz import NpzArrays, damage_told

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
Save = Callable[..., None]


def saved(folder: Path, save: Save) -> Path:
    path = folder / "images.npz"
    save(path, images=IMAGES, fortran=np.asfortranarray(IMAGES[:5]), none=IMAGES[:0])
    return path


def unpacked(home: Path) -> list[str]:
    return sorted(path.name for path in home.rglob("*.npy"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_what_was_saved(tmp_path: Path, save: Save) -> None:
    arrays = NpzArrays(saved(tmp_path, save))
    arrays.check_stored("images", "fortran")
    np.testing.assert_array_equal(arrays["images"], IMAGES)
    np.testing.assert_array_equal(arrays["fortran"], IMAGES[:5])
    np.testing.assert_array_equal(arrays.whole("images"), IMAGES)
    assert arrays["none"].shape == (0, 16, 16, 3)
    assert not arrays["images"].flags.writeable
    assert (arrays.headers["images"].shape, arrays.headers["images"].dtype) == (IMAGES.shape, "uint8")


def test_what_was_stored_as_it_is_takes_no_further_room(tmp_path: Path, home: Path) -> None:
    arrays = NpzArrays(saved(tmp_path, np.savez))
    assert arrays["images"][3].tolist() == IMAGES[3].tolist()
    assert unpacked(home) == []


def test_unpacked_arrays_go_with_whoever_opened_the_file_and_copies_take_nothing_away(
    tmp_path: Path, home: Path
) -> None:
    arrays = NpzArrays(saved(tmp_path, np.savez_compressed))
    copy = pickle.loads(pickle.dumps(arrays))
    image = copy["images"][7]
    del copy
    gc.collect()
    assert len(unpacked(home)) == 1
    np.testing.assert_array_equal(arrays["images"][7], image)
    del arrays
    gc.collect()
    assert unpacked(home) == []
    np.testing.assert_array_equal(image, IMAGES[7])  # a map outlives the name of its file


def test_what_a_killed_process_left_is_used_and_removed_by_the_next(tmp_path: Path, home: Path) -> None:
    killed = pickle.loads(pickle.dumps(NpzArrays(saved(tmp_path, np.savez_compressed))))
    killed["images"]
    (left,) = home.rglob("*.npy")
    left.with_name(f".{left.name}.x1y2").write_bytes(b"half")
    written = left.stat().st_mtime_ns
    arrays = NpzArrays(tmp_path / "images.npz")
    np.testing.assert_array_equal(arrays["images"], IMAGES)
    assert left.stat().st_mtime_ns == written
    del arrays
    gc.collect()
    assert not left.parent.exists()


def _sum_of(arrays: NpzArrays, row: int) -> int:
    return int(arrays["images"][row].sum())


def test_several_processes_read_and_one_unpacks(tmp_path: Path, home: Path) -> None:
    arrays = NpzArrays(saved(tmp_path, np.savez_compressed))
    with multiprocessing.get_context("fork").Pool(3) as pool:
        found = pool.starmap(_sum_of, [(arrays, row) for row in range(12)], chunksize=1)
    assert found == [int(image.sum()) for image in IMAGES[:12]]
    assert len(unpacked(home)) == 1


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_names_with_folders_are_only_names(tmp_path: Path, home: Path, save: Save) -> None:
    save(tmp_path / "images.npz", **{"images": IMAGES[:1], "b/images": IMAGES[1:3], "../../../x": IMAGES[3:]})
    before = {path for path in tmp_path.rglob("*") if home not in path.parents}
    arrays = NpzArrays(tmp_path / "images.npz")
    for name, expected in (("b/images", IMAGES[1:3]), ("images", IMAGES[:1]), ("../../../x", IMAGES[3:])):
        np.testing.assert_array_equal(arrays[name], expected)
        np.testing.assert_array_equal(arrays.whole(name), expected)
    assert {path for path in tmp_path.rglob("*") if home not in path.parents} <= {*before, home}
    del arrays
    gc.collect()
    assert unpacked(home) == []


def test_a_file_that_was_replaced_is_unpacked_anew(tmp_path: Path) -> None:
    first = NpzArrays(saved(tmp_path, np.savez_compressed))
    assert first["images"][0, 0, 0, 0] == IMAGES[0, 0, 0, 0]
    np.savez_compressed(tmp_path / "images.npz", images=IMAGES[::-1])
    np.testing.assert_array_equal(NpzArrays(tmp_path / "images.npz")["images"], IMAGES[::-1])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_is_told_with_the_name_of_the_file(tmp_path: Path, save: Save) -> None:
    path = saved(tmp_path, save)
    content = bytearray(path.read_bytes())
    content[8000] ^= 255
    path.write_bytes(content)
    arrays: Any = NpzArrays(path)
    with pytest.raises(DataError, match=r"images\.npz is damaged or no npz file"):
        arrays.check_stored("images")
        arrays["images"]


def test_what_is_no_npz_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"images\.npz is damaged or no npz file"):
        NpzArrays(path)


def damaged_header(content: bytearray) -> None:
    at = content.index(b"{'descr'")
    content[at : at + 1] = b"("  # text that python cannot take apart


def encrypted(content: bytearray) -> None:
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1


def packed_in_an_unknown_way(content: bytearray) -> None:
    content[8] = 97
    content[content.index(b"PK\x01\x02") + 10] = 97


@pytest.mark.parametrize("damage", [damaged_header, encrypted, packed_in_an_unknown_way])
def test_other_damage_is_told_likewise(tmp_path: Path, damage: Callable[[bytearray], None]) -> None:
    np.savez(tmp_path / "images.npz", images=IMAGES)
    content = bytearray((tmp_path / "images.npz").read_bytes())
    damage(content)
    (tmp_path / "images.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"images\.npz is damaged or no npz file"):
        NpzArrays(tmp_path / "images.npz")


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone"), PermissionError(13, "closed")])
def test_what_is_no_damage_is_not_called_so(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(type(error)), damage_told(tmp_path / "images.npz"):
        raise error
