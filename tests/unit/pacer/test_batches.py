"""Cutting work to the limits."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.pacer.batches import BatchSize, cut

SIZES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40)


@given(SIZES, st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_parts_keep_order_and_limits(
    sizes: list[tuple[int, int]], one: int, two: int, most: int
) -> None:
    parts = list(cut(sizes, sizes, [one, two], most))
    assert [item for part in parts for item in part] == sizes
    for part in parts:
        assert 1 <= len(part) <= most
        if len(part) > 1:
            assert sum(size[0] for size in part) <= one
            assert sum(size[1] for size in part) <= two


@given(SIZES, st.integers(9, 12), st.integers(1, 5))
def test_no_part_could_have_taken_the_next_item(
    sizes: list[tuple[int, int]], limit: int, most: int
) -> None:
    parts = list(cut(sizes, sizes, [limit, limit], most))
    for part, after in itertools.pairwise(parts):
        fits = all(sum(s[m] for s in part) + after[0][m] <= limit for m in (0, 1))
        assert len(part) == most or not fits


def test_batch_size_halves_to_one_and_grows_back() -> None:
    size = BatchSize(10)
    assert [(size.shrink(), size.now) for _ in range(4)] == [
        (True, 5), (True, 2), (True, 1), (False, 1),
    ]  # fmt: skip
    for _ in range(20):
        size.grow()
    assert size.now == 10
