"""Packing by several processes, interrupted, killed and taken up again, comes to the same store."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import packing_support
from histoflow import files
from histoflow.data import chunks
from histoflow.data.store import PackedStore
from histoflow.errors import DataError, StorageError, TeamError
from packing_support import COUNT, PER_CHUNK, SIDE, image, one_is_damaged, packed, samples

TESTS = str(Path(packing_support.__file__).parent)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leftovers(home: Path) -> list[str]:
    return [name for name in os.listdir(home) if name.startswith(".")]


def decoded(home: Path) -> list[Path]:
    return sorted(home.glob(".*.decoded/*.npz"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store as one process packs it in one go."""
    return content(packed(tmp_path_factory.mktemp("whole")))


def children() -> list[psutil.Process]:
    """Those that decode: not others' servers, nor the one that only clears up after them."""
    found = psutil.Process().children(recursive=True)
    return [child for child in found if "popen_loky" in " ".join(child.cmdline())]


def test_several_processes_pack_the_same_bytes_and_do_not_load_torch(
    tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are started where that pays, and then this process reads a part of the images."""
    monkeypatch.setattr("histoflow.data.preparing.cores", lambda: 2)
    monkeypatch.setattr("histoflow.data.preparing.WORTH_PROCESSES", 0.0)
    parent, seen = os.getpid(), []

    def read(index: int) -> Any:
        seen.append(index)  # in another process, on a list of its own
        if os.getpid() != parent and "torch" in sys.modules:
            raise DataError("torch was imported")
        return one_is_damaged(index)

    assert content(packed(tmp_path, read, processes=None)) == expected
    assert PER_CHUNK <= len(seen) < COUNT
    assert leftovers(tmp_path) == []
    assert children() == []


def test_an_error_in_a_process_ends_all_of_them_with_its_message(tmp_path: Path) -> None:
    def read(index: int) -> Any:
        return image(index) if index != 130 else image(index)[:4]

    with pytest.raises(DataError, match=r"image-130 is 4×8 with 3 channels, image-0 is 8×8"):
        packed(tmp_path, read, processes=2)
    assert leftovers(tmp_path) == []  # no other packing of these data could use it
    assert children() == []


def test_a_process_that_is_killed_is_told_and_what_was_decoded_serves_the_next_packing(
    tmp_path: Path, expected: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    parent = os.getpid()

    def read(index: int) -> Any:
        if index == 50 and os.getpid() != parent:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        return one_is_damaged(index)

    with pytest.raises(TeamError, match="was killed, perhaps for memory.*what was decoded is kept"):
        packed(tmp_path, read, processes=2)
    assert children() == []
    assert decoded(tmp_path)
    with caplog.at_level(logging.INFO, "histoflow"):
        assert content(packed(tmp_path)) == expected
    assert any("images stand decoded already" in line for line in caplog.messages)
    assert leftovers(tmp_path) == []


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import packing_support as made

seen = []

def read(index):
    seen.append(index)
    time.sleep(0.004)
    return made.one_is_damaged(index)

made.packed(Path(sys.argv[2]), read, processes=int(sys.argv[3]))
print(len(seen))
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_a_packing_killed_midway_goes_on_and_comes_to_the_same_bytes(
    tmp_path: Path, expected: dict[str, bytes], processes: int
) -> None:
    command = [sys.executable, "-c", KILLED, TESTS, str(tmp_path), str(processes)]
    packing = psutil.Popen(command)
    while len(decoded(tmp_path)) < 3 and packing.poll() is None:
        time.sleep(0.01)
    workers = packing.children(recursive=True)
    packing.kill()
    packing.wait()
    assert 3 <= len(decoded(tmp_path)) < COUNT // PER_CHUNK
    assert not psutil.wait_procs(workers, timeout=10)[1]

    read: list[int] = []
    assert content(packed(tmp_path, lambda index: read.append(index) or one_is_damaged(index))) == expected
    assert len(read) <= COUNT - 3 * PER_CHUNK + PER_CHUNK  # the first few are read to see how long it takes
    assert leftovers(tmp_path) == []


def test_of_two_processes_that_want_the_same_store_one_builds_it_and_both_get_it_whole(
    tmp_path: Path, expected: dict[str, bytes]
) -> None:
    command = [sys.executable, "-c", KILLED, TESTS, str(tmp_path), "1"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    read = [int(process.communicate(timeout=120)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(read) == [0, COUNT]
    (store,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert content(store) == expected


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    def read(index: int) -> Any:
        if index == 130:
            raise KeyboardInterrupt
        return one_is_damaged(index)

    with pytest.raises(KeyboardInterrupt):
        packed(tmp_path, read)
    assert len(decoded(tmp_path)) == 6
    return tmp_path


def damages(path: Path) -> Iterator[Path]:
    """The same file, damaged in one way after the other."""
    whole = path.read_bytes()
    middle = len(whole) // 2
    for bad in (
        whole[:middle],
        b"",
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
    ):
        path.write_bytes(bad)
        yield path


@pytest.mark.parametrize("suffix", [".npz", ".train.npy", ".test.npy"])
def test_a_damaged_chunk_is_decoded_anew(interrupted: Path, expected: dict[str, bytes], suffix: str) -> None:
    table = decoded(interrupted)[3]
    start, stop = (int(number) for number in table.stem.split("-"))
    digest = str(chunks.Stored(table.parent, start, stop).table()["rows"])
    assert chunks.Stored(table.parent, start, stop).is_whole(digest)
    for _ in damages(table.with_suffix(suffix)):
        assert not chunks.Stored(table.parent, start, stop).is_whole(digest)
    assert content(packed(interrupted)) == expected


def test_other_splits_of_the_same_images_are_packed_beside_what_was_interrupted(
    interrupted: Path, expected: dict[str, bytes]
) -> None:
    other = packed(interrupted, val=0.2, test=0.3, seed=5)
    assert len(decoded(interrupted)) == 6
    assert content(packed(interrupted)) == expected
    assert content(other) != expected


def test_chunks_of_other_rows_are_decoded_anew(interrupted: Path) -> None:
    """A data set that lists its files in another order the next time must not give images others' labels."""
    made = samples()
    turned = replace(made, rows=made.rows[::-1], read=lambda index: image(COUNT - 1 - index))
    store = PackedStore(packed(interrupted, made=turned))
    train = store.split("train")
    found = train.gather(np.arange(len(train)))
    for place, source in enumerate(train.sources.tolist()):
        number = int(source.removeprefix("image-"))
        assert np.array_equal(found[place], image(number))
        assert train.labels[place] == number % 2


class Stays:
    """Reads images, but cannot be sent to another process."""

    def __call__(self, index: int) -> Any:
        return one_is_damaged(index)

    def __reduce__(self) -> Any:
        raise TypeError("it holds an open file")


def test_what_cannot_be_sent_to_other_processes_is_read_in_this_one_which_says_so(
    tmp_path: Path, expected: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "histoflow"):
        assert content(packed(tmp_path, Stays(), processes=2)) == expected
    told = [line for line in caplog.messages if "by this process alone" in line]
    assert len(told) == 1
    assert "it holds an open file" in told[0]


def packed_where_no_file_may_have_more_than(size: int, home: Path, processes: int) -> str:
    """The error: the limit on a file's size is the system's own way to refuse a write, without a small disk."""
    script = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {TESTS!r})
import packing_support as made
from histoflow.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
try:
    made.packed(Path({str(home)!r}), processes={processes})
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_full_disk_is_told_by_the_processes_too(tmp_path: Path) -> None:
    told = packed_where_no_file_may_have_more_than(3000, tmp_path, processes=2)
    assert "No room to write" in told
    assert "is kept" not in told
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_told_with_what_is_kept_and_how_to_give_it_up(tmp_path: Path) -> None:
    """Each chunk is smaller, the images of train together are not."""
    told = packed_where_no_file_may_have_more_than(20_000, tmp_path, processes=1)
    (kept,) = tmp_path.glob(".*.decoded")
    size = files.in_units(files.folder_size(kept))
    assert f"What was decoded is kept for that: {size} in {kept}. To give it up instead" in told
    assert "histoflow gc --young --remove" in told


def test_room_for_what_stands_between_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = COUNT * SIDE * SIDE * 3
    monkeypatch.setattr(files, "free_bytes", lambda path: once + 1)
    with pytest.raises(StorageError, match="Packing needs about"):
        packed(tmp_path)
    assert leftovers(tmp_path) == []
