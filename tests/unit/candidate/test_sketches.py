"""Bottom-k sketches: exact for small sets, mergeable, close for large ones."""

from hypothesis import given
from hypothesis import strategies as st

from services.candidate.sketches import (
    distinct_count,
    pack,
    resemblance,
    sketch_of,
    union,
    unpack,
)

SIZE = 16
SETS = st.sets(st.integers(0, 60).map(str))


@given(SETS, SETS)
def test_the_union_of_sketches_is_the_sketch_of_the_union(one: set[str], other: set[str]) -> None:
    assert union(sketch_of(one, SIZE), sketch_of(other, SIZE), SIZE) == sketch_of(one | other, SIZE)


@given(SETS)
def test_sketches_come_back_and_count_small_sets(members: set[str]) -> None:
    sketch = sketch_of(members, SIZE)
    assert unpack(pack(sketch)) == sketch
    if len(members) < SIZE:
        assert distinct_count(sketch, SIZE) == len(members)


@given(SETS, st.text())
def test_the_count_never_falls(members: set[str], newcomer: str) -> None:
    before = distinct_count(sketch_of(members, SIZE), SIZE)
    assert distinct_count(sketch_of(members | {newcomer}, SIZE), SIZE) >= before


@given(st.sets(st.integers(0, 9).map(str)), st.sets(st.integers(0, 9).map(str)))
def test_resemblance_is_exact_for_small_sets(one: set[str], other: set[str]) -> None:
    exact = len(one & other) / len(one | other) if one | other else 1.0
    assert resemblance(sketch_of(one, SIZE), sketch_of(other, SIZE), SIZE) == exact


def test_large_sets_are_estimated_within_four_standard_errors() -> None:
    numbers = sketch_of(map(str, range(100_000)), 256)
    assert abs(distinct_count(numbers, 256) / 100_000 - 1) < 4 / 254**0.5
    shifted = sketch_of(map(str, range(50_000, 150_000)), 256)
    assert abs(resemblance(numbers, shifted, 256) - 1 / 3) < 4 * 0.5 / 256**0.5
