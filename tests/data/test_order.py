"""Orders are pure functions: every image where it should be, found at any position without a list."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histoflow.data.order import Blocked, InChunks, Order, Permutation, balanced, uniform, weighted

MANY = 20_000


@given(size=st.integers(1, 3000), key=st.integers(0, 2**63 - 1))
def test_a_permutation_has_every_number_once(size: int, key: int) -> None:
    assert np.array_equal(np.sort(Permutation(size, key)(np.arange(size))), np.arange(size))


def test_all_orders_of_four_are_equally_likely() -> None:
    found = Counter(tuple(Permutation(4, key)(np.arange(4)).tolist()) for key in range(4800))
    assert len(found) == 24
    # 200 of each are expected; five standard deviations are 71.
    assert all(129 < count < 271 for count in found.values())


def test_a_permutation_looks_shuffled() -> None:
    shuffled = Permutation(MANY, 1)(np.arange(MANY))
    pairs = [(shuffled, np.arange(MANY)), *((shuffled[:-lag], shuffled[lag:]) for lag in (1, 2, 3, 64, 128))]
    for one, other in pairs:
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / MANY**0.5
    halves = np.bincount(shuffled.reshape(-1, 100).argmax(axis=1), minlength=100)
    assert halves.max() < 20  # the largest of each hundred stands anywhere; 2 are expected at each place
    assert np.count_nonzero(shuffled == Permutation(MANY, 2)(np.arange(MANY))) < 10


def test_a_hundred_million_images_are_ordered_at_any_position_in_no_memory() -> None:
    tracemalloc.start()
    places = Permutation(10**8, 7)(np.arange(99_999_000, 10**8))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert len(np.unique(places)) == 1000
    assert 0 <= places.min() < 10**6 < 99 * 10**6 < places.max() < 10**8


ORDERS = [
    Permutation(MANY, 3),
    Blocked(MANY, 3, block=7, window=11),
    balanced(np.arange(MANY) % 7)(3),
    weighted(1.0 + np.arange(MANY) % 5)(3),
]


@pytest.mark.parametrize("order", ORDERS, ids=["shuffled", "blocked", "balanced", "weighted"])
def test_any_position_is_found_alone_as_in_a_row(order: Order) -> None:
    whole = order(np.arange(MANY))
    assert np.array_equal(order(np.arange(12_345, 12_400)), whole[12_345:12_400])
    assert np.array_equal(order(np.array([19_999, 4, 4])), whole[[19_999, 4, 4]])


def test_chunks_begin_anywhere_and_never_end_within_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("histoflow.data.order._CHUNK", 50)
    order = Permutation(1000, 1)
    whole = order(np.arange(1000))
    chunks = InChunks(order, 1000)
    for start, end in [(300, 320), (320, 340), (340, 400), (400, 480), (980, 1000), (0, 20)]:
        assert np.array_equal(chunks.between(start, end), whole[start:end])


@settings(max_examples=40)
@given(
    size=st.integers(1, 1500),
    key=st.integers(0, 2**63 - 1),
    block=st.integers(1, 90),
    window=st.integers(1, 9),
)
def test_a_blocked_order_has_every_image_once_and_knows_where_its_blocks_lie(
    size: int, key: int, block: int, window: int
) -> None:
    order = Blocked(size, key, block=block, window=window)
    assert np.array_equal(np.sort(order(np.arange(size))), np.arange(size))
    stretches = [part for number in range(size // block + 1) for part in order.stretches(number)]
    assert sorted(place for start, stop in stretches for place in range(start, stop)) == list(range(size))


def test_a_blocked_order_stays_within_the_blocks_of_its_window() -> None:
    order = Blocked(10_000, 5, block=20, window=25)
    window = order.window * order.block
    for number in range(10_000 // window):
        blocks = range(number * order.window, (number + 1) * order.window)
        known = {place for b in blocks for start, stop in order.stretches(b) for place in range(start, stop)}
        assert known == set(order(np.arange(number * window, (number + 1) * window)).tolist())


def test_a_blocked_order_differs_from_key_to_key_and_mixes_far_images() -> None:
    one, other = (Blocked(10_000, key, block=20, window=25)(np.arange(10_000)) for key in (1, 2))
    assert np.count_nonzero(one == other) < 10
    assert np.ptp(one[:64]) > 5000


def test_the_balanced_order_draws_classes_equally_often() -> None:
    labels = np.repeat([0, 1, 3], [9000, 900, 100])
    drawn = balanced(labels)(1)(np.arange(len(labels)))
    assert np.bincount(labels[drawn]).tolist() == [3334, 3333, 0, 3333]
    assert len(np.unique(drawn[labels[drawn] == 3])) == 100
    assert np.bincount(labels[drawn[:300]])[[0, 1, 3]].min() > 60


def test_the_weighted_order_draws_images_as_often_as_they_weigh() -> None:
    drawn = weighted(np.array([1e-9, 1.0, 2.0, 5.0]))(1)(np.arange(MANY))
    assert np.allclose(np.bincount(drawn, minlength=4) / MANY, [0, 1 / 8, 2 / 8, 5 / 8], atol=0.02)


def test_uniform_numbers_fill_the_range_and_do_not_hang_together() -> None:
    numbers = uniform(np.arange(MANY), 5)
    assert 0 <= numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1
    assert np.allclose(np.histogram(numbers, 10)[0], MANY / 10, rtol=0.1)
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 5 / MANY**0.5
    assert abs(np.corrcoef(numbers, uniform(np.arange(MANY), 6))[0, 1]) < 5 / MANY**0.5
