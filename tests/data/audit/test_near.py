"""Changed copies are found whatever was done to them, and different images are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from auditing import noise
from histoflow.data.audit import near
from painted_patches import by_check, examined, patches

TRAIN, VAL, TEST = 0, 1, 2
Picture = NDArray[np.uint8]


def recompressed(image: Picture, quality: int = 50) -> Picture:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def brighter(image: Picture) -> Picture:
    return np.clip(image * 0.9 + (12, 5, 8), 0, 255).astype(np.uint8)


def noisier(image: Picture) -> Picture:
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def rescaled(image: Picture) -> Picture:
    side = len(image)
    small = Image.fromarray(image).resize((side * 7 // 8, side * 7 // 8), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


CHANGES = {
    "recompressed": recompressed,
    "brighter": brighter,
    "noisier": noisier,
    "rescaled": rescaled,
    "all at once": lambda image: recompressed(brighter(np.rot90(image)), 75),
}
TURNS = {
    "rotated": [np.rot90, lambda i: np.rot90(i, 2), lambda i: np.rot90(i, 3)],
    "flipped": [np.flipud, np.fliplr, lambda i: i.swapaxes(0, 1), lambda i: np.rot90(i, 2).swapaxes(0, 1)],
}
SHOWN = [0, 2, 3, 4, 5, 6, 7, 8]  # one patch of each class but background


@pytest.mark.parametrize("side", [28, 64, 128])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found(change: str, side: int):
    images = patches(side)[:27]
    found = examined(np.concatenate([images, [CHANGES[change](images[place]) for place in SHOWN]]))
    answer = by_check(list(near.check(found)))["near_duplicates"]
    assert answer.drop == tuple(range(27, 27 + len(SHOWN)))
    assert answer.finding.images == 2 * len(SHOWN)


@pytest.mark.parametrize(("name", "turn"), [(name, turn) for name, turns in TURNS.items() for turn in turns])
def test_turned_copies_are_found_and_called_by_their_turn(name: str, turn):
    images = patches(28)[:18]
    for changed in (turn(images[3]), recompressed(turn(images[3]), 90)):
        answer = by_check(list(near.check(examined(np.concatenate([images, [changed]])))))["near_duplicates"]
        assert answer.finding.examples == (f"3.png (train) = 18.png (train, {name})",)


@pytest.mark.parametrize("shape", [(5, 5), (16, 31), (64, 64)])
def test_a_turned_copy_of_an_image_that_shows_next_to_nothing_is_found(shape: tuple[int, int]):
    image = np.full((*shape, 3), 240, np.uint8)
    image[1, 2] = (200, 210, 220)
    answer = by_check(list(near.check(examined(np.stack([image, image[::-1]])))))["near_duplicates"]
    assert answer.finding.examples == ("0.png (train) = 1.png (train, flipped)",)
    assert "2 images that show next to nothing" in answer.finding.message


def test_near_copies_across_splits_are_leaks():
    images = patches(64)[[2, 3, 4, 5]]
    images = np.concatenate([images, [recompressed(np.rot90(images[0])), recompressed(images[1])]])
    found = by_check(list(near.check(examined(images, splits=[TRAIN, TRAIN, VAL, TEST, TEST, VAL]))))
    assert found["near_duplicates"].finding.severity == "ok"
    assert found["near_copies_in_test"].drop == (0,)
    assert found["near_copies_in_test"].finding.setting == "leaks_into_test"
    assert found["near_copies_in_test"].finding.examples == ("4.png (test) = 0.png (train, rotated)",)
    assert found["near_copies_in_val"].drop == (1,)


def leaking(*copies: Picture, others: int, labels: tuple[int, ...] = (7,)):
    """The audit's answers where a test split of so many images begins with these, and train has noise, too."""
    images = noise(100 + others, side=16)
    images[100 : 100 + len(copies)] = copies
    of_test = [*labels, *[7] * (others - len(labels))]
    splits = [TRAIN] * 100 + [TEST] * others
    return by_check(list(near.check(examined(images, [7] * 100 + of_test, splits))))


def test_near_copies_so_few_that_chance_explains_them_are_noted_and_refuse_nothing():
    found = leaking(brighter(noise(1, side=16)[0]), others=500, labels=(6,))
    for check, message in (
        ("near_copies_in_test", "1 image has perhaps near copies in train or val: 0.20% of test, so few"),
        ("near_label_conflicts", "2 images (0.33%) have a near copy under another label"),
    ):
        assert found[check].finding.message.startswith(message)
    leak = found["near_copies_in_test"]
    assert (leak.finding.severity, leak.finding.images, leak.drop) == ("note", 1, (0,))
    assert leak.finding.figures == {"share": 0.002, "elsewhere": 1}
    assert "100.png (test) = 0.png (train)" in leak.finding.message
    assert leak.finding.advice.startswith(
        "Look at them; if they are copies, set audit.leaks_into_test to drop"
    )


