"""Images on their way to the network."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from histoflow.data.incoming import Image, Incoming, Reader, decoded, image_files
from histoflow.errors import UserError

READ = Reader((), (8, 8, 3))


def write(path: Path, side: int = 8, channels: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, channels), np.uint8)
    Pillow.fromarray(pixels.squeeze()).save(path)
    return path


def test_files_and_folders_are_found_once_and_sorted(tmp_path: Path) -> None:
    inner, outer, text = (
        write(tmp_path / "b" / "c" / "1.PNG"),
        write(tmp_path / "b" / "0.tif"),
        tmp_path / "b/x.txt",
    )
    text.write_text("no image")
    alone = write(tmp_path / "a.png")
    assert image_files([tmp_path / "b", alone, inner]) == [alone, outer, inner]


def test_a_place_that_is_not_there_or_has_no_image_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no .*nowhere"):
        image_files([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"at least one image \(\.jpg.*\)\. Got .* Name another folder"):
        image_files([tmp_path])


def test_what_cannot_be_used_comes_in_its_place_with_the_problem(tmp_path: Path) -> None:
    paths = [write(tmp_path / "0.png"), tmp_path / "1.png", write(tmp_path / "2.png", 9), tmp_path / "3.png"]
    paths[1].write_bytes(b"no image")
    found = list(decoded(paths, READ, threads=2, ahead=2))
    assert [one.name for one in found] == [str(path) for path in paths]
    assert [one.problem is None for one in found] == [True, False, False, False]
    assert [one.other_size for one in found] == [False, False, True, False]
    assert found[2].problem == (
        "it is 9×9 pixels with 3 channels after preprocessing, and the network was trained on 8×8 pixels "
        "with 3 channels"
    )
    assert "Cannot read" in str(found[3].problem)


def test_what_a_step_of_preprocessing_cannot_do_is_the_problem_of_that_image(tmp_path: Path) -> None:
    def strict(image: Image) -> Image:
        if image[0, 0, 0] == 255:
            raise ZeroDivisionError("no tissue")
        return image

    paths = [write(tmp_path / "0.png"), tmp_path / "1.png", write(tmp_path / "2.png")]
    Pillow.new("RGB", (8, 8), "white").save(paths[1])
    found = list(decoded(paths, Reader((strict,), (8, 8, 3)), threads=2, ahead=2))
    assert [one.problem for one in found] == [
        None, "preprocessing failed with ZeroDivisionError: no tissue", None,
    ]  # fmt: skip


@pytest.mark.parametrize("end", [KeyboardInterrupt, MemoryError])
def test_what_ends_the_whole_is_no_problem_of_an_image(end: type[BaseException]) -> None:
    def ended(image: Image) -> Image:
        raise end

    with pytest.raises(end):
        Reader((ended,), (8, 8, 3)).of(np.zeros((8, 8, 3), np.uint8), "a.png")


def test_a_network_for_one_channel_takes_grey_images(tmp_path: Path) -> None:
    read = Reader((), (8, 8, 1))
    grey = read(write(tmp_path / "grey.png", channels=1)).image
    assert grey is not None
    assert grey.shape == (8, 8, 1)
    assert read(write(tmp_path / "colour.png")).other_size


def test_only_a_few_images_are_decoded_ahead_and_none_after_the_end() -> None:
    begun = threading.Semaphore(0)

    class Counting(Reader):
        def __call__(self, path: Path) -> Incoming:
            begun.release()
            return Incoming(str(path), None)

    images = decoded([Path(str(index)) for index in range(100)], Counting((), (8, 8, 3)), threads=2, ahead=5)
    assert [next(images).name for _ in range(3)] == ["0", "1", "2"]
    images.close()
    assert 3 <= sum(begun.acquire(blocking=False) for _ in range(100)) <= 3 + 5
