"""From images to groups: each way by hand, the groups' labels, and what is refused."""

import numpy as np
import pytest

from histoflow import DataError
from histoflow.evaluation.aggregation import aggregated, grouped

GROUPS = np.array(["b", "a", "b", "c", "b", "a"])
SECOND = np.array([0.9, 0.2, 0.6, 0.5, 0.3, 0.4])
BINARY = np.column_stack((1 - SECOND, SECOND))
LABELS = np.array([1, 0, 0, 1, 1, 1])
THREE = np.array([[6, 3, 1], [2, 2, 6], [2, 7, 1], [1, 1, 8], [5, 4, 1], [4, 5, 1]]) / 10


def rows(way, probabilities, told, labels=LABELS, top_k=2):
    images = grouped(labels, GROUPS, probabilities.shape[1])
    return aggregated(images, probabilities, told, way, top_k)


def test_groups_are_of_the_class_of_most_of_their_images_in_a_tie_the_first():
    images = grouped(LABELS, GROUPS, 2)
    assert images.names.tolist() == ["a", "b", "c"]
    assert images.labels.tolist() == [0, 1, 1]
    assert (images.mixed, images.sizes.tolist()) == (2, [2, 3, 1])


def test_of_several_labels_a_group_shows_what_any_of_its_images_does():
    labels = np.array([[1, 0], [0, 0], [0, 0], [0, 1], [0, 0], [0, 0]])
    assert grouped(labels, GROUPS, 2).labels.tolist() == [[0, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("mean", [0.3, 0.6, 0.5]),
        ("max", [0.4, 0.9, 0.5]),
        ("top_k", [0.3, 0.75, 0.5]),
        ("vote", [0, 2 / 3, 1]),
    ],
)
def test_two_classes(way, expected):
    found = rows(way, BINARY, told=(SECOND >= 0.5).astype(int))
    assert found.probabilities[:, 1] == pytest.approx(expected)
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(3))
    assert found.sources.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("mean", np.array([13, 14, 3]) / 30),
        ("max", np.array([6, 7, 1]) / 14),
        ("top_k", np.array([5.5, 5.5, 1]) / 12),
        ("vote", np.array([2, 1, 0]) / 3),
    ],
)
def test_more_classes_sum_to_1(way, expected):
    found = rows(way, THREE, told=THREE.argmax(axis=1))
    assert found.probabilities[1] == pytest.approx(expected)


def test_several_labels_stand_by_themselves():
    labels = np.array([[1, 0, 0]] * 6)
    highest = rows("max", THREE, told=(THREE > 0.5).astype(int), labels=labels)
    assert highest.probabilities[1] == pytest.approx([0.6, 0.7, 0.1])
    votes = rows("vote", THREE, told=(THREE > 0.5).astype(int), labels=labels)
    assert votes.probabilities[1] == pytest.approx([1 / 3, 1 / 3, 0])


def test_the_order_of_the_images_does_not_matter():
    order = np.array([3, 5, 0, 2, 4, 1])
    images = grouped(LABELS[order], GROUPS[order], 3)
    for way in ("mean", "max", "top_k", "vote"):
        turned = aggregated(images, THREE[order], THREE[order].argmax(axis=1), way, 2)
        assert turned.probabilities == pytest.approx(rows(way, THREE, THREE.argmax(axis=1)).probabilities)


def test_a_group_for_each_image_is_demanded():
    with pytest.raises(DataError, match="one group for each of 6 images. Got 5"):
        grouped(LABELS, GROUPS[:5], 2)