def test_so_few_call_no_label_wrong():
    conflict = leaking(brighter(noise(1, side=16)[0]), others=900, labels=(6,))[
        "near_label_conflicts"
    ].finding
    assert (conflict.severity, conflict.images, conflict.figures) == ("note", 2, {"share": 0.002})
    assert "2 images (0.20%) perhaps have a near copy under another label" in conflict.message


def test_more_than_chance_explains_or_a_copy_beyond_doubt_is_a_leak():
    first, second = noise(2, side=16)
    more = leaking(brighter(first), recompressed(second, 90), others=500)["near_copies_in_test"].finding
    assert (more.severity, more.images) == ("warning", 2)
    assert leaking(brighter(first), others=499)["near_copies_in_test"].finding.severity == "warning"
    turned = leaking(np.rot90(first), others=900, labels=(6,))
    assert turned["near_copies_in_test"].finding.severity == "warning"
    assert turned["near_label_conflicts"].finding.severity == "warning"


def test_near_copies_under_two_labels_are_conflicts():
    images = np.concatenate([patches(64)[2:5], [recompressed(patches(64)[3])]])
    conflict = by_check(list(near.check(examined(images, labels=[2, 3, 4, 5]))))["near_label_conflicts"]
    assert conflict.drop == (1, 3)
    assert conflict.finding.examples == ("1.png (lymphocytes) = 3.png (smooth_muscle)",)


def test_exact_copies_are_not_counted_again_as_near_ones():
    assert all(a.finding.severity == "ok" for a in near.check(examined(patches(28)[[3, 4, 3, 4]])))


def test_of_a_row_of_copies_the_first_is_kept():
    image = patches(64)[3]
    images = np.stack([recompressed(image, 60), image, noisier(image), recompressed(image, 80)])
    assert by_check(list(near.check(examined(images))))["near_duplicates"].drop == (1, 2, 3)


def test_of_a_great_many_copies_none_is_overlooked():
    chance = np.random.default_rng(0)
    copies = patches(28)[3] + chance.integers(0, 6, (260, 28, 28, 3), np.uint8)
    copies[130:] = np.rot90(copies[130:], axes=(1, 2)) - np.uint8(20)
    images = np.concatenate([patches(28)[4:7], copies])
    splits = [TRAIN] * 133 + [TEST] * 130
    labels = [7] * 262 + [6]
    found = by_check(list(near.check(examined(images, labels, splits))))
    assert found["near_copies_in_test"].drop == tuple(range(3, 133))
    assert found["near_duplicates"].drop == (*range(4, 133), *range(134, 263))
    assert found["near_label_conflicts"].finding.images == 260
    assert "rotated" in found["near_copies_in_test"].finding.examples[0]


@pytest.mark.parametrize("side", [16, 28, 64, 128])
def test_different_images_are_not_near_copies(side: int):
    answers = list(near.check(examined(patches(side), splits=np.arange(len(patches(side))) % 3)))
    assert [answer.finding.severity for answer in answers] == ["ok"] * 4


def test_many_empty_images_are_not_near_copies():
    chance = np.random.default_rng(0)
    images = np.rint(chance.normal(240, 2, (60, 64, 64, 3))).astype(np.uint8)
    images[30:] //= 60
    assert all(answer.finding.severity == "ok" for answer in near.check(examined(images)))


def test_images_with_one_edge_each_are_not_near_copies():
    images = np.full((20, 64, 64, 3), 240, np.uint8)
    for place, image in enumerate(images):
        image[:, : 12 + 2 * place] = (170, 90, 150)
    images += np.random.default_rng(0).integers(0, 6, images.shape, np.uint8)
    assert all(answer.finding.severity == "ok" for answer in near.check(examined(images)))


def test_the_order_of_the_images_does_not_matter():
    images = patches(64)[:40]
    images = np.concatenate([images, [recompressed(np.rot90(images[place], place)) for place in SHOWN]])
    order = np.random.default_rng(1).permutation(len(images))
    plain, mixed = near.near(examined(images)), near.near(examined(images[order]))
    assert _pairs(plain, np.arange(len(images))) == _pairs(mixed, order)


def _pairs(found, names) -> set[frozenset[int]]:
    image = np.empty(found.content.max() + 1, np.int64)
    image[found.content] = names
    return {
        frozenset(pair)
        for pair in zip(image[found.first].tolist(), image[found.second].tolist(), strict=True)
    }


def test_the_same_images_give_the_same_answers():
    images = np.concatenate([patches(64)[:40], [noisier(patches(64)[5])]])
    assert list(near.check(examined(images))) == list(near.check(examined(images)))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 64, 64, 3), (3, 20, 300, 1)])
def test_few_images_of_any_shape_are_well(shape: tuple[int, ...]):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert all(answer.finding.severity == "ok" for answer in near.check(examined(images)))
