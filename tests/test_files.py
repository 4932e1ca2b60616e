"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from histoflow import files
from histoflow.errors import StorageError


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    files.write_json(path, {"ä": 1})
    assert files.read_json(path) == {"ä": 1}
    assert os.listdir(path.parent) == ["a.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), files.atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.atomic_folder(tmp_path / "store") as temporary:
        (temporary / "part").write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_folder_appears_whole_and_readable(tmp_path: Path) -> None:
    with files.atomic_folder(tmp_path / "store") as temporary:
        (temporary / "part").write_text("all")
        assert not (tmp_path / "store").exists()
    assert (tmp_path / "store" / "part").read_text() == "all"
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o755


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".store.x1y2").mkdir()
    (tmp_path / ".store.x1y2" / "part").write_text("half")
    (tmp_path / ".store.tmp").write_text("half")
    (tmp_path / ".other.tmp").write_text("not ours")
    files.remove_unfinished(tmp_path / "store")
    assert os.listdir(tmp_path) == [".other.tmp"]


def test_a_full_disk_is_told_as_such_with_the_way_out(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"No room to write .*a\.txt.*[kMG]B are free.*HISTOFLOW_HOME"),
        files.atomic_file(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("count", "told"), [(999, "999 bytes"), (4_700_000, "4.7 MB"), (12_300, "12.3 kB"), (10**10, "10.0 GB")]
)
def test_bytes_are_told_in_the_unit_of_their_size(count: int, told: str) -> None:
    assert files.in_units(count) == told


def test_the_room_on_a_small_disk_is_no_0_gb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda path: 40_000)
    with pytest.raises(StorageError, match=r"40\.0 kB are free there"), files.storage_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_failures_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), files.storage_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    files.refuse_newer(tmp_path, 1, 1, StorageError)
    with pytest.raises(StorageError, match="made by a newer histoflow .schema 2; this one reads up to 1"):
        files.refuse_newer(tmp_path, 2, 1, StorageError)


def test_the_digest_of_data_does_not_depend_on_the_order_of_keys() -> None:
    assert files.digest_of_data({"a": 1, "b": 2}) == files.digest_of_data({"b": 2, "a": 1})
    assert files.digest_of_data({"a": 1}) != files.digest_of_data({"a": 2})
